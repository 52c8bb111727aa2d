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
//!
//! The table is written as a whole, in one transaction, when what it was made of has changed. A digest of that is its
//! comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use pontoon_netlink::attr::Attrs;
use sha2::{Digest, Sha256};

use super::chain::{Hook, new_chain_of};
use super::element::{comment, put_comment};
use super::error::Error;
use super::expression::{Base, Compare, Meta, Rule, Verdict, octets};
use super::message::{Batch, Family, NLM_F_APPEND, NLM_F_CREATE, kind};
use super::socket::Socket;
use super::uapi::*;
use crate::interface::interface;

/// Offsets in a packet of the tunnel, from its UDP header: the VNI, then what stands behind 8 bytes of UDP, 8 of VXLAN
/// and 12 of addresses of Ethernet.
const VNI: u32 = 12;
const ETHERTYPE: u32 = 28;
const INNER: u32 = 30;
/// Elements in one message.
const PER_MESSAGE: usize = 200;

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
struct CutSet {
    name: String,
    v6: bool,
    prefix: u8,
    keys: BTreeSet<Vec<u8>>,
    /// Bytes of what stands before the address.
    before: usize,
}

/// Puts blocks into sets by family and prefix length.
fn cut_sets<'a>(
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

/// Numbers of nft's data types, which tell `nft list` how to print a key.
fn address_type(v6: bool) -> u32 {
    if v6 { 8 } else { 7 }
}

impl CutSet {
    fn write(&self, out: &mut Attrs, table: &str, id: u32) {
        let length = if self.v6 { 16 } else { 4 };
        let (mut kind, mut flags) = (address_type(self.v6), 0);
        if self.before > 0 {
            kind |= address_type(self.before == 16) << 6;
            flags |= NFT_SET_CONCAT;
        }
        out.cstr(NFTA_CHAIN_TABLE, table);
        out.cstr(NFTA_SET_NAME, &self.name);
        out.u32be(NFTA_SET_FLAGS, flags);
        out.u32be(NFTA_SET_KEY_TYPE, kind);
        out.u32be(NFTA_SET_KEY_LEN, (self.before + length) as u32);
        out.u32be(NFTA_SET_ID, id);
        if self.before > 0 {
            out.nested(NFTA_SET_DESC, |out| {
                out.nested(NFTA_SET_DESC_CONCAT, |out| {
                    for field in [self.before, length] {
                        out.nested(NFTA_LIST_ELEM, |out| {
                            out.u32be(NFTA_SET_FIELD_LEN, field as u32);
                        });
                    }
                });
            });
        }
    }
}

/// What the table holds.
struct Contents {
    sets: Vec<CutSet>,
    chains: Vec<(&'static str, Hook, Vec<Rule>)>,
}

fn contents(guard: &TunnelGuard) -> Result<Contents, Error> {
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
    let chains = vec![
        // Before a filter's own chain at 0 has a say.
        (
            "input",
            filter(NF_INET_LOCAL_IN, -10),
            input(guard, &from, outer_v6),
        ),
        // After fragments are put together, before connections are tracked.
        (
            "prerouting",
            filter(NF_INET_PRE_ROUTING, -290),
            prerouting(guard, &direct),
        ),
        ("forward", filter(NF_INET_FORWARD, -10), forward(guard)),
    ];
    let mut sets = from;
    sets.extend(direct);
    Ok(Contents { sets, chains })
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

/// The same for the same guard, whatever the order of its lists.
fn digest(contents: &Contents) -> String {
    let mut hash = Sha256::new();
    for set in &contents.sets {
        hash.update(&set.name);
        for key in &set.keys {
            hash.update(key);
        }
    }
    for (name, hook, rules) in &contents.chains {
        hash.update(name);
        hash.update(hook.priority.to_be_bytes());
        for rule in rules {
            hash.update(rule.0.as_bytes());
            hash.update([0]);
        }
    }
    let mut text = String::from("pontoon ");
    for byte in hash.finalize().iter().take(8) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The comment of a table; `None` when there is no such table.
fn comment_of(socket: &mut Socket, table: &str) -> Result<Option<String>, Error> {
    let answers = socket.ask(1, |frames, _| {
        let header = Family::Inet.header();
        frames.push(kind(NFT_MSG_GETTABLE), 0, &header, |out| {
            out.cstr(NFTA_TABLE_NAME, table);
        });
    })?;
    let Some(Some(reply)) = answers.into_iter().next() else {
        return Ok(None);
    };
    let user_data = reply.attrs().get(NFTA_TABLE_USERDATA);
    Ok(Some(user_data.and_then(comment).unwrap_or_default()))
}

fn remove_table(batch: &mut Batch, table: &str) {
    batch.push(
        NFT_MSG_DELTABLE,
        Family::Inet,
        0,
        format!("the table {table}"),
        |out| out.cstr(NFTA_TABLE_NAME, table),
    );
}

/// What had to be done about a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// It was as it should be.
    None,
    /// There was none.
    Made,
    /// It held something else.
    Replaced,
}

/// Makes the table what the guard says.
pub(super) fn apply(socket: &mut Socket, guard: &TunnelGuard) -> Result<TableChange, Error> {
    let contents = contents(guard)?;
    let (table, digest) = (table_name(&guard.device), digest(&contents));
    let there = comment_of(socket, &table)?;
    if there.as_ref() == Some(&digest) {
        return Ok(TableChange::None);
    }
    let mut batch = Batch::default();
    if there.is_some() {
        remove_table(&mut batch, &table);
    }
    batch.push(
        NFT_MSG_NEWTABLE,
        Family::Inet,
        NLM_F_CREATE,
        format!("the table {table}"),
        |out| {
            out.cstr(NFTA_TABLE_NAME, &table);
            out.u32be(NFTA_TABLE_FLAGS, 0);
            put_comment(out, NFTA_TABLE_USERDATA, &digest);
        },
    );
    for (id, set) in (1u32..).zip(&contents.sets) {
        let object = format!("set {}", set.name);
        batch.push(NFT_MSG_NEWSET, Family::Inet, NLM_F_CREATE, object, |out| {
            set.write(out, &table, id);
        });
        let keys: Vec<&Vec<u8>> = set.keys.iter().collect();
        for keys in keys.chunks(PER_MESSAGE) {
            let object = format!("elements of set {}", set.name);
            batch.push(
                NFT_MSG_NEWSETELEM,
                Family::Inet,
                NLM_F_CREATE,
                object,
                |out| {
                    out.cstr(NFTA_CHAIN_TABLE, &table);
                    out.cstr(NFTA_SET_ELEM_LIST_SET, &set.name);
                    out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                        for key in keys {
                            out.nested(NFTA_LIST_ELEM, |out| {
                                out.nested(NFTA_SET_ELEM_KEY, |out| {
                                    out.bytes(NFTA_DATA_VALUE, key)
                                });
                            });
                        }
                    });
                },
            );
        }
    }
    for (name, hook, rules) in &contents.chains {
        new_chain_of(&mut batch, &table, Family::Inet, name, Some(hook), None);
        for rule in rules {
            let object = format!("a rule in chain {name} of {table}");
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            batch.push(NFT_MSG_NEWRULE, Family::Inet, flags, object, |out| {
                out.cstr(NFTA_RULE_TABLE, &table);
                out.cstr(NFTA_RULE_CHAIN, name);
                out.nested(NFTA_RULE_EXPRESSIONS, |out| out.append(rule.0.as_bytes()));
            });
        }
    }
    socket.commit(batch)??;
    Ok(match there {
        Some(_) => TableChange::Replaced,
        None => TableChange::Made,
    })
}

/// Removes the table of a device. False when there was none.
pub(super) fn remove(socket: &mut Socket, device: &str) -> Result<bool, Error> {
    let table = table_name(device);
    if comment_of(socket, &table)?.is_none() {
        return Ok(false);
    }
    let mut batch = Batch::default();
    remove_table(&mut batch, &table);
    match socket.commit(batch)? {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.subject.is_some() && refusal.why.errno == Errno::ENOENT => {
            Ok(false)
        }
        Err(refusal) => Err(refusal.into()),
    }
}
