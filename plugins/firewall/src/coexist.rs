//! Living beside others. A packet that our backend lets pass can still be dropped by a chain of
//! somebody else: Docker and ufw set the policy of iptables' FORWARD chain to DROP, of whichever
//! variant of iptables they use. There the iptables backend of that variant makes an open policy for
//! our bridge beside the one that holds: it accepts in the right places, and everything goes with
//! the network.

use std::fs;

use pontoon_conf::Error;
use pontoon_netfilter::iptables::{Iptables, Variant};
use pontoon_netfilter::nft::{Nft, Obstacle, Others};
use pontoon_netfilter::{Backend, BackendKind, Policy, Ruleset};
use pontoon_plugin::{Context, rules};

/// What iptables-legacy has tables in, one to a line.
const LEGACY: [&str; 2] = [
    "/proc/self/net/ip_tables_names",
    "/proc/self/net/ip6_tables_names",
];

/// The iptables variant in which rules of ours have to stand as well. `thorough` also asks
/// iptables-legacy, which takes a program.
pub(crate) fn companion(
    context: &Context,
    backend: &Backend,
    others: Others,
    thorough: bool,
) -> Option<BackendKind> {
    let installed = |variant| {
        Iptables::detect(&context.search, Some(variant))
            .ok()
            .flatten()
    };
    // Where ours stands already, nothing has to stand beside it.
    let own = match backend {
        Backend::Nftables(_) => None,
        Backend::Iptables(iptables) => Some(iptables.variant()),
    };
    if own != Some(Variant::Nft) && others.forward_drops && installed(Variant::Nft).is_some() {
        return Some(BackendKind::IptablesNft);
    }
    let used = |file: &&str| {
        fs::read_to_string(file).is_ok_and(|tables| tables.lines().any(|table| table == "filter"))
    };
    if own != Some(Variant::Legacy) && thorough && LEGACY.iter().any(used) {
        let legacy = Iptables::new(
            installed(Variant::Legacy)?,
            context.state.dir().join("lock/.x"),
        );
        if legacy.forward_drops().unwrap_or(false) {
            return Some(BackendKind::IptablesLegacy);
        }
    }
    None
}

/// Whose rules our packets have to pass as well.
pub(crate) fn others(backend: &mut Backend) -> Others {
    let nobody = Others {
        forward_drops: false,
        firewalld: false,
    };
    if let Backend::Nftables(nft) = backend {
        return nft.others().unwrap_or(nobody);
    }
    let Ok(mut nft) = Nft::open() else {
        return nobody;
    };
    let others = nft.others().unwrap_or(nobody);
    rules::linger(nft.into_sockets());
    others
}

/// The policy that lets everything pass, where another backend decides.
pub(crate) fn open(policy: &Policy) -> Policy {
    Policy {
        admin_chain: policy.admin_chain.clone(),
        ..Policy::open(&policy.network, &policy.bridge)
    }
}

/// Makes it.
pub(crate) fn stand_beside(
    context: &Context,
    kind: BackendKind,
    policy: &Policy,
) -> Result<(), Error> {
    let mut backend = rules::open(context, kind)?;
    backend
        .apply(&Ruleset {
            policy: Some(open(policy)),
            ..Ruleset::default()
        })
        .map(drop)
        .map_err(|error| rules::error(&error))
}

/// Chains of others in which nothing can be done.
pub(crate) fn obstacles(bridge: &str) -> Vec<Obstacle> {
    let Ok(mut nft) = Nft::open() else {
        return Vec::new();
    };
    let mut found = nft.obstacles(bridge).unwrap_or_default();
    rules::linger(nft.into_sockets());
    found.retain(|obstacle| !obstacle.is_iptables());
    found
}

/// What the admin can do about one of them.
pub(crate) fn advice(obstacle: &Obstacle, bridge: &str) -> String {
    if obstacle.table == "firewalld" {
        return format!("firewall-cmd --zone=trusted --add-interface={bridge}");
    }
    format!("accept iifname and oifname {bridge} in {obstacle}, or in a chain that leads there")
}
