//! What each container still has of what its ADD gave it: the comparison that CHECK makes.

use pontoon_conf::Route;
use pontoon_netlink::RouteEntry;

use super::{CheckInput, ContainerFacts, Finding};
use crate::facts::Attachment;
use crate::report::{Failure, short};

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for one in ground.attachments.iter().filter(|one| one.alive) {
        let Some(inside) = ground.insides.get(&one.key()) else {
            continue;
        };
        findings.extend(of_interface(one, inside));
        let end = one.host_interface.as_ref();
        let end = end.and_then(|name| ground.host.links.iter().find(|link| link.name == *name));
        if let Some(end) = end.filter(|end| !end.up) {
            findings.push(
                Finding::new("host-end-down", &end.name)
                    .means(format!("container {} reaches nothing", short(&one.id)))
                    .seen(format!(
                        "{}, the host's end of the veth pair of container {}, is administratively down",
                        end.name, one.id
                    ))
                    .mend(format!("ip link set dev {} up", end.name))
                    .of_container(&one.id)
                    .safe(),
            );
        }
    }
    Ok(())
}

fn of_interface(one: &Attachment, inside: &ContainerFacts) -> Vec<Finding> {
    let name = &one.interface;
    let who = format!("container {}", short(&one.id));
    let enter = |command: String| format!("nsenter --net={} {command}", one.netns);
    let Some(link) = &inside.link else {
        return vec![
            Finding::new("interface-gone", &one.id)
                .means(format!("{who} is not on network {} any more", one.network))
                .seen(format!(
                    "there is no {name} in {}; the other end of its veth pair went with it",
                    one.netns
                ))
                .advice(format!(
                    "let its runtime attach it again: restart the container, or DEL and ADD of network {}",
                    one.network
                ))
                .of_container(&one.id),
        ];
    };
    // Without addresses nothing is promised of the interface.
    let Some(settings) = inside
        .settings
        .as_ref()
        .filter(|settings| !settings.addresses.is_empty())
    else {
        return Vec::new();
    };
    if !link.up {
        // Its routes went with it, and are made when it is up again.
        return vec![
            Finding::new("interface-down", &one.id)
                .means(format!("{who} reaches nothing on network {}", one.network))
                .seen(format!("{name} in {} is administratively down", one.netns))
                .mend(enter(format!("ip link set dev {name} up")))
                .of_container(&one.id),
        ];
    }
    let mut found = Vec::new();
    for address in &settings.addresses {
        let there = inside.addresses.iter().any(|own| own.ip() == address.ip());
        if !there {
            found.push(
                Finding::new("address-missing", &one.id)
                    .means(format!(
                        "what is sent to {} does not come to {who}, and what it sends has another source or none",
                        address.ip()
                    ))
                    .seen(format!("{name} in {} lacks {address}", one.netns))
                    .mend(enter(format!("ip address add {address} dev {name}")))
                    .of_container(&one.id),
            );
        }
    }
    // A route stands on an address of its family.
    let family = |route: &&Route| {
        let v4 = route.dst.is_ipv4();
        inside.addresses.iter().any(|own| own.ip().is_ipv4() == v4)
    };
    let wanted = settings
        .routes
        .iter()
        .filter(|route| route.table.is_none())
        .filter(family);
    for route in wanted.filter(|route| !inside.routes.iter().any(|got| is(got, route))) {
        let via = route
            .gw
            .map_or(String::new(), |gateway| format!(" via {gateway}"));
        let of_all = route.dst.prefix() == 0;
        found.push(
            Finding::new("route-missing", &one.id)
                .means(match of_all {
                    true => format!(
                        "{who} reaches nothing beyond network {}, and answers no host there",
                        one.network
                    ),
                    false => format!("{who} does not reach {}", route.dst),
                })
                .seen(format!(
                    "in {} there is no route to {}{via}",
                    one.netns, route.dst
                ))
                .mend(enter(format!("ip route add {}{via} dev {name}", route.dst)))
                .of_container(&one.id),
        );
    }
    found
}

/// Whether this is the route that was settings. One to the same destination by another gateway is not.
pub(crate) fn is(got: &RouteEntry, route: &Route) -> bool {
    got.destination.ip() == route.dst.network().ip()
        && got.destination.prefix() == route.dst.prefix()
        && (route.gw.is_none() || got.gateway.is_none() || route.gw == got.gateway)
}
