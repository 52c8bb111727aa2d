//! nf_tables as the kernel tells it: tables, and the elements of their sets and maps with the
//! owner's note. Read by netlink, so that a machine without `nft` can show its rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use pontoon_lab::{Failure, Outcome};
use pontoon_netlink::attr::AttrReader;
use pontoon_netlink::{NetfilterSocket, Reply};

/// Subsystem nf_tables, in the high byte of a message's type (linux/netfilter/nf_tables.h).
const GETTABLE: u16 = (10 << 8) + 1;
const GETRULE: u16 = (10 << 8) + 7;
const GETSET: u16 = (10 << 8) + 10;
const GETSETELEM: u16 = (10 << 8) + 13;
const TABLE_NAME: u16 = 1;
const RULE_CHAIN: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_DATA_TYPE: u16 = 6;
const ELEM_KEY: u16 = 1;
const ELEM_DATA: u16 = 2;
const ELEM_FLAGS: u16 = 3;
const ELEM_USERDATA: u16 = 6;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
/// `NFT_SET_ELEM_INTERVAL_END`: only the far end of a range.
const INTERVAL_END: u32 = 1;

/// The tables of the calling thread's namespace, in words.
pub(crate) fn describe() -> Outcome<Vec<String>> {
    let act = "read the rules from the kernel";
    let mut socket = NetfilterSocket::open().map_err(Failure::act(act))?;
    let mut lines = Vec::new();
    for table in socket
        .dump(GETTABLE, &[0; 4], |_| {})
        .map_err(Failure::act(act))?
    {
        let Some(name) = text(&table, TABLE_NAME) else {
            continue;
        };
        lines.push(format!("table {} {name}", family(&table)));
        let filter = |attrs: &mut pontoon_netlink::attr::Attrs| attrs.cstr(TABLE_NAME, &name);
        let rules = socket
            .dump(GETRULE, &header(&table), filter)
            .map_err(Failure::act(act))?;
        let mut chains: Vec<String> = rules
            .iter()
            .filter_map(|rule| text(rule, RULE_CHAIN))
            .collect();
        chains.dedup();
        for chain in &chains {
            let count = rules
                .iter()
                .filter(|rule| text(rule, RULE_CHAIN).as_ref() == Some(chain))
                .count();
            lines.push(format!(
                "  chain {chain}: {count} rule{}, the same for every container",
                if count == 1 { "" } else { "s" }
            ));
        }
        for set in socket
            .dump(GETSET, &header(&table), filter)
            .map_err(Failure::act(act))?
        {
            if text(&set, SET_TABLE).as_deref() != Some(name.as_str()) {
                continue;
            }
            let types = [SET_KEY_TYPE, SET_DATA_TYPE].map(|kind| set.attrs().get(kind)?.u32be());
            let Some(set) = text(&set, SET_NAME) else {
                continue;
            };
            let replies = socket
                .dump(GETSETELEM, &header(&table), |attrs| {
                    attrs.cstr(ELEM_LIST_TABLE, &name);
                    attrs.cstr(ELEM_LIST_SET, &set);
                })
                .map_err(Failure::act(act))?;
            let elements: Vec<String> = replies
                .iter()
                .flat_map(|reply| elements(reply, types))
                .collect();
            if !elements.is_empty() {
                lines.push(format!("  {set}:"));
            }
            lines.extend(elements.into_iter().map(|element| format!("    {element}")));
        }
    }
    Ok(lines)
}

fn text(reply: &Reply, kind: u16) -> Option<String> {
    reply.attrs().get(kind).map(|attr| attr.text())
}

/// `struct nfgenmsg` of the same family.
fn header(reply: &Reply) -> [u8; 4] {
    [reply.payload.first().copied().unwrap_or_default(), 0, 0, 0]
}

fn family(reply: &Reply) -> &'static str {
    match reply.payload.first() {
        Some(1) => "inet",
        Some(2) => "ip",
        Some(7) => "bridge",
        Some(10) => "ip6",
        _ => "?",
    }
}

fn elements(reply: &Reply, types: [Option<u32>; 2]) -> Vec<String> {
    let Some(list) = reply.attrs().get(ELEM_LIST_ELEMENTS) else {
        return Vec::new();
    };
    let starts = |element: &AttrReader<'_>| {
        element
            .clone()
            .get(ELEM_FLAGS)
            .and_then(|flags| flags.u32be())
            != Some(INTERVAL_END)
    };
    list.nested()
        .map(|element| element.nested())
        .filter(starts)
        .map(|element| describe_element(&element, types))
        .collect()
}

/// Key, what it leads to, and the owner's note.
fn describe_element(element: &AttrReader<'_>, [key_type, data_type]: [Option<u32>; 2]) -> String {
    let part = |kind: u16| element.clone().get(kind).map(|attr| attr.nested());
    let value = |data: AttrReader<'_>, types: Option<u32>| {
        data.get(DATA_VALUE)
            .map(|attr| fields(attr.value, types.unwrap_or_default()))
    };
    let mut text = part(ELEM_KEY)
        .and_then(|key| value(key, key_type))
        .unwrap_or_default();
    let chain =
        |data: AttrReader<'_>| Some(data.get(DATA_VERDICT)?.nested().get(VERDICT_CHAIN)?.text());
    let target =
        part(ELEM_DATA).and_then(|data| chain(data.clone()).or_else(|| value(data, data_type)));
    if let Some(target) = target {
        text = format!("{text} -> {target}");
    }
    match element
        .clone()
        .get(ELEM_USERDATA)
        .and_then(|data| note(data.value))
    {
        Some(note) => format!("{text}  (of {note})"),
        None => text,
    }
}

/// Fields of a key: each begins at a multiple of four bytes; six bits of the type tell what each
/// is, the last field's lowest (libnftables' numbers).
fn fields(mut bytes: &[u8], types: u32) -> String {
    let mut words = Vec::new();
    for shift in [24, 18, 12, 6, 0] {
        let (kind, length) = match types >> shift & 0x3f {
            0 => continue,
            kind @ 7 => (kind, 4),
            kind @ (8 | 41) => (kind, 16),
            kind @ 9 => (kind, 6),
            kind @ 13 => (kind, 2),
            kind => (kind, 1),
        };
        let Some(field) = bytes.get(..length) else {
            break;
        };
        words.push(word(kind, field));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    words.join(" . ")
}

fn word(kind: u32, field: &[u8]) -> String {
    match (kind, field) {
        (7, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
        (8, field) => <[u8; 16]>::try_from(field)
            .map(|octets| Ipv6Addr::from(octets).to_string())
            .unwrap_or_default(),
        (12, [6]) => "tcp".to_owned(),
        (12, [17]) => "udp".to_owned(),
        (12, [132]) => "sctp".to_owned(),
        (13, &[high, low]) => u16::from_be_bytes([high, low]).to_string(),
        (41, field) => String::from_utf8_lossy(field)
            .trim_end_matches('\0')
            .to_owned(),
        (_, field) => field
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(":"),
    }
}

/// The comment: user data holds records of type, length, value; type 0 is the comment.
fn note(data: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = data else {
        return None;
    };
    let text = rest.get(..usize::from(*length))?;
    Some(
        String::from_utf8_lossy(text)
            .trim_end_matches('\0')
            .to_owned(),
    )
}
