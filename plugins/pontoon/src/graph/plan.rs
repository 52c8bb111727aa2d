//! What is drawn; the output formats decide how.

use crate::facts::{Attachment, Network, Port};
use crate::report::short;

/// A box with a title and lines under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// A network with its containers. Networks are apart from each other: what joins them is the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) node: Node,
    pub(crate) members: Vec<Node>,
}

/// A link, as `icc` off has them: between two members of one group, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) group: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `3306/tcp`.
    pub(crate) ports: String,
}

/// The whole host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) uplinks: Vec<Node>,
    pub(crate) groups: Vec<Group>,
    pub(crate) links: Vec<Link>,
}

pub(crate) fn draw(uplinks: Vec<Node>, networks: &[Network], attachments: &[Attachment]) -> Plan {
    let group = |network: &Network| {
        let mut lines: Vec<String> = Vec::new();
        match &network.bridge {
            Some(bridge) if network.up => lines.push(format!("bridge {bridge}")),
            Some(bridge) => lines.push(format!("bridge {bridge} (down)")),
            None => lines.push(format!("mode {}", network.mode)),
        }
        lines.extend(network.gateways.iter().cloned());
        lines.extend(network.egress.iter().map(|way| format!("out: {way}")));
        if !network.closed.is_empty() {
            lines.push(format!("closed: {}", network.closed.join(", ")));
        }
        let own = members(network, attachments);
        Group {
            node: Node {
                title: network.name.clone(),
                lines,
            },
            members: own.map(member).collect(),
        }
    };
    let links = |(number, network): (usize, &Network)| {
        let all: Vec<&Attachment> = members(network, attachments).collect();
        let mut links = Vec::new();
        for (from, one) in all.iter().enumerate() {
            for link in &one.links {
                let reached = |(_, other): &(usize, &&Attachment)| link.reaches.contains(&other.id);
                links.extend(all.iter().enumerate().filter(reached).map(|(to, _)| Link {
                    group: number,
                    from,
                    to,
                    ports: link.ports.join(" "),
                }));
            }
        }
        links
    };
    Plan {
        uplinks,
        groups: networks.iter().map(group).collect(),
        links: networks.iter().enumerate().flat_map(links).collect(),
    }
}

fn members<'a>(
    network: &'a Network,
    attachments: &'a [Attachment],
) -> impl Iterator<Item = &'a Attachment> {
    let own = |one: &&Attachment| one.network == network.name && one.mode == network.mode;
    attachments.iter().filter(own)
}

fn member(one: &Attachment) -> Node {
    let title = match one.names.first() {
        Some(name) => name.clone(),
        None => short(&one.id),
    };
    let mut lines = Vec::new();
    if !one.names.is_empty() {
        lines.push(short(&one.id));
    }
    lines.extend(
        one.shares
            .as_ref()
            .map(|other| format!("shares {}", short(other))),
    );
    lines.extend(one.addresses.iter().cloned());
    lines.extend(one.ports.iter().map(Port::text));
    lines.extend(one.links.iter().map(|link| {
        let waits = if link.reaches.is_empty() {
            " (waits)"
        } else {
            ""
        };
        format!("link: {} {}{waits}", link.container, link.ports.join(" "))
    }));
    if !one.alive {
        lines.push("gone".to_owned());
    }
    Node { title, lines }
}
