//! Filters of other programs. A packet that our rules let pass can still be dropped by a chain of
//! another program: Docker and ufw set the policy of iptables' FORWARD chain to DROP, ufw that of INPUT
//! too, of whichever variant of iptables they use. There Pontoon's rules can stand, in that variant. In the
//! nftables table of another program nothing can be done: that is said.
//!
//! What drops is found by netlink: an ADD asks for five chains by name. Only where they do not decide,
//! the rules are read and judged ([`pontoon_passage`]), at the first container of a network, in STATUS,
//! and in `pontoon repair`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use pontoon_netfilter::BackendKind;
use pontoon_netfilter::iptables::{Iptables, Variant, legacy_tables};
use pontoon_netfilter::nft::{DroppingChain, FilterHook, ForeignFilters, Nft};
use pontoon_netlink::{Link, RouteSocket};
pub use pontoon_passage::{CheckOutcome, PacketCheck};
use pontoon_passage::{Hook, Packet, Rules};

use crate::rules;

mod late;

pub(crate) use late::meet;
pub use late::{note_opening, opening};

/// A port that the kernel gives out itself.
const FROM: u16 = 45_678;
/// Hosts that the rules of every program take for the outside; nothing is sent there.
const OUTSIDE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(1, 1, 1, 1),
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111),
);
/// More ways out of a host are not tried.
const WAYS_OUT: usize = 8;

/// Reads the rules of the host and asks them.
#[must_use]
pub fn judge(search: &[PathBuf], gate: FilterHook, checks: &[PacketCheck]) -> CheckOutcome {
    pontoon_passage::judge(search, hook(gate), checks)
}

fn hook(gate: FilterHook) -> Hook {
    match gate {
        FilterHook::Input => Hook::Input,
        FilterHook::Forward => Hook::Forward,
    }
}

/// What has to pass the FORWARD hook for a container: its own flows to the outside, and the replies.
#[must_use]
pub fn forwarded(
    host: &mut RouteSocket,
    interface: &str,
    addresses: &[IpAddr],
) -> Vec<PacketCheck> {
    let mut checks = Vec::new();
    for v4 in [true, false] {
        let Some(address) = addresses.iter().find(|address| address.is_ipv4() == v4) else {
            continue;
        };
        let outside = match v4 {
            true => IpAddr::V4(OUTSIDE.0),
            false => IpAddr::V6(OUTSIDE.1),
        };
        let ways = ways_out(host, v4, interface);
        let packets: Vec<Packet> = ways
            .iter()
            .flat_map(|way| {
                let kinds = [("tcp", 443), ("udp", 53), ("icmp", 0)];
                kinds.map(|(protocol, port)| {
                    let packet = Packet::new(protocol, (*address, FROM), (outside, port));
                    packet.forwarded(interface, way)
                })
            })
            .collect();
        let family = if v4 { "IPv4" } else { "IPv6" };
        checks.push(PacketCheck {
            what: format!("what comes from {interface} ({family})"),
            packets: packets.clone(),
            lenient: false,
        });
        checks.push(PacketCheck {
            what: format!("the replies to {interface} ({family})"),
            packets: packets.iter().map(Packet::reply).collect(),
            lenient: true,
        });
    }
    checks
}

/// What has to pass the INPUT hook for names: questions to the resolver by UDP and by TCP, as they are
/// after their redirection from port 53.
#[must_use]
pub fn questions(
    host: &mut RouteSocket,
    addresses: &[IpAddr],
    gateways: &[IpAddr],
    port: u16,
) -> Vec<PacketCheck> {
    let mut checks = Vec::new();
    for gateway in gateways {
        let own = addresses.iter();
        let mut own = own.filter(|address| address.is_ipv4() == gateway.is_ipv4());
        let Some(address) = own.next() else {
            continue;
        };
        let Some(interface) = interface_to(host, *address) else {
            continue;
        };
        for protocol in ["udp", "tcp"] {
            let packet = Packet::new(protocol, (*address, FROM), (*gateway, port));
            checks.push(PacketCheck {
                what: format!(
                    "questions to the resolver at {gateway} port {port}/{protocol}, which arrive by {}",
                    interface.name
                ),
                packets: vec![packet.redirected().received(&interface.name)],
                lenient: false,
            });
        }
    }
    checks
}

/// The interface of the host that leads to an address.
pub fn interface_to(host: &mut RouteSocket, address: IpAddr) -> Option<Link> {
    let route = host.route_to(address).ok()??;
    host.link_by_index(route.interface?).ok()?
}

/// The interfaces by which packets leave the host: that of the default route, else all that have an
/// address and are not our own side.
fn ways_out(host: &mut RouteSocket, v4: bool, but: &str) -> Vec<String> {
    let outside = match v4 {
        true => IpAddr::V4(OUTSIDE.0),
        false => IpAddr::V6(OUTSIDE.1),
    };
    if let Some(link) = interface_to(host, outside) {
        return vec![link.name];
    }
    let links = host.links().unwrap_or_default();
    let with_addresses = host.all_addresses(v4).unwrap_or_default();
    let fit = |link: &&Link| {
        let ours = link.name == "lo" || link.name == but || link.master.is_some();
        let tagged = link.alias.as_deref();
        link.up
            && !ours
            && !tagged.is_some_and(|alias| alias.starts_with("pontoon "))
            && with_addresses
                .iter()
                .any(|address| address.index == link.index)
    };
    let names = links.iter().filter(fit).map(|link| link.name.clone());
    names.take(WAYS_OUT).collect()
}

/// What all backends of this host are asked for by netlink.
#[must_use]
pub fn others() -> ForeignFilters {
    let Ok(mut nft) = Nft::open() else {
        return ForeignFilters::default();
    };
    let others = nft.others().unwrap_or_default();
    rules::close_in_detached_child(nft.into_sockets());
    others
}

/// The variant of iptables whose FORWARD or INPUT chain drops, so that Pontoon's rules have to stand there. `own`
/// is the variant where they stand already. With `checks`, which makes what has to pass, also what takes
/// programs: the policy of iptables-legacy, and a drop by a rule.
#[must_use]
pub fn dropping(
    search: &[PathBuf],
    gate: FilterHook,
    own: Option<Variant>,
    others: ForeignFilters,
    checks: Option<&mut dyn FnMut() -> Vec<PacketCheck>>,
) -> Option<BackendKind> {
    let installed = |variant| Iptables::detect(search, Some(variant)).ok().flatten();
    let (drops, rules) = match gate {
        FilterHook::Forward => (others.forward_drops, others.forward_rules),
        FilterHook::Input => (others.input_drops, others.input_rules),
    };
    let nft = own != Some(Variant::Nft);
    if nft && drops && installed(Variant::Nft).is_some() {
        return Some(BackendKind::IptablesNft);
    }
    let checks = checks?;
    let filters = |v4| legacy_tables(v4).is_some_and(|tables| tables.iter().any(|t| t == "filter"));
    let legacy = own != Some(Variant::Legacy) && (filters(true) || filters(false));
    let may_drop = legacy || (nft && rules);
    if !may_drop {
        return None;
    }
    let (rules, failure) = Rules::read_as_far(search);
    if legacy
        && rules.policy_drops(Variant::Legacy, hook(gate))
        && installed(Variant::Legacy).is_some()
    {
        return Some(BackendKind::IptablesLegacy);
    }
    if failure.is_some() {
        return None;
    }
    let CheckOutcome::Dropped(_, drop) = rules.judge_checks(hook(gate), &checks()) else {
        return None;
    };
    let variant = drop.variant().filter(|_| drop.base == gate.chain())?;
    let wanted = match variant {
        Variant::Legacy => legacy,
        Variant::Nft => nft,
    };
    (wanted && installed(variant).is_some()).then_some(kind(variant))
}

/// The backend that a variant of iptables is.
fn kind(variant: Variant) -> BackendKind {
    match variant {
        Variant::Nft => BackendKind::IptablesNft,
        Variant::Legacy => BackendKind::IptablesLegacy,
    }
}

/// Chains of others in which nothing can be done, and in whose tables nothing names the interface: found
/// by netlink alone.
#[must_use]
pub fn obstacles(gate: FilterHook, interface: &str) -> Vec<DroppingChain> {
    let Ok(mut nft) = Nft::open() else {
        return Vec::new();
    };
    let mut found = nft.obstacles(gate, interface).unwrap_or_default();
    rules::close_in_detached_child(nft.into_sockets());
    found.retain(|obstacle| !obstacle.is_iptables());
    found
}
