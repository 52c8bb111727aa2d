//! Elements of sets and maps: how keys and data are laid out, how an owner is written beside them,
//! and how they are read back.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::attr::{self, Attributes, nest, put, put_str, put_u32};
use super::expression::{Verdict, interface, octets, verdict};
use super::message::{Batch, CREATE, EXCL, Family, Verb, message, table};
use crate::policy::Link;
use crate::rules::Protocol;

/// Elements in one message: the list must stay within the 64 kB of an attribute.
const PER_MESSAGE: usize = 200;
const INTERVAL_END: u32 = 1;

/// What an element carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Nothing,
    Value(Vec<u8>),
    Jump(String),
    Accept,
    Drop,
    Return,
}

/// An element as we want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// The first key beyond, for a subnet in an interval map; absent also when the subnet reaches
    /// to the end of the address space.
    pub(super) end: Option<Vec<u8>>,
    pub(super) data: Data,
    /// The owner's tag.
    pub(super) tag: String,
}

/// An element as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: Vec<u8>,
    pub(super) data: Data,
    pub(super) tag: String,
    pub(super) interval_end: bool,
}

/// Key of the ports maps: each field starts at a multiple of four bytes.
pub(super) fn port_key(at: Option<IpAddr>, protocol: Protocol, port: u16) -> Vec<u8> {
    let mut key = at.map(octets).unwrap_or_default();
    key.extend_from_slice(&[protocol.number(), 0, 0, 0]);
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

/// Data of the ports maps.
pub(super) fn target(address: IpAddr, port: u16) -> Data {
    let mut data = octets(address);
    data.extend_from_slice(&port.to_be_bytes());
    data.extend_from_slice(&[0, 0]);
    Data::Value(data)
}

/// Key of the sets of interfaces.
pub(super) fn interface_key(name: &str) -> Vec<u8> {
    interface(name).to_vec()
}

/// The interface name that a key begins with.
pub(super) fn first_name(key: &[u8]) -> String {
    attr::text(key.get(..16).unwrap_or(key))
}

/// Key of the sets of pairs of interfaces.
pub(super) fn pair_key(input: &str, output: &str) -> Vec<u8> {
    let mut key = interface_key(input);
    key.extend_from_slice(&interface(output));
    key
}

/// Key of the sets of links.
pub(super) fn link_key(link: &Link) -> Vec<u8> {
    let mut key = interface_key(&link.bridge);
    key.extend(octets(link.from));
    key.extend(octets(link.to));
    key.extend(port_key(None, link.protocol, link.port));
    key
}

/// Key of the set of interfaces with the MAC they may use.
pub(super) fn interface_mac_key(name: &str, mac: [u8; 6]) -> Vec<u8> {
    let mut key = interface_key(name);
    key.extend_from_slice(&mac);
    key.extend_from_slice(&[0, 0]);
    key
}

/// First address of a subnet, and the first one beyond it unless that does not exist.
pub(super) fn subnet_keys(subnet: IpNetwork) -> (Vec<u8>, Option<Vec<u8>>) {
    let start = octets(subnet.network());
    let mut end = octets(subnet.broadcast());
    for byte in end.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return (start, Some(end));
        }
    }
    (start, None)
}

/// Writes a comment as nft does: user data, type 0, length, text with NUL.
pub(super) fn put_comment(out: &mut Vec<u8>, kind: u16, comment: &str) {
    let text = &comment.as_bytes()[..comment.len().min(250)];
    let mut data = vec![0, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    put(out, kind, &data);
}

/// Reads one.
pub(super) fn comment(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(attr::text(value));
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

impl Element {
    fn write(&self, out: &mut Vec<u8>, whole: bool) {
        nest(out, 1, |out| {
            nest(out, 1, |out| put(out, 1, &self.key));
            if !whole {
                return;
            }
            match &self.data {
                Data::Nothing => {}
                Data::Value(value) => nest(out, 2, |out| put(out, 1, value)),
                Data::Jump(chain) => nest(out, 2, |out| verdict(out, Verdict::Jump(chain))),
                Data::Accept => nest(out, 2, |out| verdict(out, Verdict::Accept)),
                Data::Drop => nest(out, 2, |out| verdict(out, Verdict::Drop)),
                Data::Return => nest(out, 2, |out| verdict(out, Verdict::Return)),
            }
            put_comment(out, 6, &self.tag);
        });
        if let Some(end) = &self.end {
            nest(out, 1, |out| {
                nest(out, 1, |out| put(out, 1, end));
                put_u32(out, 3, INTERVAL_END);
            });
        }
    }
}

/// Adds elements. With `exclusive` the batch fails with EEXIST when one is there already.
pub(super) fn add(batch: &mut Batch, family: Family, elements: &[Element], exclusive: bool) {
    let flags = if exclusive { CREATE | EXCL } else { CREATE };
    in_lists(elements, |list| {
        push_list(batch, Verb::NewElements, family, flags, list, true)
    });
}

/// Removes elements by key; the batch fails with ENOENT when one is gone.
pub(super) fn remove(batch: &mut Batch, family: Family, elements: &[Element]) {
    in_lists(elements, |list| {
        push_list(batch, Verb::DelElements, family, 0, list, false)
    });
}

fn in_lists(elements: &[Element], mut each: impl FnMut(&[Element])) {
    for same_set in elements.chunk_by(|one, next| one.set == next.set) {
        same_set.chunks(PER_MESSAGE).for_each(&mut each);
    }
}

fn push_list(
    batch: &mut Batch,
    verb: Verb,
    family: Family,
    flags: u16,
    list: &[Element],
    whole: bool,
) {
    let Some(first) = list.first() else { return };
    batch.push(
        verb,
        family,
        flags,
        format!("elements of {}", first.set),
        |out| {
            table(out);
            put_str(out, 2, first.set);
            nest(out, 3, |out| {
                list.iter().for_each(|element| element.write(out, whole))
            });
        },
    );
}

/// A question for one key.
pub(super) fn question(out: &mut Vec<u8>, family: Family, set: &str, key: &[u8], sequence: u32) {
    message(out, Verb::GetElements, family, 0, sequence, |out| {
        table(out);
        put_str(out, 2, set);
        nest(out, 3, |out| {
            nest(out, 1, |out| nest(out, 1, |out| put(out, 1, key)))
        });
    });
}

/// The elements in an answer.
pub(super) fn read(body: &[u8]) -> Vec<Found> {
    Attributes::new(Attributes::find(body, 3).unwrap_or_default())
        .filter_map(|(_, element)| {
            let data = Attributes::find(element, 2).unwrap_or_default();
            let data = match (Attributes::find(data, 1), Attributes::path(data, &[2, 2])) {
                (Some(value), _) => Data::Value(value.to_vec()),
                (None, Some(chain)) => Data::Jump(attr::text(chain)),
                (None, None) => {
                    let code = Attributes::path(data, &[2, 1]).and_then(attr::number);
                    match code.map(u32::cast_signed) {
                        Some(1) => Data::Accept,
                        Some(0) => Data::Drop,
                        Some(-5) => Data::Return,
                        _ => Data::Nothing,
                    }
                }
            };
            let flags = Attributes::find(element, 3)
                .and_then(attr::number)
                .unwrap_or_default();
            Some(Found {
                key: Attributes::path(element, &[1, 1])?.to_vec(),
                data,
                tag: Attributes::find(element, 6)
                    .and_then(comment)
                    .unwrap_or_default(),
                interval_end: flags & INTERVAL_END != 0,
            })
        })
        .collect()
}
