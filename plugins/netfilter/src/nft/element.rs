//! Elements of sets and maps: how keys and data are laid out, how an owner is written beside them,
//! and how they are read back.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pontoon_netlink::attr::{self, Attr, Attrs};
use pontoon_netlink::{Frames, Reply};

use super::expression::{Verdict, interface, octets, verdict};
use super::message::{Batch, Family, NLM_F_CREATE, NLM_F_EXCL, kind, table};
use super::uapi::*;
use crate::policy::Link;
use crate::protocol::Protocol;

/// Elements in one message: the list must stay within the 64 kB of an attribute.
const PER_MESSAGE: usize = 200;

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
pub(super) fn put_comment(out: &mut Attrs, kind: u16, comment: &str) {
    let text = &comment.as_bytes()[..comment.len().min(250)];
    let mut data = vec![NFTNL_UDATA_COMMENT, text.len() as u8 + 1];
    data.extend_from_slice(text);
    data.push(0);
    out.bytes(kind, &data);
}

/// The comment in user data.
pub(super) fn comment(user_data: Attr<'_>) -> Option<String> {
    let mut rest = user_data.value;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == NFTNL_UDATA_COMMENT {
            return Some(attr::text(value));
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

impl Element {
    fn write(&self, out: &mut Attrs, whole: bool) {
        out.nested(NFTA_LIST_ELEM, |out| {
            write_key(out, &self.key);
            if !whole {
                return;
            }
            write_data(out, &self.data);
            put_comment(out, NFTA_SET_ELEM_USERDATA, &self.tag);
        });
        if let Some(end) = &self.end {
            out.nested(NFTA_LIST_ELEM, |out| {
                write_key(out, end);
                out.u32be(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            });
        }
    }
}

/// Writes what an element carries.
pub(super) fn write_data(out: &mut Attrs, data: &Data) {
    let decision = match data {
        Data::Nothing => return,
        Data::Value(value) => {
            out.nested(NFTA_SET_ELEM_DATA, |out| out.bytes(NFTA_DATA_VALUE, value));
            return;
        }
        Data::Jump(chain) => Verdict::Jump(chain),
        Data::Accept => Verdict::Accept,
        Data::Drop => Verdict::Drop,
        Data::Return => Verdict::Return,
    };
    out.nested(NFTA_SET_ELEM_DATA, |out| verdict(out, decision));
}

fn write_key(out: &mut Attrs, key: &[u8]) {
    out.nested(NFTA_SET_ELEM_KEY, |out| out.bytes(NFTA_DATA_VALUE, key));
}

/// Adds elements. With `exclusive` the batch fails with EEXIST when one is there already.
pub(super) fn add(batch: &mut Batch, family: Family, elements: &[Element], exclusive: bool) {
    let flags = if exclusive {
        NLM_F_CREATE | NLM_F_EXCL
    } else {
        NLM_F_CREATE
    };
    in_lists(elements, |list| {
        push_list(batch, NFT_MSG_NEWSETELEM, family, flags, list, true)
    });
}

/// Removes elements by key; the batch fails with ENOENT when one is gone.
pub(super) fn remove(batch: &mut Batch, family: Family, elements: &[Element]) {
    in_lists(elements, |list| {
        push_list(batch, NFT_MSG_DELSETELEM, family, 0, list, false)
    });
}

fn in_lists(elements: &[Element], mut each: impl FnMut(&[Element])) {
    for same_set in elements.chunk_by(|one, next| one.set == next.set) {
        same_set.chunks(PER_MESSAGE).for_each(&mut each);
    }
}

fn push_list(
    batch: &mut Batch,
    message: u16,
    family: Family,
    flags: u16,
    list: &[Element],
    whole: bool,
) {
    let Some(first) = list.first() else { return };
    batch.push(
        message,
        family,
        flags,
        format!("elements of {}", first.set),
        |out| {
            table(out);
            out.cstr(NFTA_SET_ELEM_LIST_SET, first.set);
            out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                list.iter().for_each(|element| element.write(out, whole))
            });
        },
    );
}

/// A question for one key.
pub(super) fn question(frames: &mut Frames, family: Family, set: &str, key: &[u8]) {
    frames.push(kind(NFT_MSG_GETSETELEM), 0, &family.header(), |out| {
        table(out);
        out.cstr(NFTA_SET_ELEM_LIST_SET, set);
        out.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
            out.nested(NFTA_LIST_ELEM, |out| write_key(out, key));
        });
    });
}

/// The elements in an answer.
pub(super) fn read(reply: &Reply) -> Vec<Found> {
    let Some(list) = reply.attrs().get(NFTA_SET_ELEM_LIST_ELEMENTS) else {
        return Vec::new();
    };
    list.nested()
        .filter_map(|element| {
            let data = element.nested().get(NFTA_SET_ELEM_DATA);
            let flags = element.nested().get(NFTA_SET_ELEM_FLAGS);
            let flags = flags.and_then(|flags| flags.u32be()).unwrap_or_default();
            let key = element
                .nested()
                .path([NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE])?;
            let user_data = element.nested().get(NFTA_SET_ELEM_USERDATA);
            Some(Found {
                key: key.value.to_vec(),
                data: data.map_or(Data::Nothing, read_data),
                tag: user_data.and_then(comment).unwrap_or_default(),
                interval_end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
            })
        })
        .collect()
}

fn read_data(data: Attr<'_>) -> Data {
    if let Some(value) = data.nested().get(NFTA_DATA_VALUE) {
        return Data::Value(value.value.to_vec());
    }
    let verdict = |kind| data.nested().path([NFTA_DATA_VERDICT, kind]);
    if let Some(chain) = verdict(NFTA_VERDICT_CHAIN) {
        return Data::Jump(chain.text());
    }
    let code = verdict(NFTA_VERDICT_CODE).and_then(|code| code.u32be());
    match code.map(u32::cast_signed) {
        Some(NF_ACCEPT) => Data::Accept,
        Some(NF_DROP) => Data::Drop,
        Some(NFT_RETURN) => Data::Return,
        _ => Data::Nothing,
    }
}
