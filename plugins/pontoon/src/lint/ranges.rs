//! The ranges of host-local: every fault of each, at its key; and that no two overlap.

use std::net::IpAddr;

use pontoon_conf::Cidr;
use pontoon_conf::keys::AddressRange;
use pontoon_ipam::Range;

use super::Finding;
use super::source::{Kind, Member, Node};

/// A subnet of the configuration, with where it is written.
#[derive(Debug)]
pub(super) struct Written<'n> {
    pub(super) subnet: Cidr,
    pub(super) node: &'n Node,
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
}

/// The objects of all ranges: of `ranges`, and the one in the old flat form.
fn objects(ipam: &Node) -> impl Iterator<Item = &Node> {
    let sets = ipam.get("ranges").map(|ranges| ranges.value.items());
    let nested = sets.unwrap_or_default().iter().flat_map(Node::items);
    nested.chain(ipam.get("subnet").map(|_| ipam))
}

/// The subnets from which host-local gives out addresses, as far as they can be read.
pub(super) fn subnets(ipam: &Node) -> Vec<Written<'_>> {
    let written = |range| {
        let node = &get(range, "subnet")?.value;
        let subnet = node.text()?.parse::<Cidr>().ok()?.network();
        let at = |key| address(&get(range, key)?.value).filter(|at| subnet.contains(*at));
        Some(Written {
            subnet,
            node,
            first: at("rangeStart").unwrap_or(subnet.addr()),
            last: at("rangeEnd").unwrap_or_else(|| last(&subnet)),
        })
    };
    objects(ipam).filter_map(written).collect()
}

/// Whether two ranges have an address in common.
pub(super) fn meet(one: &Written<'_>, other: &Written<'_>) -> bool {
    one.subnet.is_ipv4() == other.subnet.is_ipv4()
        && one.first <= other.last
        && other.first <= one.last
}

/// Judges all ranges. `routed` when the gateway must be a neighbour of the container.
pub(super) fn judge(ipam: &Node, routed: bool, findings: &mut Vec<Finding>) {
    for range in objects(ipam) {
        one(range, routed, findings);
    }
    let all = subnets(ipam);
    for (at, later) in all.iter().enumerate() {
        if let Some(earlier) = all[..at].iter().find(|earlier| meet(earlier, later)) {
            findings.push(Finding::error(
                later.node.place,
                format!(
                    "key \"subnet\": {} overlaps with {}, from which addresses are given out already",
                    later.subnet, earlier.subnet
                ),
            ));
        }
    }
}

fn get<'n>(range: &'n Node, key: &str) -> Option<&'n Member> {
    let member = range.get(key)?;
    let is_empty = member.value.text().is_some_and(str::is_empty);
    (!is_empty).then_some(member)
}

fn address(node: &Node) -> Option<IpAddr> {
    node.text()?.trim().parse().ok()
}

fn last(subnet: &Cidr) -> IpAddr {
    match subnet.addr() {
        IpAddr::V4(ip) => {
            let hosts = u32::MAX.checked_shr(subnet.prefix().into()).unwrap_or(0);
            IpAddr::V4((u32::from(ip) | hosts).into())
        }
        IpAddr::V6(ip) => {
            let hosts = u128::MAX.checked_shr(subnet.prefix().into()).unwrap_or(0);
            IpAddr::V6((u128::from(ip) | hosts).into())
        }
    }
}

fn one(range: &Node, routed: bool, findings: &mut Vec<Finding>) {
    let before = findings.len();
    let Some(subnet) = get(range, "subnet") else {
        if matches!(range.kind, Kind::Object(_)) {
            findings.push(Finding::error(
                range.place,
                "key \"subnet\" is missing: a range is a part of a subnet",
            ));
        }
        return;
    };
    let text = subnet.value.text().unwrap_or_default();
    if text == "auto" {
        return;
    }
    let Ok(network) = text.trim().parse::<Cidr>() else {
        findings.push(Finding::error(
            subnet.value.place,
            format!("key \"subnet\": \"{text}\" is no subnet, as \"10.1.0.0/16\" is"),
        ));
        return;
    };
    let whole = network.network();
    if whole != network {
        findings.push(Finding::error(
            subnet.value.place,
            format!(
                "key \"subnet\": {network} has bits behind its prefix length: the subnet is {whole}"
            ),
        ));
    }
    let mut ends = Vec::new();
    for key in ["rangeStart", "rangeEnd", "gateway"] {
        let Some(member) = get(range, key) else {
            continue;
        };
        let place = member.value.place;
        let Some(at) = address(&member.value) else {
            let text = member.value.text().unwrap_or_default();
            let text = format!("key \"{key}\": \"{text}\" is no IP address");
            findings.push(Finding::error(place, text));
            continue;
        };
        let is_local = matches!(at, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let matters = key != "gateway" || (routed && !is_local);
        if matters && !whole.contains(at) {
            let what = match key {
                "gateway" => ": containers cannot reach it, and have no way out",
                _ => "",
            };
            findings.push(Finding::error(
                place,
                format!("key \"{key}\": {at} is not in the subnet {whole}{what}"),
            ));
        } else if key != "gateway" {
            ends.push((at, place));
        }
    }
    if let [(first, _), (last, place)] = ends[..]
        && first > last
    {
        findings.push(Finding::error(
            place,
            format!("key \"rangeEnd\": {last} comes before rangeStart, {first}"),
        ));
    }
    if findings.len() > before {
        return;
    }
    // What else the plugin refuses.
    let text = |key: &str| Some(get(range, key)?.value.text()?.to_owned());
    let written = AddressRange {
        subnet: text("subnet"),
        range_start: text("rangeStart"),
        range_end: text("rangeEnd"),
        gateway: text("gateway"),
    };
    if let Err(error) = Range::parse(&written) {
        let text = format!("key \"subnet\": {error}");
        findings.push(Finding::error(subnet.value.place, text));
    }
}
