//! Living beside others: where a chain of iptables drops, of whichever variant, the iptables backend of
//! that variant lets the network pass there too; everything goes with the network. Where a chain of
//! another program's nftables table drops, that is said.

use std::net::IpAddr;

use pontoon_attach::foreign_filters::{self, CheckOutcome};
use pontoon_attach::rules;
use pontoon_conf::Error;
use pontoon_netfilter::nft::{DroppingChain, FilterHook, ForeignFilters, Nft};
use pontoon_netfilter::{Backend, BackendKind, Member, Policy, Ruleset};
use pontoon_netlink::RouteSocket;
use pontoon_passage::DroppingRule;
use pontoon_plugin::Context;

/// Whose rules our packets have to pass as well.
pub(crate) fn others(backend: &mut Backend) -> ForeignFilters {
    match backend {
        Backend::Nftables(nft) => nft.others().unwrap_or_default(),
        Backend::Iptables(_) => foreign_filters::others(),
    }
}

/// The iptables variant in which Pontoon's rules have to stand as well. `first` also asks what takes
/// programs.
pub(crate) fn companion(
    context: &Context,
    backend: &Backend,
    others: ForeignFilters,
    first: Option<&mut dyn FnMut() -> Vec<foreign_filters::PacketCheck>>,
) -> Option<BackendKind> {
    // Where ours stands already, nothing has to stand beside it.
    let own = match backend {
        Backend::Nftables(_) => None,
        Backend::Iptables(iptables) => Some(iptables.variant()),
    };
    foreign_filters::dropping(&context.search, FilterHook::Forward, own, others, first)
}

/// Makes what lets a network with a policy, or an attachment without a bridge, pass where another
/// backend decides.
pub(crate) fn open_foreign_filters(
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
    rules::close_in_detached_child(backend.into_sockets());
    done.map(drop).map_err(rules::error)
}

/// Warns of chains of others that drop, and in which nothing can be done. They are found by netlink; only
/// when there is one, the rules are read and judged.
pub(crate) fn warn(
    context: &Context,
    host: &mut RouteSocket,
    interface: &str,
    addresses: &[IpAddr],
) {
    let obstacles = foreign_filters::obstacles(FilterHook::Forward, interface);
    if obstacles.is_empty() {
        return;
    }
    let may = |obstacle: &DroppingChain| {
        pontoon_plugin::warn(format_args!(
            "firewall: {obstacle} may drop what goes to and from {interface}: {}",
            advice(obstacle, interface)
        ));
    };
    let checks = foreign_filters::forwarded(host, interface, addresses);
    match foreign_filters::judge(&context.search, FilterHook::Forward, &checks) {
        CheckOutcome::Passes => {}
        CheckOutcome::Dropped(what, drop) => {
            let advice = advice_about(&drop, interface);
            pontoon_plugin::warn(format_args!("firewall: {drop} drops {what}: {advice}"));
        }
        CheckOutcome::Unknown(_) | CheckOutcome::Unreadable(_) => obstacles.iter().for_each(may),
    }
}

/// What the admin can do about a chain that drops.
pub(crate) fn advice(obstacle: &DroppingChain, interface: &str) -> String {
    if obstacle.table == "firewalld" {
        return format!("firewall-cmd --zone=trusted --add-interface={interface}");
    }
    format!("accept iifname and oifname {interface} in {obstacle}, or in a chain that leads there")
}

/// What the admin can do about what drops.
pub(crate) fn advice_about(drop: &DroppingRule, interface: &str) -> String {
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
pub(crate) fn first_dropping_chain(interface: &str) -> Option<(String, String)> {
    if let Some(obstacle) = foreign_filters::obstacles(FilterHook::Forward, interface).first() {
        return Some((obstacle.to_string(), advice(obstacle, interface)));
    }
    let mut nft = Nft::open().ok()?;
    let found = nft
        .obstacles(FilterHook::Forward, interface)
        .unwrap_or_default();
    rules::close_in_detached_child(nft.into_sockets());
    let obstacle = found.first()?;
    let advice = "pontoon repair makes a way through it for the network";
    Some((obstacle.to_string(), advice.to_owned()))
}
