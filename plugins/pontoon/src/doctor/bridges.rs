//! Whether the bridges are what the containers expect.

use std::collections::BTreeSet;

use pontoon_ledger::{PortmapRecord, kinds};
use pontoon_netfilter::Owner;
use pontoon_netlink::{IpNetwork, sysctl};

use super::{CheckInput, Finding};
use crate::report::{Failure, short};

/// Routes shorter than this lead nowhere in particular.
const PARTICULAR: u8 = 8;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for network in &ground.networks {
        let Some(bridge) = &network.bridge else {
            continue;
        };
        let of_bridge = |finding: Finding| finding.of_bridge(bridge);
        if !network.up {
            findings.push(of_bridge(
                Finding::new("bridge-down", bridge)
                    .means(format!(
                        "containers of network {} reach no other host",
                        network.name
                    ))
                    .seen(format!("{bridge} is administratively down"))
                    .mend(format!("ip link set dev {bridge} up"))
                    .safe(),
            ));
        }
        addresses(ground, network, bridge, findings);
    }
    Ok(())
}

/// Routes of others into the subnets of the networks.
pub(crate) fn routes(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let mut routes = ground.host.socket.routes(true)?;
    routes.extend(ground.host.socket.routes(false)?);
    for network in &ground.networks {
        let Some(bridge) = &network.bridge else {
            continue;
        };
        let Some(link) = ground.host.links.iter().find(|link| link.name == *bridge) else {
            continue;
        };
        // The tunnel of a network of several hosts has an address of the network, too.
        let tag = Owner::network(&network.name).tag();
        let is_own = |index: u32| {
            let by = ground.host.link(index);
            index == link.index || by.is_some_and(|by| by.alias.as_deref() == Some(&tag))
        };
        for gateway in &network.gateways {
            let Ok(subnet) = gateway.parse::<IpNetwork>() else {
                continue;
            };
            let foreign = routes.iter().filter(|route| {
                !route.interface.is_some_and(is_own)
                    && route.destination.prefix() >= PARTICULAR.max(subnet.prefix())
                    && subnet.contains(route.destination.ip())
            });
            for route in foreign {
                let by = route.interface.and_then(|index| ground.host.link(index));
                let by = by.map_or("another interface", |link| &link.name);
                findings.push(
                    Finding::new("subnet-overlaps-route", &network.name)
                        .means(format!(
                            "the host sends packets for addresses of network {} elsewhere",
                            network.name
                        ))
                        .seen(format!(
                            "route {} by {by} lies in {subnet} of {bridge}",
                            route.destination
                        ))
                        .advice(format!(
                            "give network {} another subnet; or, when nothing needs the route any more: ip route del {} dev {by}",
                            network.name, route.destination
                        ))
                        .of_bridge(bridge),
                );
            }
        }
    }
    Ok(())
}

/// Containers that send larger packets than the uplink takes.
pub(crate) fn mtu(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let uplink = ground.host.socket.uplink()?;
    for network in &ground.networks {
        let Some(bridge) = &network.bridge else {
            continue;
        };
        if let Some(uplink) = &uplink {
            let larger: Vec<_> = ground
                .attachments
                .iter()
                .filter(|one| one.bridge.as_ref() == Some(bridge))
                .filter(|one| {
                    ground
                        .insides
                        .get(&one.key())
                        .is_some_and(|inside| inside.mtu > uplink.mtu)
                })
                .collect();
            for one in larger {
                let inside = ground
                    .insides
                    .get(&one.key())
                    .map_or(0, |inside| inside.mtu);
                let mtu = uplink.mtu;
                let host_end = one.host_interface.clone().unwrap_or_default();
                findings.push(
                    Finding::new("mtu-too-large", one.id.clone())
                        .means("large packets to the outside are dropped or fragmented on the way: connections open, and stall")
                        .seen(format!("MTU of {} in the container is {inside}, that of {} is {mtu}", one.interface, uplink.name))
                        .mend(format!(
                            "nsenter --net={} ip link set dev {} mtu {mtu} && ip link set dev {host_end} mtu {mtu}",
                            one.netns, one.interface
                        ))
                        .of_container(&one.id),
                );
            }
        }
    }
    Ok(())
}

/// The gateways of the containers, against the addresses of their bridge.
fn addresses(
    ground: &CheckInput,
    network: &crate::facts::Network,
    bridge: &str,
    findings: &mut Vec<Finding>,
) {
    let own: Vec<IpNetwork> = network
        .gateways
        .iter()
        .filter_map(|gateway| gateway.parse().ok())
        .collect();
    let mut missing = BTreeSet::new();
    for one in &ground.attachments {
        if one.bridge.as_deref() != Some(bridge) {
            continue;
        }
        let inside = ground.insides.get(&one.key());
        // The gateway may be another machine, to which the bridge leads.
        let inside = inside.filter(|inside| inside.needs_host());
        for gateway in inside
            .map(|inside| inside.gateways.clone())
            .unwrap_or_default()
        {
            if own.iter().any(|own| own.ip() == gateway) {
                continue;
            }
            let subnets = one
                .addresses
                .iter()
                .filter_map(|address| address.parse::<IpNetwork>().ok());
            let subnet = subnets.into_iter().find(|subnet| subnet.contains(gateway));
            missing.extend(subnet.map(|subnet| (gateway, subnet.prefix())));
        }
    }
    for (gateway, prefix) in missing {
        let (id, seen) = if own.is_empty() {
            ("bridge-without-address", format!("{bridge} has no address"))
        } else {
            (
                "bridge-with-wrong-address",
                format!("{bridge} has {}", network.gateways.join(" ")),
            )
        };
        findings.push(
            Finding::new(id, bridge)
                .means(format!(
                    "containers of network {} have {gateway} for a gateway, and no machine answers there",
                    network.name
                ))
                .seen(seen)
                .mend(format!("ip address add {gateway}/{prefix} dev {bridge}"))
                .of_bridge(bridge)
                .safe(),
        );
    }
}

/// Containers whose veth pair hangs on no bridge.
pub(crate) fn unplugged(
    ground: &mut CheckInput,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    for one in &ground.attachments {
        let (Some(veth), None) = (&one.host_interface, &one.bridge) else {
            continue;
        };
        let network = ground
            .networks
            .iter()
            .find(|network| network.name == one.network && kinds::is_bridged(network.mode));
        let Some(bridge) = network.and_then(|network| network.bridge.as_ref()) else {
            continue;
        };
        findings.push(
            Finding::new("container-unplugged", &one.id)
                .means(format!(
                    "container {} reaches no other host",
                    short(&one.id)
                ))
                .seen(format!("{veth} is no port of a bridge"))
                .mend(format!("ip link set dev {veth} master {bridge}"))
                .of_container(&one.id)
                .safe(),
        );
    }
    Ok(())
}

/// What published ports need of their bridge beside rules.
pub(crate) fn publishing(
    ground: &mut CheckInput,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let link = |name: &String| ground.host.links.iter().find(|link| link.name == *name);
    for one in ground.attachments.iter().filter(|one| one.alive) {
        let record: Option<PortmapRecord> = ground.host.record(&one.key());
        let ends = one.bridge.as_ref().zip(one.host_interface.as_ref());
        let (Some(record), Some((bridge, veth))) = (record, ends) else {
            continue;
        };
        // Without `snat` portmap promises neither.
        if !record.published.snat || !record.published.has_address() {
            continue;
        }
        let promisc = link(bridge).is_some_and(|link| link.promisc);
        let port = link(veth).and_then(|link| link.port);
        if port.is_some_and(|flags| !flags.hairpin) && !promisc {
            findings.push(
                Finding::new("hairpin-off", veth)
                    .means(format!(
                        "container {} does not reach its own published ports where bridged packets pass netfilter",
                        short(&one.id)
                    ))
                    .seen(format!("hairpin mode of the bridge port {veth} is off"))
                    .mend(format!("ip link set dev {veth} type bridge_slave hairpin on"))
                    .of_container(&one.id)
                    .safe(),
            );
        }
        let path = format!("net/ipv4/conf/{bridge}/route_localnet");
        let v4 = one.addresses.iter().any(|address| !address.contains(':'));
        let told = |finding: &Finding| finding.id == "loopback-closed" && finding.object == *bridge;
        if v4 && sysctl::read(&path).is_ok_and(|value| value == "0") && !findings.iter().any(told) {
            findings.push(
                Finding::new("loopback-closed", bridge)
                    .means("on this host published ports do not answer at 127.0.0.1")
                    .seen(format!("net.ipv4.conf.{bridge}.route_localnet is 0"))
                    .mend(format!("sysctl -w net.ipv4.conf.{bridge}.route_localnet=1"))
                    .of_bridge(bridge)
                    .safe(),
            );
        }
    }
    Ok(())
}
