//! What protects the way of a network to its other hosts: a table of its own for each network.
//!
//! ```text
//! table inet pontoon-DEVICE
//!     set from4_24       sender . source, the source cut to the length of its block; of each family and length
//!     chain input        packets of the tunnel: only of the other hosts, and of each only what is in its blocks
//!     set direct4_24     source cut to the length of its block
//!     chain prerouting   packets of the network that come in by the uplink as they are: only of those hosts' blocks
//!     chain forward      between the tunnel and the network's own containers, nothing else
//! ```
//!
//! VXLAN is not authenticated. The sender of a packet is taken for what its outer source address says, as the network
//! below is trusted; what is inside must be from one of that sender's blocks. The check is made on the outer packet,
//! before it is unpacked: then no hardware address that a sender may choose has a say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::chain::Hook;
use super::element::Data;
use super::error::Error;
use super::expression::{Base, Compare, Meta, Rule, Verdict, octets};
use super::own_table::{self, OwnChain, OwnSet, OwnTable, TableChange};
use super::sets::{ElementData, Field};
use super::socket::Socket;
use super::uapi::*;
use crate::interface::interface;

/// Offsets in a packet of the tunnel, from its UDP header: the VNI, then what stands behind 8 bytes of UDP, 8 of VXLAN
/// and 12 of addresses of Ethernet.
const VNI: u32 = 12;
const ETHERTYPE: u32 = 28;
const INNER: u32 = 30;

/// What passes between a network and its other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelGuard {
    /// Name of the tunnel's device; also of the table. In mode direct there is no such device.
    pub device: String,
    /// The network's number in the tunnel.
    pub vni: u32,
    /// UDP port of the tunnel.
    pub port: u16,
    /// The subnets of the whole network.
    pub subnets: Vec<IpNetwork>,
    /// The other hosts by their addresses in the network below, each with its blocks.
    pub senders: Vec<(IpAddr, Vec<IpNetwork>)>,
    /// The interfaces by which packets of other hosts may come in as they are.
    pub uplinks: Vec<String>,
    /// The blocks of which they may be.
    pub direct: Vec<IpNetwork>,
}

fn table_name(device: &str) -> String {
    format!("pontoon-{device}")
}

/// A set of keys that end with an address, cut to one length.
pub(super) struct CutSet {
    pub(super) name: String,
    pub(super) v6: bool,
    pub(super) prefix: u8,
    keys: BTreeSet<Vec<u8>>,
    /// Bytes of what stands before the address.
    before: usize,
}

/// Puts blocks into sets by family and prefix length.
pub(super) fn cut_sets<'a>(
    word: &str,
    before: usize,
    blocks: impl Iterator<Item = (Vec<u8>, &'a IpNetwork)>,
) -> Vec<CutSet> {
    let mut sets: BTreeMap<(bool, u8), CutSet> = BTreeMap::new();
    for (mut key, block) in blocks {
        let (v6, prefix) = (block.is_ipv6(), block.prefix());
        let family = if v6 { 6 } else { 4 };
        let set = sets.entry((v6, prefix)).or_insert_with(|| CutSet {
            name: format!("{word}{family}_{prefix}"),
            v6,
            prefix,
            keys: BTreeSet::new(),
            before,
        });
        key.extend(octets(block.network()));
        set.keys.insert(key);
    }
    sets.into_values().collect()
}

impl From<CutSet> for OwnSet {
    fn from(set: CutSet) -> Self {
        let key: &'static [Field] = match (set.before, set.v6) {
            (0, false) => &[Field::Ipv4],
            (0, true) => &[Field::Ipv6],
            (4, false) => &[Field::Ipv4, Field::Ipv4],
            (4, true) => &[Field::Ipv4, Field::Ipv6],
            (_, false) => &[Field::Ipv6, Field::Ipv4],
            (_, true) => &[Field::Ipv6, Field::Ipv6],
        };
        Self {
            name: set.name,
            key,
            carries: ElementData::Nothing,
            elements: set
                .keys
                .into_iter()
                .map(|key| (key, Data::Nothing))
                .collect(),
        }
    }
}

fn table(guard: &TunnelGuard) -> Result<OwnTable, Error> {
    interface(&guard.device)?;
    for uplink in &guard.uplinks {
        interface(uplink)?;
    }
    let outer_v6 = guard.senders.iter().any(|(address, _)| address.is_ipv6());
    let outer = if outer_v6 { 16 } else { 4 };
    let senders = guard
        .senders
        .iter()
        .filter(|(address, _)| address.is_ipv6() == outer_v6)
        .flat_map(|(address, blocks)| blocks.iter().map(|block| (octets(*address), block)));
    let from = cut_sets("from", outer, senders);
    let direct = cut_sets(
        "direct",
        0,
        guard.direct.iter().map(|block| (Vec::new(), block)),
    );
    let filter = |number, priority| Hook {
        kind: "filter",
        number,
        priority,
    };
    let chain = |name: &str, hook, rules| OwnChain {
        name: name.to_owned(),
        hook: Some(hook),
        rules,
    };
    let chains = vec![
        // Before a filter's own chain at 0 has a say.
        chain(
            "input",
            filter(NF_INET_LOCAL_IN, -10),
            input(guard, &from, outer_v6),
        ),
        // After fragments are put together, before connections are tracked.
        chain(
            "prerouting",
            filter(NF_INET_PRE_ROUTING, -290),
            prerouting(guard, &direct),
        ),
        chain("forward", filter(NF_INET_FORWARD, -10), forward(guard)),
    ];
    Ok(OwnTable {
        name: table_name(&guard.device),
        sets: from.into_iter().chain(direct).map(OwnSet::from).collect(),
        chains,
    })
}

/// A packet of this network's tunnel.
fn of_tunnel(guard: &TunnelGuard) -> Rule {
    const UDP: u8 = 17;
    let [_, vni @ ..] = guard.vni.to_be_bytes();
    Rule::default()
        .meta(Meta::Transport)
        .compare(Compare::Equal, &[UDP])
        .payload(Base::Transport, 2, 2)
        .compare(Compare::Equal, &guard.port.to_be_bytes())
        .payload(Base::Transport, VNI, 3)
        .compare(Compare::Equal, &vni)
}

fn input(guard: &TunnelGuard, from: &[CutSet], outer_v6: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for set in from {
        let (ethertype, source): (u16, u32) = if set.v6 { (0x86dd, 8) } else { (0x0800, 12) };
        rules.push(
            of_tunnel(guard)
                .payload(Base::Transport, ETHERTYPE, 2)
                .compare(Compare::Equal, &ethertype.to_be_bytes())
                .family(outer_v6)
                .sender_and_cut_source(outer_v6, INNER + source, set.v6, set.prefix)
                .in_set(&set.name)
                .verdict(Verdict::Accept),
        );
    }
    rules.push(of_tunnel(guard).verdict(Verdict::Drop));
    rules
}

fn prerouting(guard: &TunnelGuard, direct: &[CutSet]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for uplink in &guard.uplinks {
        let came_in = || Rule::default().named(Meta::InputName, Compare::Equal, uplink);
        for set in direct {
            rules.push(
                came_in()
                    .family(set.v6)
                    .cut_source(set.v6, set.prefix)
                    .in_set(&set.name)
                    .verdict(Verdict::Accept),
            );
        }
        for subnet in &guard.subnets {
            rules.push(
                came_in()
                    .address(true, Compare::Equal, *subnet)
                    .verdict(Verdict::Drop),
            );
        }
    }
    rules
}

fn forward(guard: &TunnelGuard) -> Vec<Rule> {
    let by = |key| Rule::default().named(key, Compare::Equal, &guard.device);
    let mut rules = Vec::new();
    // Published by another host: its client may be anyone.
    for key in [Meta::InputName, Meta::OutputName] {
        rules.push(by(key).was_redirected().verdict(Verdict::Accept));
    }
    for v6 in [false, true] {
        let subnet = guard.subnets.iter().find(|it| it.is_ipv6() == v6);
        // Into the tunnel only what is of the network, out of it only what is for the network.
        for (key, source) in [(Meta::OutputName, true), (Meta::InputName, false)] {
            rules.push(match subnet {
                Some(subnet) => by(key).address(source, Compare::Differs, *subnet),
                None => by(key).family(v6),
            });
            let last = rules.pop().unwrap_or_default();
            rules.push(last.verdict(Verdict::Drop));
        }
    }
    // A container of another network that writes an address of this one as its own.
    rules.push(
        by(Meta::OutputName)
            .not_the_way_back()
            .verdict(Verdict::Drop),
    );
    for uplink in &guard.uplinks {
        for subnet in &guard.subnets {
            let leaves = || {
                Rule::default()
                    .named(Meta::OutputName, Compare::Equal, uplink)
                    .address(false, Compare::Equal, *subnet)
            };
            rules.push(leaves().was_redirected().verdict(Verdict::Accept));
            rules.push(
                leaves()
                    .address(true, Compare::Differs, *subnet)
                    .verdict(Verdict::Drop),
            );
            rules.push(leaves().not_the_way_back().verdict(Verdict::Drop));
        }
    }
    rules
}

/// Makes the table what the guard says.
pub(super) fn apply(socket: &mut Socket, guard: &TunnelGuard) -> Result<TableChange, Error> {
    table(guard)?.apply(socket)
}

/// Removes the table of a device. False when there was none.
pub(super) fn remove(socket: &mut Socket, device: &str) -> Result<bool, Error> {
    own_table::remove(socket, &table_name(device))
}
