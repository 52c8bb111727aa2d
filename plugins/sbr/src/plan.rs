//! Keys, and which routes an address's table gets.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use pontoon_conf::{AddResult, ConfigError, IpConfig};
use pontoon_ledger::MovedRoute;
use pontoon_netlink::{IpNetwork, RouteEntry, RouteSpec};

use crate::config::{Config, holds, is_reserved};

/// First table that is given to an address without one of its own, as in the reference plugin.
const FIRST_TABLE: u32 = 100;

/// The addresses of the interface in the result of the plugins before.
pub(crate) fn addresses<'a>(
    previous: Option<&'a AddResult>,
    interface: &str,
) -> Result<Vec<&'a IpConfig>, ConfigError> {
    let previous = previous.ok_or_else(|| {
        ConfigError::refused("must be called as chained plugin: no prevResult")
            .with_next_step("list sbr after the plugin that makes the interface")
    })?;
    let found: Vec<&IpConfig> = previous.ips_of(interface).collect();
    if found.is_empty() {
        return Err(
            ConfigError::refused(format!("no address of {interface} in prevResult"))
                .with_next_step(
                    "the plugin before sbr must give the container's interface an address",
                ),
        );
    }
    Ok(found)
}

/// The first table from 100 on that is unused.
pub(crate) fn free_table(used: &BTreeSet<u32>) -> u32 {
    (FIRST_TABLE..)
        .find(|table| !is_reserved(*table) && !used.contains(table))
        .unwrap_or(FIRST_TABLE)
}

/// Whether a route of the interface is moved: link-local ones and those of multicast stay, which
/// belong to each link.
pub(crate) fn is_moved(route: &RouteEntry, index: u32) -> bool {
    let stays = match route.destination.ip() {
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
        IpAddr::V4(ip) => ip.is_multicast(),
    };
    route.interface == Some(index) && !stays
}

/// A route that leaves the main table, as the record keeps it.
pub(crate) fn moved(route: &RouteEntry) -> MovedRoute {
    MovedRoute {
        destination: route.destination,
        gateway: route.gateway,
        prefsrc: route.prefsrc,
        priority: route.priority,
        scope: route.scope,
        mtu: route.mtu,
        advmss: route.advmss,
    }
}

/// It as a route of the main table.
pub(crate) fn spec(route: &MovedRoute, index: u32) -> RouteSpec {
    RouteSpec {
        gateway: route.gateway,
        interface: Some(index),
        prefsrc: route.prefsrc,
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        scope: Some(route.scope),
        ..RouteSpec::to(route.destination)
    }
}

/// Everything, of a family.
pub(crate) fn everything(v4: bool) -> Option<IpNetwork> {
    if v4 { "0.0.0.0/0" } else { "::/0" }.parse().ok()
}

/// The gateways of these routes that lie in none of the addresses' subnets.
pub(crate) fn strays(there: &[RouteEntry], ips: &[&IpConfig]) -> HashSet<IpAddr> {
    let gateways: HashSet<IpAddr> = there.iter().filter_map(|route| route.gateway).collect();
    let held = |gateway: &IpAddr| ips.iter().any(|ip| holds(ip, *gateway));
    gateways
        .into_iter()
        .filter(|gateway| !held(gateway))
        .collect()
}

/// What the table of an address gets: the routes that the interface has for it, those without a
/// gateway first, since gateways are found by them; and the default one by its own gateway. A route
/// by a gateway belongs to the address whose subnet holds the gateway, and to all of them when none
/// does.
pub(crate) fn routes(
    there: &[RouteEntry],
    index: u32,
    ip: &IpConfig,
    stray: &HashSet<IpAddr>,
    config: &Config,
    table: u32,
) -> Vec<RouteSpec> {
    let source = ip.address.ip();
    let gateway = config.gateway(ip);
    let default = everything(source.is_ipv4());
    let reached = |gateway: IpAddr| holds(ip, gateway) || stray.contains(&gateway);
    let own = |route: &&RouteEntry| {
        is_moved(route, index)
            && route.destination.is_ipv4() == source.is_ipv4()
            && route.prefsrc.is_none_or(|prefsrc| prefsrc == source)
            && route.gateway.is_none_or(reached)
            && (gateway.is_none() || Some(route.destination) != default)
    };
    let mut routes: Vec<RouteSpec> = there
        .iter()
        .filter(own)
        .map(|route| RouteSpec {
            table: Some(table),
            ..spec(&moved(route), index)
        })
        .collect();
    if let (Some(gateway), Some(default)) = (gateway, default) {
        routes.push(RouteSpec {
            gateway: Some(gateway),
            interface: Some(index),
            table: Some(table),
            ..RouteSpec::to(default)
        });
    }
    routes.sort_by_key(|route| route.gateway.is_some());
    if config.source_hints {
        for route in &mut routes {
            route.prefsrc = Some(source);
        }
    }
    routes
}

/// `RT_SCOPE_LINK`.
const LINK: u8 = 253;

/// The route of the main table to an address's subnet, for sockets that have no source address yet:
/// it says which one they get (key `addSourceHints`).
pub(crate) fn hint(ip: &IpConfig, index: u32) -> RouteSpec {
    RouteSpec {
        interface: Some(index),
        prefsrc: Some(ip.address.ip()),
        // IPv6 routes have no scope.
        scope: ip.address.is_ipv4().then_some(LINK),
        ..RouteSpec::to(IpNetwork::from(ip.address.network()))
    }
}

/// Whether a route is the one that [`hint`] makes for one of these addresses.
pub(crate) fn is_hint(route: &RouteEntry, ips: &[&IpConfig]) -> bool {
    let of = |ip: &&IpConfig| {
        route.gateway.is_none()
            && route.prefsrc == Some(ip.address.ip())
            && route.destination == IpNetwork::from(ip.address.network())
    };
    ips.iter().any(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, gateway: Option<&str>, interface: u32) -> RouteEntry {
        RouteEntry {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
            interface: Some(interface),
            prefsrc: None,
            priority: None,
            table: 254,
            scope: 0,
            protocol: 3,
            kind: 1,
            mtu: None,
            advmss: None,
            next_hops: Vec::new(),
        }
    }

    #[test]
    fn a_table_is_free_when_no_rule_uses_it() {
        assert_eq!(free_table(&[254, 255].into()), 100);
        assert_eq!(free_table(&[100, 102, 101].into()), 103);
        let used: BTreeSet<u32> = (100..252).collect();
        assert_eq!(free_table(&used), 256);
    }

    fn config(source_hints: bool) -> Config {
        Config {
            table: None,
            gateways: Vec::new(),
            source_hints,
        }
    }

    fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
        IpConfig {
            interface: Some(0),
            address: address.parse().unwrap(),
            gateway: gateway.map(|text| text.parse().unwrap()),
        }
    }

    fn told(made: &[RouteSpec]) -> Vec<(String, Option<String>)> {
        let words = |route: &RouteSpec| {
            let gateway = route.gateway.map(|gateway| gateway.to_string());
            (route.dst.to_string(), gateway)
        };
        made.iter().map(words).collect()
    }

    #[test]
    fn the_table_gets_what_the_interface_has() {
        let there = [
            route("0.0.0.0/0", Some("10.1.0.9"), 2),
            route("10.9.0.0/16", Some("10.1.0.1"), 2),
            route("10.1.0.0/24", None, 2),
            route("10.2.0.0/24", None, 3),
        ];
        let source = ip("10.1.0.5/24", Some("10.1.0.1"));
        let stray = strays(&there, &[&source]);
        let made = routes(&there, 2, &source, &stray, &config(true), 100);
        let via = || Some("10.1.0.1".to_owned());
        assert_eq!(
            told(&made),
            [
                ("10.1.0.0/24".to_owned(), None),
                ("10.9.0.0/16".to_owned(), via()),
                ("0.0.0.0/0".to_owned(), via()),
            ]
        );
        assert!(made.iter().all(|route| route.table == Some(100)));
        let hinted = |route: &RouteSpec| route.prefsrc == Some(source.address.ip());
        assert!(made.iter().all(hinted));
        // Without a gateway of its own the interface's default route is the table's.
        let source = ip("10.1.0.5/24", None);
        let made = routes(&there, 2, &source, &stray, &config(false), 100);
        assert_eq!(made.len(), 3);
    }

    #[test]
    fn a_gateways_route_is_in_the_table_of_its_subnet() {
        let there = [
            route("192.168.1.0/24", None, 2),
            route("192.168.101.0/24", None, 2),
            route("192.168.2.0/24", Some("192.168.1.2"), 2),
            route("192.168.3.0/24", Some("169.254.1.1"), 2),
        ];
        let one = ip("192.168.1.209/24", Some("192.168.1.1"));
        let other = ip("192.168.101.209/24", Some("192.168.101.1"));
        let stray = strays(&there, &[&one, &other]);
        let holds = |ip: &IpConfig, dst: &str| {
            let made = routes(&there, 2, ip, &stray, &config(false), 100);
            told(&made).iter().any(|(to, _)| to == dst)
        };
        assert!(holds(&one, "192.168.2.0/24"));
        assert!(!holds(&other, "192.168.2.0/24"));
        // A gateway in no subnet is reached by the link.
        assert!(holds(&one, "192.168.3.0/24") && holds(&other, "192.168.3.0/24"));
    }

    #[test]
    fn a_hint_is_known_again() {
        let one = ip("10.1.0.5/24", None);
        let spec = hint(&one, 2);
        assert_eq!(
            (spec.dst.to_string().as_str(), spec.scope),
            ("10.1.0.0/24", Some(253))
        );
        let made = RouteEntry {
            prefsrc: spec.prefsrc,
            ..route("10.1.0.0/24", None, 2)
        };
        assert!(is_hint(&made, &[&one]));
        assert!(!is_hint(&route("10.1.0.0/24", None, 2), &[&one]));
    }
}
