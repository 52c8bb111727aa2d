//! Decisions: configuration and facts in, what shall be out. No kernel, no files.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pontoon_attach::container_link::first_gateway;
use pontoon_conf::{AddResult, Cidr, IpConfig, Route};
use pontoon_netfilter::{Egress, NetworkRules, Snat};
use sha2::{Digest, Sha256};

use crate::Beyond;
use crate::config::Config;
use crate::error::AttachError;

/// The MAC address of a container that asks for none, from its first address, IPv4 before IPv6:
/// `02:42:` (locally administered) and the four bytes, as Docker long did. A container that gets that address
/// next gets the same MAC, so no neighbour's cache can be wrong about it, and no announcement has to
/// be flooded to every port of the bridge. `None` without an address.
pub(crate) fn mac(ips: &[IpConfig]) -> Option<[u8; 6]> {
    let first = |v4: bool| {
        ips.iter()
            .map(|ip| ip.address.addr())
            .find(|ip| ip.is_ipv4() == v4)
    };
    let [a, b, c, d] = match first(true).or_else(|| first(false))? {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(ip) => {
            let digest = Sha256::digest(ip.octets());
            [digest[0], digest[1], digest[2], digest[3]]
        }
    };
    Some([0x02, 0x42, a, b, c, d])
}

/// The families whose addresses have to be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnnouncedFamilies {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// A MAC that was asked for may contradict what neighbours remember of any address; one that [`mac`] made, of all
/// addresses but the one that it was made from.
pub(crate) fn announced(ips: &[IpConfig], asked: bool) -> AnnouncedFamilies {
    let count = |v4: bool| ips.iter().filter(|ip| ip.address.is_ipv4() == v4).count();
    let (v4, v6) = (count(true), count(false));
    AnnouncedFamilies {
        v4: v4 > usize::from(!asked),
        v6: v6 > usize::from(!asked && v4 == 0),
    }
}

/// Fills in what the reference plugin derives from the IPAM result: gateways, default routes, the
/// index of the container's interface. Returns the addresses that the bridge gets.
pub(crate) fn complete(result: &mut AddResult, config: &Config) -> Vec<Cidr> {
    let mut gateways: Vec<Cidr> = Vec::new();
    if config.internal {
        result.routes.retain(|route| route.dst.prefix() > 0);
    }
    for ip in &mut result.ips {
        ip.interface = Some(2);
        if config.is_gateway && ip.gateway.is_none() {
            ip.gateway = Some(ip.address.first_host());
        }
        if let (true, Some(gateway)) = (config.is_gateway, ip.gateway)
            && let Ok(address) = Cidr::new(gateway, ip.address.prefix())
            && !gateways.contains(&address)
        {
            gateways.push(address);
        }
    }
    if config.is_default_gateway {
        for v4 in [true, false] {
            let (Some(gateway), Ok(default)) = (first_gateway(&result.ips, v4), default_route(v4))
            else {
                continue;
            };
            let known = result
                .routes
                .iter()
                .any(|route| route.dst == default && route.gw.is_some());
            if !known {
                result.routes.push(Route {
                    gw: Some(gateway),
                    ..Route::to(default)
                });
            }
        }
    }
    gateways
}

fn default_route(v4: bool) -> Result<Cidr, pontoon_conf::CidrError> {
    let any = if v4 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    Cidr::new(any, 0)
}

/// The rules that the network needs when it hides its containers behind an address of the host. When
/// it does not, they only say whose the bridge is: networks that keep to themselves ask that.
pub(crate) fn rules(
    network: &str,
    config: &Config,
    ips: &[IpConfig],
    beyond: &Beyond,
) -> Result<NetworkRules, AttachError> {
    for entry in config.snat.iter().filter(|_| config.ip_masq) {
        let family = |v4: bool| if v4 { "IPv4" } else { "IPv6" };
        if !ips
            .iter()
            .any(|ip| ip.address.is_ipv4() == entry.source.is_ipv4())
        {
            return Err(AttachError::OtherFamily {
                source_address: entry.source,
                family: family(entry.source.is_ipv4()),
                network: network.to_owned(),
            });
        }
    }
    let mut egress: Vec<Egress> = Vec::new();
    for ip in ips.iter().filter(|_| config.ip_masq) {
        let whole = beyond
            .subnets
            .iter()
            .find(|subnet| subnet.contains(ip.address.addr()));
        let subnet = whole.unwrap_or(&ip.address).network().into();
        if egress.iter().any(|known| known.subnet == subnet) {
            continue;
        }
        egress.push(Egress {
            subnet,
            snat: config
                .snat
                .iter()
                .filter(|entry| entry.source.is_ipv4() == ip.address.is_ipv4())
                .map(|entry| Snat {
                    source: entry.source,
                    out: entry.out.as_ref().map(ToString::to_string),
                })
                .collect(),
        });
    }
    Ok(NetworkRules {
        network: network.to_owned(),
        bridge: config.bridge.to_string(),
        egress,
    })
}

/// Why an address of another prefix keeps the bridge from getting `wanted`. IPv4: any other address
/// does, as in the reference plugin; IPv6: only one whose subnet overlaps.
pub(crate) fn conflicts(existing: &Cidr, wanted: &[Cidr]) -> bool {
    if wanted.contains(existing) {
        return false;
    }
    wanted.iter().any(|address| {
        address.is_ipv4() == existing.is_ipv4() && (address.is_ipv4() || address.overlaps(existing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_mac(addresses: &[&str], expected: Option<&str>) {
        let ips: Vec<IpConfig> = addresses
            .iter()
            .map(|text| IpConfig {
                interface: None,
                address: text.parse().unwrap(),
                gateway: None,
            })
            .collect();
        assert_eq!(
            mac(&ips)
                .map(|mac| pontoon_conf::Mac(mac).to_string())
                .as_deref(),
            expected
        );
    }

    #[test]
    fn macs_follow_addresses() {
        check_mac(&[], None);
        check_mac(&["172.17.0.2/16"], Some("02:42:ac:11:00:02"));
        check_mac(&["fd00::2/64", "172.17.0.2/16"], Some("02:42:ac:11:00:02"));
        // Of an IPv6 address alone: the first bytes of its SHA-256.
        check_mac(&["fd00::2/64"], Some("02:42:ab:c6:0c:b7"));
    }

    #[track_caller]
    fn check_announced(addresses: &[&str], asked: bool, v4: bool, v6: bool) {
        let ip = |text: &&str| IpConfig {
            interface: None,
            address: text.parse().unwrap(),
            gateway: None,
        };
        let ips: Vec<IpConfig> = addresses.iter().map(ip).collect();
        assert_eq!(announced(&ips, asked), AnnouncedFamilies { v4, v6 });
    }

    #[test]
    fn what_the_mac_does_not_follow_is_announced() {
        check_announced(&["10.0.0.2/24"], false, false, false);
        check_announced(&["fd00::2/64"], false, false, false);
        check_announced(&["10.0.0.2/24", "fd00::2/64"], false, false, true);
        check_announced(&["10.0.0.2/24", "10.1.0.2/24"], false, true, false);
        check_announced(&["fd00::2/64", "fd01::2/64"], false, false, true);
        check_announced(&["10.0.0.2/24"], true, true, false);
        check_announced(&["10.0.0.2/24", "fd00::2/64"], true, true, true);
        check_announced(&[], true, false, false);
    }

    #[track_caller]
    fn check_conflict(existing: &str, wanted: &[&str], expected: bool) {
        let wanted: Vec<Cidr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(conflicts(&existing.parse().unwrap(), &wanted), expected);
    }

    #[test]
    fn bridge_address_conflicts() {
        check_conflict("10.0.0.1/24", &["10.0.0.1/24"], false);
        check_conflict("10.0.0.2/24", &["10.0.0.1/24"], true);
        check_conflict("10.9.0.1/24", &["10.0.0.1/24"], true);
        check_conflict("10.9.0.1/24", &["10.0.0.1/24", "10.9.0.1/24"], false);
        check_conflict("fd00::1/64", &["10.0.0.1/24"], false);
        check_conflict("fd00::1/64", &["fd01::1/64"], false);
        check_conflict("fd00::1/64", &["fd00::2/64"], true);
    }
}
