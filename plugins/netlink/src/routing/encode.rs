//! Routes as messages: what several routes to one destination become.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};

use super::{MAIN, RouteSpec, family};

/// Routes that become one message: they differ in their way alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) first: RouteSpec,
    others: Vec<RouteSpec>,
}

impl Group {
    pub(crate) fn one(spec: RouteSpec) -> Group {
        Group {
            first: spec,
            others: Vec::new(),
        }
    }

    pub(crate) fn message(&self) -> RouteMessage {
        message(self)
    }
}

/// Collects routes that are ways of one IPv4 route: the kernel takes several ways for an IPv4 destination in one message
/// only, while IPv6 lets later ones join. Repetitions fall away.
pub(crate) fn group(routes: &[RouteSpec]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = HashSet::new();
    // The group of each IPv4 destination with its settings that further ways may join.
    let mut joinable: HashMap<RouteSpec, usize> = HashMap::new();
    for route in routes {
        if !seen.insert(*route) {
            continue;
        }
        if !route.dst.is_ipv4() || route.gateway.is_none() {
            groups.push(Group::one(*route));
            continue;
        }
        let settings = RouteSpec {
            gateway: None,
            interface: None,
            ..*route
        };
        match joinable.get(&settings) {
            Some(known) => groups[*known].others.push(*route),
            None => {
                joinable.insert(settings, groups.len());
                groups.push(Group::one(*route));
            }
        }
    }
    groups
}

pub(super) fn message(group: &Group) -> RouteMessage {
    let spec = &group.first;
    let mut message = start(spec);
    message.header.protocol = spec
        .protocol
        .map_or(RouteProtocol::Boot, RouteProtocol::from);
    message.header.kind = match spec.unreachable {
        true => RouteType::Unreachable,
        false => RouteType::Unicast,
    };
    if spec.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    message.header.scope = match spec.scope {
        Some(scope) => RouteScope::from(scope),
        None if spec.gateway.is_none() && spec.dst.is_ipv4() && !spec.unreachable => {
            RouteScope::Link
        }
        None => RouteScope::Universe,
    };
    if group.others.is_empty() {
        message.attributes.extend(way(spec));
    } else {
        let hops = std::iter::once(spec)
            .chain(&group.others)
            .map(next_hop)
            .collect();
        message.attributes.push(RouteAttribute::MultiPath(hops));
    }
    message.attributes.extend(
        spec.prefsrc
            .map(|own| RouteAttribute::PrefSource(own.into())),
    );
    let metrics: Vec<_> = spec
        .mtu
        .map(RouteMetric::Mtu)
        .into_iter()
        .chain(spec.advmss.map(RouteMetric::Advmss))
        .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

pub(crate) fn removal(spec: &RouteSpec) -> RouteMessage {
    let mut message = start(spec);
    // RT_SCOPE_NOWHERE is the wildcard here.
    message.header.scope = spec.scope.map_or(RouteScope::NoWhere, RouteScope::from);
    if let Some(protocol) = spec.protocol {
        message.header.protocol = RouteProtocol::from(protocol);
    }
    message.attributes.extend(way(spec));
    message
}

fn start(spec: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(spec.dst.is_ipv4());
    message.header.destination_prefix_length = spec.dst.prefix();
    let table = spec.table.unwrap_or(MAIN);
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes.push(RouteAttribute::Table(table));
    if spec.dst.prefix() > 0 {
        // The kernel refuses a destination with host bits.
        message
            .attributes
            .push(RouteAttribute::Destination(spec.dst.network().into()));
    }
    message
        .attributes
        .extend(spec.priority.map(RouteAttribute::Priority));
    message
}

fn way(spec: &RouteSpec) -> impl Iterator<Item = RouteAttribute> {
    gateway(spec)
        .into_iter()
        .chain(spec.interface.map(RouteAttribute::Oif))
}

fn gateway(spec: &RouteSpec) -> Option<RouteAttribute> {
    spec.gateway.map(|gateway| match gateway {
        IpAddr::V6(gateway) if spec.dst.is_ipv4() => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        _ => RouteAttribute::Gateway(gateway.into()),
    })
}

fn next_hop(spec: &RouteSpec) -> RouteNextHop {
    let mut hop = RouteNextHop::default();
    hop.interface_index = spec.interface.unwrap_or(0);
    hop.attributes.extend(gateway(spec));
    hop
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gateway: Option<&str>) -> RouteSpec {
        let gateway = gateway.map(|text| text.parse().expect("an address"));
        RouteSpec {
            gateway,
            ..RouteSpec::to(dst.parse().expect("a prefix"))
        }
    }

    #[track_caller]
    fn check(routes: &[RouteSpec], expected: &[usize]) {
        let ways: Vec<_> = group(routes)
            .iter()
            .map(|group| 1 + group.others.len())
            .collect();
        assert_eq!(ways, expected);
    }

    #[test]
    fn only_ipv4_ways_to_one_destination_are_grouped() {
        let v4 = [
            route("0.0.0.0/0", Some("10.0.0.1")),
            route("0.0.0.0/0", Some("10.0.0.2")),
        ];
        check(&v4, &[2]);
        check(&[v4[0], v4[0]], &[1]);
        check(
            &[
                v4[0],
                RouteSpec {
                    priority: Some(5),
                    ..v4[1]
                },
            ],
            &[1, 1],
        );
        check(&[v4[0], route("10.9.0.0/16", Some("10.0.0.1"))], &[1, 1]);
        check(&[v4[0], route("0.0.0.0/0", None)], &[1, 1]);
        let v6 = [
            route("::/0", Some("fd00::1")),
            route("::/0", Some("fd00::2")),
            route("::/0", Some("fd00::2")),
        ];
        check(&v6, &[1, 1]);
    }
}
