//! Living beside others: where a chain of iptables drops, of whichever variant, the iptables backend of
//! that variant lets the network pass there too; everything goes with the network. Where a chain of
//! another program's nftables table drops, that is said.

use std::net::IpAddr;

use pontoon_attach::beside::{self, Judged};
use pontoon_attach::rules;
use pontoon_conf::Error;
use pontoon_netfilter::nft::{Gate, Nft, Obstacle, Others};
use pontoon_netfilter::{Backend, BackendKind, Member, Policy, Ruleset};
use pontoon_netlink::RouteSocket;
use pontoon_passage::Drop;
use pontoon_plugin::Context;

/// Whose rules our packets have to pass as well.
pub(crate) fn others(backend: &mut Backend) -> Others {
    match backend {
        Backend::Nftables(nft) => nft.others().unwrap_or_default(),
        Backend::Iptables(_) => beside::others(),
    }
}

/// The iptables variant in which Pontoon's rules have to stand as well. `first` also asks what takes
/// programs.
pub(crate) fn companion(
    context: &Context,
    backend: &Backend,
    others: Others,
    first: Option<&mut dyn FnMut() -> Vec<beside::Ask>>,
) -> Option<BackendKind> {
    // Where ours stands already, nothing has to stand beside it.
    let own = match backend {
        Backend::Nftables(_) => None,
        Backend::Iptables(iptables) => Some(iptables.variant()),
    };
    beside::dropping(&context.search, Gate::Forward, own, others, first)
}

/// Makes what lets a network with a policy, or an attachment without a bridge, pass where another
/// backend decides.
pub(crate) fn stand_beside(
    context: &Context,
    kind: BackendKind,
    policy: Option<&Policy>,
    member: Option<Member>,
) -> Result<(), Error> {
    let mut backend = rules::open(context, kind)?;
    let done = backend.apply(&Ruleset {
        policy: policy.map(Policy::beside),
        member,
        ..Ruleset::default()
    });
    rules::linger(backend.into_sockets());
    done.map(drop).map_err(|error| rules::error(&error))
}

/// Warns of chains of others that drop, and in which nothing can be done. They are found by netlink; only
/// when there is one, the rules are read and judged.
pub(crate) fn warn(
    context: &Context,
    host: &mut RouteSocket,
    interface: &str,
    addresses: &[IpAddr],
) {
    let obstacles = beside::obstacles(Gate::Forward, interface);
    if obstacles.is_empty() {
        return;
    }
    let may = |obstacle: &Obstacle| {
        pontoon_plugin::warn(format_args!(
            "firewall: {obstacle} may drop what goes to and from {interface}: {}",
            advice(obstacle, interface)
        ));
    };
    let asks = beside::forwarded(host, interface, addresses);
    match beside::judge(&context.search, Gate::Forward, &asks) {
        Judged::Passes => {}
        Judged::Dropped(what, drop) => {
            let advice = advice_about(&drop, interface);
            pontoon_plugin::warn(format_args!("firewall: {drop} drops {what}: {advice}"));
        }
        Judged::Unknown(_) | Judged::Unreadable(_) => obstacles.iter().for_each(may),
    }
}

/// What the admin can do about a chain that drops.
pub(crate) fn advice(obstacle: &Obstacle, interface: &str) -> String {
    if obstacle.table == "firewalld" {
        return format!("firewall-cmd --zone=trusted --add-interface={interface}");
    }
    format!("accept iifname and oifname {interface} in {obstacle}, or in a chain that leads there")
}

/// What the admin can do about what drops.
pub(crate) fn advice_about(drop: &Drop, interface: &str) -> String {
    if drop.table == "inet firewalld" {
        return format!("firewall-cmd --zone=trusted --add-interface={interface}");
    }
    if drop.variant().is_some() {
        return "pontoon repair makes a way through it for the network".to_owned();
    }
    format!(
        "accept iifname and oifname {interface} in chain {} of table {}, or in a chain that leads there",
        drop.base, drop.table
    )
}

/// What netlink alone tells, for where the rules cannot be read.
pub(crate) fn glance(interface: &str) -> Option<(String, String)> {
    if let Some(obstacle) = beside::obstacles(Gate::Forward, interface).first() {
        return Some((obstacle.to_string(), advice(obstacle, interface)));
    }
    let mut nft = Nft::open().ok()?;
    let found = nft.obstacles(Gate::Forward, interface).unwrap_or_default();
    rules::linger(nft.into_sockets());
    let obstacle = found.first()?;
    let advice = "pontoon repair makes a way through it for the network";
    Some((obstacle.to_string(), advice.to_owned()))
}
