//! Routes.

mod encode;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use nix::errno::Errno;

use crate::attr::{self, Attr, AttrReader};
use crate::error::Error;
use crate::frame::Frame;
use crate::link::Link;
use crate::route::RouteSocket;

pub(crate) use encode::{Group, group, removal};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
pub(crate) const RTM_GETROUTE: u16 = 26;
/// `struct rtmsg`, and `struct rtnexthop` in a multipath route.
const HEADER: usize = 12;
const NEXT_HOP: usize = 8;
/// `RT_TABLE_MAIN`.
const MAIN: u32 = 254;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// `RTPROT_RA`.
const ADVERTISED: u8 = 9;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// A route to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteSpec {
    /// Where to.
    pub dst: IpNetwork,
    /// Through whom; of the other family is possible for IPv4 (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Out of which link.
    pub interface: Option<u32>,
    /// The source address for packets of this machine; one that it has.
    pub prefsrc: Option<IpAddr>,
    /// Path MTU.
    pub mtu: Option<u32>,
    /// MSS to announce.
    pub advmss: Option<u32>,
    /// Metric; the lowest wins.
    pub priority: Option<u32>,
    /// Table, the main one by default.
    pub table: Option<u32>,
    /// `RT_SCOPE_*`. By default an IPv4 route without gateway has link scope (253), so that a later route's gateway can
    /// be found through it; others are universal (0).
    pub scope: Option<u8>,
    /// `RTPROT_*`: which program has made it. By default 3, an administrator's.
    pub protocol: Option<u8>,
    /// The gateway is on the link, whatever the addresses there say.
    pub onlink: bool,
    /// Packets are refused (ICMP "host unreachable"). Such a route has no gateway and no link.
    pub unreachable: bool,
}

impl RouteSpec {
    /// A route with nothing but a destination.
    #[must_use]
    pub fn to(dst: IpNetwork) -> RouteSpec {
        RouteSpec {
            dst,
            gateway: None,
            interface: None,
            prefsrc: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
            protocol: None,
            onlink: false,
            unreachable: false,
        }
    }
}

impl std::fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "route to {}", self.dst)?;
        self.gateway
            .map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteEntry {
    /// Where to.
    pub destination: IpNetwork,
    /// Through whom; of a multipath route the first one.
    pub gateway: Option<IpAddr>,
    /// Out of which link; of a multipath route the first one.
    pub interface: Option<u32>,
    /// The source address for packets of this machine.
    pub prefsrc: Option<IpAddr>,
    /// Metric.
    pub priority: Option<u32>,
    /// Table.
    pub table: u32,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// `RTPROT_*`: 2 is the kernel's own, 3 what an administrator (or we) made.
    pub protocol: u8,
    /// `RTN_*`: 1 is unicast.
    pub kind: u8,
    /// Path MTU.
    pub mtu: Option<u32>,
    /// MSS to announce.
    pub advmss: Option<u32>,
    /// All ways of a multipath route; empty for others.
    pub next_hops: Vec<NextHop>,
}

/// A packet whose way is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuestion {
    /// Its source; without one the kernel chooses it.
    pub source: Option<IpAddr>,
    /// Its destination.
    pub destination: IpAddr,
    /// The link it comes in by; none for a packet of this machine.
    pub came_in_by: Option<u32>,
    /// Its mark.
    pub mark: u32,
}

/// One way of a multipath route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextHop {
    /// Through whom.
    pub gateway: Option<IpAddr>,
    /// Out of which link.
    pub interface: Option<u32>,
}

impl RouteEntry {
    /// Whether it leads everywhere.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0 && self.kind == UNICAST
    }

    /// Whether it came by a router advertisement.
    #[must_use]
    pub fn is_advertised(&self) -> bool {
        self.protocol == ADVERTISED
    }

    pub(crate) fn parse(payload: &[u8]) -> Option<RouteEntry> {
        let header = payload.get(..HEADER)?;
        let any = match i32::from(header[0]) {
            libc::AF_INET => IpAddr::from([0; 4]),
            libc::AF_INET6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let mut entry = RouteEntry {
            destination: IpNetwork::new(any, 0).ok()?,
            gateway: None,
            interface: None,
            prefsrc: None,
            priority: None,
            table: header[4].into(),
            protocol: header[5],
            scope: header[6],
            kind: header[7],
            mtu: None,
            advmss: None,
            next_hops: Vec::new(),
        };
        for attr in attr::read(&payload[HEADER..]) {
            match attr.kind {
                RTA_DST => entry.destination = IpNetwork::new(attr.ip()?, header[1]).ok()?,
                RTA_OIF => entry.interface = attr.u32(),
                RTA_GATEWAY | RTA_VIA => entry.gateway = gateway(attr),
                RTA_PREFSRC => entry.prefsrc = attr.ip(),
                RTA_PRIORITY => entry.priority = attr.u32(),
                RTA_TABLE => entry.table = attr.u32().unwrap_or(entry.table),
                RTA_METRICS => entry.read_metrics(attr.nested()),
                RTA_MULTIPATH => entry.next_hops = next_hops(attr.value),
                _ => {}
            }
        }
        if let (None, None, Some(first)) = (entry.interface, entry.gateway, entry.next_hops.first())
        {
            (entry.interface, entry.gateway) = (first.interface, first.gateway);
        }
        Some(entry)
    }

    fn read_metrics(&mut self, metrics: AttrReader<'_>) {
        for metric in metrics {
            match metric.kind {
                RTAX_MTU => self.mtu = metric.u32(),
                RTAX_ADVMSS => self.advmss = metric.u32(),
                _ => {}
            }
        }
    }
}

/// `RTA_VIA` has its address behind two bytes of family.
fn gateway(attr: Attr<'_>) -> Option<IpAddr> {
    if attr.kind == RTA_VIA {
        Attr {
            kind: RTA_VIA,
            value: attr.value.get(2..)?,
        }
        .ip()
    } else {
        attr.ip()
    }
}

fn next_hops(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..NEXT_HOP) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(attrs) = bytes.get(NEXT_HOP..length) else {
            break;
        };
        let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let gateway = attr::read(attrs)
            .find(|a| matches!(a.kind, RTA_GATEWAY | RTA_VIA))
            .and_then(gateway);
        found.push(NextHop {
            gateway,
            interface: (index != 0).then_some(index),
        });
        bytes = bytes.get(attr::align(length)..).unwrap_or_default();
    }
    found
}

pub(crate) fn family(v4: bool) -> AddressFamily {
    if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

pub(crate) fn read_route(frame: Frame<'_>) -> Option<RouteEntry> {
    (frame.kind == RTM_NEWROUTE)
        .then(|| RouteEntry::parse(frame.payload))
        .flatten()
}

impl RouteSocket {
    /// Adds a route. A second gateway for the same destination joins the first in IPv6; in IPv4 it stands behind it, and
    /// [`RouteSocket::configure`] makes one route with several ways of them. False when this very route is there.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn add_route(&mut self, spec: &RouteSpec) -> Result<bool, Error> {
        let message = encode::message(&Group::one(*spec));
        match self.act(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &message)? {
            None => Ok(true),
            Some(failure) if failure.errno == Errno::EEXIST => Ok(false),
            Some(failure) => Err(Error::kernel("add", spec, failure)),
        }
    }

    /// Removes a route; false when it was gone. What the specification leaves open matches anything.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_route(&mut self, spec: &RouteSpec) -> Result<bool, Error> {
        match self.act(RTM_DELROUTE, 0, &removal(spec))? {
            None => Ok(true),
            Some(failure) if matches!(failure.errno, Errno::ESRCH | Errno::ENODEV) => Ok(false),
            Some(failure) => Err(Error::kernel("remove", spec, failure)),
        }
    }

    /// The routes of one family in the main table, chosen by the kernel.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn routes(&mut self, v4: bool) -> Result<Vec<RouteEntry>, Error> {
        self.routes_of_table(v4, MAIN)
    }

    /// The routes of one table. A table that never had a route is empty.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn routes_of_table(&mut self, v4: bool, table: u32) -> Result<Vec<RouteEntry>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(v4);
        question.attributes.push(RouteAttribute::Table(table));
        match self.dump("routes", RTM_GETROUTE, &question, read_route) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            // The kernel's filter does not reach clones and exceptions.
            other => other.map(|found| {
                found
                    .into_iter()
                    .filter(|route| route.table == table)
                    .collect()
            }),
        }
    }

    /// The routes of one family in every table.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn all_routes(&mut self, v4: bool) -> Result<Vec<RouteEntry>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(v4);
        self.dump("routes", RTM_GETROUTE, &question, read_route)
    }

    /// The way a packet of this machine to `address` would go; none when there is no way.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn route_to(&mut self, address: IpAddr) -> Result<Option<RouteEntry>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(address.is_ipv4());
        question.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        question
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        match self.get(RTM_GETROUTE, &question, read_route)? {
            Ok(found) => Ok(found),
            Err(failure) if matches!(failure.errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {
                Ok(None)
            }
            Err(failure) => Err(Error::kernel("find the route to", address, failure)),
        }
    }

    /// The way that the kernel would send this packet, or why it would not: `EHOSTUNREACH`, `ENETUNREACH`, `EXDEV` and
    /// `EINVAL` (a source that cannot come in there, or cannot leave).
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn route_of(
        &mut self,
        question: &RouteQuestion,
    ) -> Result<Result<RouteEntry, Errno>, Error> {
        self.ask_for_route(question, RouteFlags::empty())
    }

    pub(crate) fn ask_for_route(
        &mut self,
        question: &RouteQuestion,
        flags: RouteFlags,
    ) -> Result<Result<RouteEntry, Errno>, Error> {
        let v4 = question.destination.is_ipv4();
        let length = if v4 { 32 } else { 128 };
        let mut message = RouteMessage::default();
        message.header.address_family = family(v4);
        message.header.destination_prefix_length = length;
        message.header.flags = flags;
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Destination(question.destination.into()));
        if let Some(source) = question.source {
            message.header.source_prefix_length = length;
            attributes.push(RouteAttribute::Source(source.into()));
        }
        if let Some(index) = question.came_in_by {
            attributes.push(RouteAttribute::Iif(index));
        }
        if question.mark != 0 {
            attributes.push(RouteAttribute::Mark(question.mark));
        }
        match self.get(RTM_GETROUTE, &message, read_route)? {
            Ok(Some(found)) => Ok(Ok(found)),
            Ok(None) => Ok(Err(Errno::ENETUNREACH)),
            Err(failure) => Ok(Err(failure.errno)),
        }
    }

    /// The link that carries the default route, IPv4's before IPv6's; of several the one with the lowest metric.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn uplink(&mut self) -> Result<Option<Link>, Error> {
        for v4 in [true, false] {
            let routes = self.routes(v4)?;
            let default = routes
                .into_iter()
                .filter(|route| route.destination.prefix() == 0 && route.kind == UNICAST);
            let best = default.min_by_key(|route| route.priority.unwrap_or(0));
            if let Some(index) = best.and_then(|route| route.interface) {
                return self.link_by_index(index);
            }
        }
        Ok(None)
    }
}
