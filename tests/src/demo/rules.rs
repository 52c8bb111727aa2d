//! nf_tables as the kernel tells it: tables, and the elements of their sets and maps with the
//! owner's note. Read by netlink, so that a machine without `nft` can show its rules.

use pontoon_netlink::attr::AttrReader;
use pontoon_netlink::{NetfilterSocket, Reply};
use xtask::{Failure, Outcome};

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
const ELEM_USERDATA: u16 = 6;

/// The tables of the calling thread's namespace, in words.
pub(crate) fn describe() -> Outcome<Vec<String>> {
    let act = "read the rules from the kernel";
    let mut socket = NetfilterSocket::open().map_err(Failure::act(act))?;
    let mut lines = Vec::new();
    for table in socket.dump(GETTABLE, &[0; 4], |_| {}).map_err(Failure::act(act))? {
        let Some(name) = text(&table, TABLE_NAME) else { continue };
        lines.push(format!("table {} {name}", family(&table)));
        let filter = |attrs: &mut pontoon_netlink::attr::Attrs| attrs.cstr(TABLE_NAME, &name);
        let rules = socket.dump(GETRULE, &header(&table), filter).map_err(Failure::act(act))?;
        let mut chains: Vec<String> = rules.iter().filter_map(|rule| text(rule, RULE_CHAIN)).collect();
        chains.dedup();
        for chain in &chains {
            let count = rules.iter().filter(|rule| text(rule, RULE_CHAIN).as_ref() == Some(chain)).count();
            lines.push(format!("  chain {chain}: {count} rules, the same for every container"));
        }
        for set in socket.dump(GETSET, &header(&table), filter).map_err(Failure::act(act))? {
            if text(&set, SET_TABLE).as_deref() != Some(name.as_str()) {
                continue;
            }
            let Some(set) = text(&set, SET_NAME) else { continue };
            let replies = socket
                .dump(GETSETELEM, &header(&table), |attrs| {
                    attrs.cstr(ELEM_LIST_TABLE, &name);
                    attrs.cstr(ELEM_LIST_SET, &set);
                })
                .map_err(Failure::act(act))?;
            let elements: Vec<String> = replies.iter().flat_map(elements).collect();
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

fn elements(reply: &Reply) -> Vec<String> {
    let Some(list) = reply.attrs().get(ELEM_LIST_ELEMENTS) else { return Vec::new() };
    list.nested().map(|element| note(element.nested())).collect()
}

/// The comment: user data holds records of type, length, value; type 0 is the comment.
fn note(element: AttrReader<'_>) -> String {
    let Some(data) = element.get(ELEM_USERDATA) else { return "an element".to_owned() };
    match data.value {
        [0, length, rest @ ..] => {
            let text = &rest[..usize::from(*length).min(rest.len())];
            format!("an element of {}", String::from_utf8_lossy(text).trim_end_matches('\0'))
        }
        _ => "an element".to_owned(),
    }
}
