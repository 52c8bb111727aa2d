//! Keys, and which routes an address's table gets.

use std::net::IpAddr;

use pontoon_conf::{Attached, Error, IpConfig, code, keys};
use pontoon_netlink::{IpNetwork, RouteEntry, RouteSpec};
use pontoon_plugin::Context;
use serde::{Deserialize, Serialize};

/// First table that is given to an address without one of its own, as in the reference plugin.
const FIRST_TABLE: u32 = 100;
/// `RT_TABLE_COMPAT`, `_DEFAULT`, `_MAIN` and `_LOCAL`: the kernel's.
const RESERVED: std::ops::RangeInclusive<u32> = 252..=255;

/// The keys as they are meant.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) table: Option<u32>,
    gateways: Vec<IpAddr>,
    pub(crate) source_hints: bool,
}

fn invalid(msg: String) -> Error {
    Error::new(code::INVALID_CONFIG, msg)
}

impl Config {
    pub(crate) fn from_context(context: &Context) -> Result<Self, Error> {
        let keys: keys::Sbr = context.config.keys()?;
        let table = match keys.table {
            None => None,
            Some(table) => Some(
                u32::try_from(table)
                    .ok()
                    .filter(|table| *table > 0 && !RESERVED.contains(table))
                    .ok_or_else(|| {
                        invalid(format!("key \"table\": {table} cannot be a routing table"))
                            .with_details("choose a number from 1 to 4294967295, but 252 to 255")
                    })?,
            ),
        };
        let mut gateways: Vec<IpAddr> = Vec::new();
        for text in &keys.gateways {
            let shown: String = text.chars().take(80).collect();
            let gateway: IpAddr = pontoon_conf::address(text.trim())
                .map_err(|_| invalid(format!("key \"gateways\": \"{shown}\" is no IP address")))?;
            if gateways
                .iter()
                .any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                return Err(invalid(format!(
                    "key \"gateways\": {gateway} is the second of its family"
                ))
                .with_details("give one gateway for each family"));
            }
            gateways.push(gateway);
        }
        Ok(Self {
            table,
            gateways,
            source_hints: keys.add_source_hints,
        })
    }

    /// Where packets from an address go that no other route takes.
    pub(crate) fn gateway(&self, ip: &IpConfig) -> Option<IpAddr> {
        let v4 = ip.address.is_ipv4();
        let own = self.gateways.iter().find(|gateway| gateway.is_ipv4() == v4);
        own.copied().or(ip.gateway)
    }
}

/// The addresses of the interface in the result of the plugins before.
pub(crate) fn addresses<'a>(
    previous: Option<&'a Attached>,
    interface: &str,
) -> Result<Vec<&'a IpConfig>, Error> {
    let previous = previous.ok_or_else(|| {
        invalid("must be called as chained plugin: no prevResult".to_owned())
            .with_details("list sbr after the plugin that makes the interface")
    })?;
    let found: Vec<&IpConfig> = previous.ips_of(interface).collect();
    if found.is_empty() {
        return Err(invalid(format!("no address of {interface} in prevResult"))
            .with_details("the plugin before sbr must give the container's interface an address"));
    }
    Ok(found)
}

/// The first table from 100 on that nobody uses.
pub(crate) fn free_table(used: &[u32]) -> u32 {
    (FIRST_TABLE..)
        .find(|table| !RESERVED.contains(table) && !used.contains(table))
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

/// A route that has left the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    destination: IpNetwork,
    pub(crate) gateway: Option<IpAddr>,
    prefsrc: Option<IpAddr>,
    priority: Option<u32>,
    scope: u8,
    mtu: Option<u32>,
    advmss: Option<u32>,
}

impl Moved {
    pub(crate) fn of(route: &RouteEntry) -> Self {
        Self {
            destination: route.destination,
            gateway: route.gateway,
            prefsrc: route.prefsrc,
            priority: route.priority,
            scope: route.scope,
            mtu: route.mtu,
            advmss: route.advmss,
        }
    }

    /// As a route of the main table.
    pub(crate) fn spec(&self, index: u32) -> RouteSpec {
        RouteSpec {
            gateway: self.gateway,
            interface: Some(index),
            prefsrc: self.prefsrc,
            mtu: self.mtu,
            advmss: self.advmss,
            priority: self.priority,
            scope: Some(self.scope),
            ..RouteSpec::to(self.destination)
        }
    }
}

/// Whether a table is the kernel's own.
pub(crate) fn is_reserved(table: u32) -> bool {
    RESERVED.contains(&table)
}

/// Everything, of a family.
pub(crate) fn everything(v4: bool) -> Option<IpNetwork> {
    if v4 { "0.0.0.0/0" } else { "::/0" }.parse().ok()
}

/// What the table of an address gets: the routes that the interface has for it, those without a
/// gateway first, since gateways are found by them; and the default one by its own gateway.
pub(crate) fn routes(
    there: &[RouteEntry],
    index: u32,
    source: IpAddr,
    gateway: Option<IpAddr>,
    table: u32,
    hints: bool,
) -> Vec<RouteSpec> {
    let default = everything(source.is_ipv4());
    let own = |route: &&RouteEntry| {
        is_moved(route, index)
            && route.destination.is_ipv4() == source.is_ipv4()
            && route.prefsrc.is_none_or(|prefsrc| prefsrc == source)
            && (gateway.is_none() || Some(route.destination) != default)
    };
    let mut routes: Vec<RouteSpec> = there
        .iter()
        .filter(own)
        .map(|route| RouteSpec {
            table: Some(table),
            ..Moved::of(route).spec(index)
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
    if hints {
        for route in &mut routes {
            route.prefsrc = Some(source);
        }
    }
    routes
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
    fn a_table_is_free_when_nobody_uses_it() {
        assert_eq!(free_table(&[254, 255]), 100);
        assert_eq!(free_table(&[100, 102, 101]), 103);
        let used: Vec<u32> = (100..252).collect();
        assert_eq!(free_table(&used), 256);
    }

    #[test]
    fn the_table_gets_what_the_interface_has() {
        let there = [
            route("0.0.0.0/0", Some("10.1.0.9"), 2),
            route("10.9.0.0/16", Some("10.1.0.1"), 2),
            route("10.1.0.0/24", None, 2),
            route("10.2.0.0/24", None, 3),
        ];
        let source: IpAddr = "10.1.0.5".parse().unwrap();
        let gateway = "10.1.0.1".parse().ok();
        let made = routes(&there, 2, source, gateway, 100, true);
        let told: Vec<_> = made
            .iter()
            .map(|route| (route.dst.to_string(), route.gateway))
            .collect();
        assert_eq!(
            told,
            [
                ("10.1.0.0/24".to_owned(), None),
                ("10.9.0.0/16".to_owned(), gateway),
                ("0.0.0.0/0".to_owned(), gateway),
            ]
        );
        assert!(made.iter().all(|route| route.table == Some(100)));
        assert!(made.iter().all(|route| route.prefsrc == Some(source)));
        // Without a gateway of its own the interface's default route is the table's.
        let made = routes(&there, 2, source, None, 100, false);
        assert_eq!(made.len(), 3);
    }
}
