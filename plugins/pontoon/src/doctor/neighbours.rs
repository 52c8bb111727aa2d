//! Permanent neighbour entries that name another MAC address than the owner of the IP address has.
//!
//! Entries that the kernel has learned are its own to correct. A permanent one stays until it is taken
//! away.

use std::collections::HashMap;
use std::net::IpAddr;

use pontoon_conf::Mac;
use pontoon_netlink::Neighbour;

use super::{CheckInput, Finding};
use crate::report::Failure;

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    // Each address of a container, by the link of this host that leads to it.
    let mut known: HashMap<(u32, IpAddr), [u8; 6]> = HashMap::new();
    // The same, and the gateways, by network: as a container of the network should see them.
    let mut of_network: HashMap<(&str, IpAddr), [u8; 6]> = HashMap::new();
    let link = |name: &Option<String>| {
        let name = name.as_ref()?;
        ground.host.links.iter().find(|link| link.name == *name)
    };
    for one in ground.attachments.iter().filter(|one| one.alive) {
        let inside = ground.insides.get(&one.key());
        let Some(mac) = inside.and_then(|inside| inside.link.as_ref()?.mac) else {
            continue;
        };
        let way = link(&one.bridge).or_else(|| link(&one.host_interface));
        for ip in one.ips() {
            if let Some(way) = way {
                known.insert((way.index, ip), mac);
            }
            of_network.insert((one.network.as_str(), ip), mac);
        }
    }
    for network in &ground.networks {
        let Some(mac) = link(&network.bridge).and_then(|bridge| bridge.mac) else {
            continue;
        };
        let gateways = network
            .gateways
            .iter()
            .filter_map(|cidr| cidr.split('/').next()?.parse().ok());
        for gateway in gateways {
            of_network.insert((network.name.as_str(), gateway), mac);
        }
    }
    let wrong = |entry: &Neighbour, right: Option<&[u8; 6]>| match (entry.mac, right) {
        (Some(mac), Some(right)) if entry.permanent && mac != *right => Some(format!(
            "{} has {}, not {}",
            entry.address,
            Mac(*right),
            Mac(mac)
        )),
        _ => None,
    };
    for entry in ground.host.socket.neighbours()? {
        let seen = wrong(&entry, known.get(&(entry.interface, entry.address)));
        let by = ground
            .host
            .links
            .iter()
            .find(|link| link.index == entry.interface);
        if let (Some(seen), Some(by)) = (seen, by) {
            findings.push(
                Finding::new("neighbour-wrong", entry.address.to_string())
                    .means(format!(
                        "what this host sends or forwards to {} comes to another interface, or to none",
                        entry.address
                    ))
                    .seen(format!("permanent neighbour entry on {}: {seen}", by.name))
                    .mend(format!("ip neighbour del {} dev {}", entry.address, by.name)),
            );
        }
    }
    for one in ground.attachments.iter().filter(|one| one.alive) {
        let Some(inside) = ground.insides.get(&one.key()) else {
            continue;
        };
        for entry in &inside.neighbours {
            let right = of_network.get(&(one.network.as_str(), entry.address));
            let Some(seen) = wrong(entry, right) else {
                continue;
            };
            findings.push(
                Finding::new("neighbour-wrong", entry.address.to_string())
                    .means(format!(
                        "what container {} sends to {}, or by it, comes to another interface, or to none",
                        one.id, entry.address
                    ))
                    .seen(format!(
                        "permanent neighbour entry on {} in {}: {seen}",
                        one.interface, one.netns
                    ))
                    .mend(format!(
                        "nsenter --net={} ip neighbour del {} dev {}",
                        one.netns, entry.address, one.interface
                    ))
                    .of_container(&one.id),
            );
        }
    }
    Ok(())
}
