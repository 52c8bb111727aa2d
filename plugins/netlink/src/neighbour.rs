//! Proxied neighbours: addresses that the host answers neighbour solicitations for, on one link.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use nix::errno::Errno;

use crate::attr;
use crate::error::Error;
use crate::frame::Frame;
use crate::route::RouteSocket;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;
/// `struct ndmsg`.
pub(crate) const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// `NUD_PERMANENT`.
const PERMANENT: u16 = 0x80;

/// An entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the link.
    pub interface: u32,
    /// Whose hardware address it is.
    pub address: IpAddr,
    /// The hardware address, where one is known.
    pub mac: Option<[u8; 6]>,
    /// Written by an administrator: the kernel never corrects it.
    pub permanent: bool,
}

impl Neighbour {
    pub(crate) fn parse(payload: &[u8]) -> Option<Neighbour> {
        let header = payload.get(..HEADER)?;
        let (mut address, mut mac) = (None, None);
        for attr in attr::read(&payload[HEADER..]) {
            match attr.kind {
                NDA_DST => address = attr.ip(),
                NDA_LLADDR => mac = attr.value.try_into().ok(),
                _ => {}
            }
        }
        Some(Neighbour {
            interface: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
            address: address?,
            mac,
            permanent: u16::from_ne_bytes([header[8], header[9]]) & PERMANENT != 0,
        })
    }
}

fn message(index: u32, address: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::Proxy;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(
            address,
        )));
    message
}

impl RouteSocket {
    /// The neighbours that the namespace knows, of both families.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let read = |frame: Frame<'_>| {
            (frame.kind == RTM_NEWNEIGH)
                .then(|| Neighbour::parse(frame.payload))
                .flatten()
        };
        let question = NeighbourMessage::default();
        self.dump("neighbours", RTM_GETNEIGH, &question, read)
    }

    /// Lets the host answer for an IPv6 address on a link, once `proxy_ndp` of the link is on. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn add_proxied_neighbour(&mut self, index: u32, address: Ipv6Addr) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        match self.act(RTM_NEWNEIGH, flags, &message(index, address))? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel("proxy neighbour", address, failure)),
        }
    }

    /// Ends it; false when the host did not, or the link is gone.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_proxied_neighbour(
        &mut self,
        index: u32,
        address: Ipv6Addr,
    ) -> Result<bool, Error> {
        match self.act(RTM_DELNEIGH, 0, &message(index, address))? {
            None => Ok(true),
            Some(failure)
                if matches!(failure.errno, Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) =>
            {
                Ok(false)
            }
            Some(failure) => Err(Error::kernel("end proxied neighbour", address, failure)),
        }
    }
}
