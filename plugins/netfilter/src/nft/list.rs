//! Listings: for the rare moments when a lookup by key does not do, and for the admin's tools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attr;
use super::element::{self, Data, Element, Found};
use super::error::Error;
use super::message::{Family, Verb, table};
use super::sets::{V4, V6};
use super::socket::Socket;
use crate::rules::{Port, Protocol};

/// A published port as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPort {
    /// The port on the host and in the container.
    pub port: Port,
    /// The container's address.
    pub target: IpAddr,
    /// The owner's tag.
    pub tag: String,
}

/// How many rules a chain has; `None` when there is no such table.
pub(super) fn rules_of(
    socket: &mut Socket,
    family: Family,
    chain: &str,
) -> Result<Option<u32>, Error> {
    let rules = socket.list(Verb::GetRule, family, |out| {
        table(out);
        attr::put_str(out, 2, chain);
    })?;
    Ok(rules.map(|rules| rules.len() as u32))
}

fn elements(socket: &mut Socket, family: Family, set: &str) -> Result<Vec<Found>, Error> {
    let pages = socket.list(Verb::GetElements, family, |out| {
        table(out);
        attr::put_str(out, 2, set);
    })?;
    Ok(pages
        .unwrap_or_default()
        .iter()
        .flat_map(|page| element::read(page))
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

/// All published ports without conditions.
pub(super) fn published(socket: &mut Socket) -> Result<Vec<ListedPort>, Error> {
    let mut ports = Vec::new();
    for set in [V4.ports_at, V4.ports, V6.ports_at, V6.ports] {
        let found = elements(socket, Family::Inet, set)?;
        ports.extend(found.into_iter().filter_map(|found| listed(&found)));
    }
    Ok(ports)
}

fn listed(found: &Found) -> Option<ListedPort> {
    let (key, port) = found.key.split_last_chunk::<4>()?;
    let (host, protocol) = key.split_last_chunk::<4>()?;
    let Data::Value(data) = &found.data else {
        return None;
    };
    let (target, container_port) = data.split_last_chunk::<4>()?;
    let number = |field: &[u8; 4]| u16::from_be_bytes([field[0], field[1]]);
    Some(ListedPort {
        port: Port {
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|known| known.number() == protocol[0])?,
            host_ip: address(host),
            host_port: number(port),
            container_port: number(container_port),
        },
        target: address(target)?,
        tag: found.tag.clone(),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}
