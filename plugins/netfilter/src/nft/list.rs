//! Listings: for the rare moments when a lookup by key does not do.

use pontoon_netlink::Reply;

use super::element::{self, Data, Element, Found};
use super::error::Error;
use super::message::{Family, table};
use super::socket::Socket;
use super::uapi::*;

/// What refers to a chain, together with the rules in it: the kernel counts them as one.
pub(super) fn uses(chain: &Reply) -> Option<u32> {
    chain.attrs().get(NFTA_CHAIN_USE)?.u32be()
}

/// How many rules a chain has; `None` when there is no such table.
pub(super) fn rules_of(
    socket: &mut Socket,
    family: Family,
    chain: &str,
) -> Result<Option<u32>, Error> {
    let rules = socket.list(NFT_MSG_GETRULE, family, |out| {
        table(out);
        out.cstr(NFTA_RULE_CHAIN, chain);
    })?;
    Ok(rules.map(|rules| rules.len() as u32))
}

fn elements(socket: &mut Socket, family: Family, set: &str) -> Result<Vec<Found>, Error> {
    let pages = socket.list(NFT_MSG_GETSETELEM, family, |out| {
        table(out);
        out.cstr(NFTA_SET_ELEM_LIST_SET, set);
    })?;
    Ok(pages
        .unwrap_or_default()
        .iter()
        .flat_map(element::read)
        .collect())
}

/// The intervals of an interval map, as elements to be removed, and what each leads to.
pub(super) fn intervals(
    socket: &mut Socket,
    family: Family,
    set: &'static str,
) -> Result<Vec<(Element, Data)>, Error> {
    let found = elements(socket, family, set)?;
    Ok(found
        .iter()
        .filter(|start| !start.interval_end)
        .map(|start| {
            let end = found
                .iter()
                .filter(|end| end.interval_end && end.key > start.key)
                .map(|end| end.key.clone())
                .min();
            let element = Element {
                set,
                key: start.key.clone(),
                end,
                data: start.data.clone(),
                tag: start.tag.clone(),
            };
            (element, start.data.clone())
        })
        .collect())
}

/// Whether two intervals have an address in common.
pub(super) fn overlap(one: &Element, other: &Element) -> bool {
    let before = |a: &Element, b: &Element| a.end.as_ref().is_some_and(|end| *end <= b.key);
    !before(one, other) && !before(other, one)
}
