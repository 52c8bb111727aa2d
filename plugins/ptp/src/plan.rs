//! Decisions: what the two ends get, from what the address plugin says.

use std::net::IpAddr;

use pontoon_attach::container_link;
use pontoon_conf::{AddResult, Cidr, IpConfig};
use pontoon_ledger::Key;
use pontoon_netfilter::{Egress, NetworkRules};
use pontoon_netlink::RouteSpec;

/// Fills in what the address plugin has left open. All addresses are the container's interface's,
/// which is the second of the result.
pub(crate) fn complete(result: &mut AddResult) {
    for ip in &mut result.ips {
        ip.interface = Some(1);
        if ip.gateway.is_none() {
            ip.gateway = Some(ip.address.first_host());
        }
    }
}

/// One address as a network of its own.
fn alone(address: IpAddr) -> Option<Cidr> {
    Cidr::new(address, if address.is_ipv4() { 32 } else { 128 }).ok()
}

/// Addresses of the host's end: each gateway alone.
pub(crate) fn gateways(ips: &[IpConfig]) -> Vec<Cidr> {
    let mut all: Vec<Cidr> = Vec::new();
    for gateway in ips.iter().filter_map(|ip| alone(ip.gateway?)) {
        if !all.contains(&gateway) {
            all.push(gateway);
        }
    }
    all
}

/// Routes of the host to the container.
pub(crate) fn host_routes(ips: &[IpConfig], interface: u32) -> Vec<RouteSpec> {
    let addresses = ips.iter().filter_map(|ip| alone(ip.address.addr()));
    addresses
        .map(|address| RouteSpec {
            interface: Some(interface),
            ..RouteSpec::to(address.into())
        })
        .collect()
}

/// Routes of the container: the gateway is on the link, the rest of the subnet behind it, and then
/// what the address plugin orders.
pub(crate) fn container_routes(result: &AddResult, interface: u32) -> Vec<RouteSpec> {
    let mut routes: Vec<RouteSpec> = Vec::new();
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        let own = ip.address.addr();
        let there = |dst: Cidr, gateway| RouteSpec {
            gateway,
            interface: Some(interface),
            prefsrc: Some(own),
            ..RouteSpec::to(dst.into())
        };
        let Some(on_link) = alone(gateway) else {
            continue;
        };
        // A second address of the subnet finds both routes there.
        let mut add = |route: RouteSpec| {
            if !routes.iter().any(|known| known.dst == route.dst) {
                routes.push(route);
            }
        };
        add(there(on_link, None));
        if ip.address.network() != on_link && alone(own) != Some(ip.address) {
            add(there(ip.address.network(), Some(gateway)));
        }
    }
    routes.extend(container_link::routes(result, interface));
    routes
}

/// The rules of a network that hides its containers behind the host.
pub(crate) fn rules(network: &str, ips: &[IpConfig]) -> NetworkRules {
    let mut egress: Vec<Egress> = Vec::new();
    for ip in ips {
        let subnet = ip.address.network().into();
        if !egress.iter().any(|known| known.subnet == subnet) {
            egress.push(Egress {
                subnet,
                snat: Vec::new(),
            });
        }
    }
    // There is no bridge: the name is one that no interface has, since no attachment has this key.
    let placeholder = Key {
        network: network.to_owned(),
        container: String::new(),
        interface: String::new(),
    };
    NetworkRules {
        network: network.to_owned(),
        bridge: placeholder.host_interface(),
        egress,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(addresses: &[(&str, Option<&str>)]) -> AddResult {
        let mut result = AddResult {
            ips: addresses
                .iter()
                .map(|(address, gateway)| IpConfig {
                    interface: None,
                    address: address.parse().unwrap(),
                    gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                })
                .collect(),
            ..AddResult::default()
        };
        complete(&mut result);
        result
    }

    #[track_caller]
    fn check(addresses: &[(&str, Option<&str>)], expected: &[&str]) {
        let result = result(addresses);
        let mut got: Vec<String> = gateways(&result.ips)
            .iter()
            .map(|gateway| format!("host {gateway}"))
            .collect();
        for route in host_routes(&result.ips, 7) {
            got.push(format!("host {route}"));
        }
        for route in container_routes(&result, 9) {
            assert_eq!(route.interface, Some(9));
            let from = route.prefsrc.map(|own| format!(" from {own}"));
            got.push(format!("{route}{}", from.unwrap_or_default()));
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn everything_goes_through_the_gateway() {
        check(
            &[("10.1.1.2/24", Some("10.1.1.1"))],
            &[
                "host 10.1.1.1/32",
                "host route to 10.1.1.2/32",
                "route to 10.1.1.1/32 from 10.1.1.2",
                "route to 10.1.1.0/24 via 10.1.1.1 from 10.1.1.2",
            ],
        );
        check(
            &[("fd00::2/64", None)],
            &[
                "host fd00::1/128",
                "host route to fd00::2/128",
                "route to fd00::1/128 from fd00::2",
                "route to fd00::/64 via fd00::1 from fd00::2",
            ],
        );
        // An address that is a subnet of its own has its gateway elsewhere.
        check(
            &[("10.1.1.2/32", Some("169.254.1.1"))],
            &[
                "host 169.254.1.1/32",
                "host route to 10.1.1.2/32",
                "route to 169.254.1.1/32 from 10.1.1.2",
            ],
        );
    }

    #[test]
    fn two_addresses_of_a_subnet_share_the_way() {
        check(
            &[("10.1.1.2/24", None), ("10.1.1.3/24", None)],
            &[
                "host 10.1.1.1/32",
                "host route to 10.1.1.2/32",
                "host route to 10.1.1.3/32",
                "route to 10.1.1.1/32 from 10.1.1.2",
                "route to 10.1.1.0/24 via 10.1.1.1 from 10.1.1.2",
            ],
        );
    }

    #[test]
    fn the_subnet_is_masqueraded_once() {
        let result = result(&[
            ("10.1.1.2/24", None),
            ("10.1.1.3/24", None),
            ("fd00::2/64", None),
        ]);
        let rules = rules("net", &result.ips);
        assert_eq!(rules.egress.len(), 2);
        assert!(rules.bridge.starts_with("veth"));
    }
}
