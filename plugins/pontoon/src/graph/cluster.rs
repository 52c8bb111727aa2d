//! The other hosts: the part of each of a network, from the files that the agent writes.

use pontoon_ledger::overlay::{OverlayFiles, OverlayNetwork, OverlayPeer};
use pontoon_ledger::record::names::{Record, RemoteNames};
use pontoon_overlay::tunnel::Wanted;

use super::plan::{Group, Node, Plan};
use crate::doctor::cluster::dead_hosts;
use crate::facts::Host;
use crate::report::{Failure, short};

/// Adds the other hosts to the drawing, each once for each network that it has a part of, and says at this host's
/// networks what its part is.
pub(super) fn add(plan: &mut Plan, host: &Host) -> Result<(), Failure> {
    let files = OverlayFiles::locate()?;
    let dead = dead_hosts(&host.state.node_socket());
    for network in files.networks()? {
        let Some(wanted) = Wanted::read(&files, &network)? else {
            continue;
        };
        let own = &wanted.network;
        if let Some(group) = plan.groups.iter_mut().find(|it| it.node.title == network) {
            group.node.lines.push(part(&own.host, &own.blocks));
        }
        let names = host.record_of_network::<RemoteNames>(&network);
        let names = names.unwrap_or_default().records;
        for peer in &wanted.peers.peers {
            let state = match &dead {
                Ok(dead) if dead.contains(&peer.host) => "dead",
                Ok(_) => "alive",
                Err(_) => "state unknown: no pontoon-node answers",
            };
            plan.groups.push(group(own, peer, state, &names));
        }
    }
    Ok(())
}

fn part(host: &str, blocks: &[pontoon_conf::Cidr]) -> String {
    let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
    format!("host {host}: {}", blocks.join(" "))
}

fn group(network: &OverlayNetwork, peer: &OverlayPeer, state: &str, names: &[Record]) -> Group {
    let mut lines = vec![part(&peer.host, &peer.blocks), state.to_owned()];
    let addresses = [true, false].map(|v4| peer.underlay.family(v4));
    lines.extend(addresses.into_iter().flatten().map(|it| format!("at {it}")));
    let its = names.iter().filter_map(|record| {
        let (host, container) = record.container.split_once('/')?;
        (host == peer.host).then_some((container, record))
    });
    Group {
        node: Node {
            title: format!("{} on {}", network.network, peer.host),
            lines,
        },
        members: its.map(|(id, record)| member(id, record)).collect(),
    }
}

fn member(id: &str, record: &Record) -> Node {
    let name = record.names.first().or(record.aliases.first());
    let mut lines = vec![short(id)];
    lines.extend(record.addresses.iter().map(ToString::to_string));
    Node {
        title: name.cloned().unwrap_or_else(|| short(id)),
        lines,
    }
}
