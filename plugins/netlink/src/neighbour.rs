//! Proxied neighbours: addresses that the host answers neighbour solicitations for, on one link.

use std::net::Ipv6Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use nix::errno::Errno;

use crate::error::Error;
use crate::route::RouteSocket;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

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
    /// Lets the host answer for an IPv6 address on a link, once `proxy_ndp` of the link is on. Repeating it changes
    /// nothing.
    pub fn add_proxied_neighbour(&mut self, index: u32, address: Ipv6Addr) -> Result<(), Error> {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        match self.act(RTM_NEWNEIGH, flags, &message(index, address))? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel("proxy neighbour", address, failure)),
        }
    }

    /// Ends it; false when the host did not, or the link is gone.
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
