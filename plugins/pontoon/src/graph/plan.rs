//! What is drawn, before anyone says how.

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

/// The whole host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) uplinks: Vec<Node>,
    pub(crate) groups: Vec<Group>,
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
        let own = attachments
            .iter()
            .filter(|one| one.network == network.name && one.mode == network.mode);
        Group {
            node: Node {
                title: network.name.clone(),
                lines,
            },
            members: own.map(member).collect(),
        }
    };
    Plan {
        uplinks,
        groups: networks.iter().map(group).collect(),
    }
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
    if !one.alive {
        lines.push("gone".to_owned());
    }
    Node { title, lines }
}
