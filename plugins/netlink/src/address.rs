//! Addresses of links.

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use nix::errno::Errno;

use crate::attr;
use crate::error::Error;
use crate::frame::Frame;
use crate::route::RouteSocket;

pub(crate) const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
/// `struct ifaddrmsg`.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

/// `IFA_F_TENTATIVE`: duplicate address detection is not over.
const TENTATIVE: u32 = 0x40;
/// `IFA_F_DADFAILED`.
const DUPLICATE: u32 = 0x08;
/// `IFA_F_PERMANENT`: the address has no lifetime.
const PERMANENT: u32 = 0x80;
/// `IFA_F_MANAGETEMPADDR`: the kernel sets it on every address that it forms from an advertised prefix.
const AUTOCONFIGURED: u32 = 0x100;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Number of the link.
    pub index: u32,
    /// The address with its prefix length.
    pub cidr: IpNetwork,
    /// `RT_SCOPE_*`: 0 is global, 253 link-local, 254 host.
    pub scope: u8,
    /// Duplicate address detection still runs: the address does not work yet.
    pub tentative: bool,
    /// Duplicate address detection found another owner.
    pub dad_failed: bool,
    /// The kernel formed it from the prefix of a router advertisement.
    pub advertised: bool,
}

impl Address {
    pub(crate) fn parse(payload: &[u8]) -> Option<Address> {
        let header = payload.get(..HEADER)?;
        let (mut local, mut address, mut flags) = (None, None, u32::from(header[2]));
        for attr in attr::read(&payload[HEADER..]) {
            match attr.kind {
                IFA_LOCAL => local = attr.ip(),
                IFA_ADDRESS => address = attr.ip(),
                IFA_FLAGS => flags = attr.u32().unwrap_or(flags),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL is always ours, but IPv6 leaves it out.
        Some(Address {
            index: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
            cidr: IpNetwork::new(local.or(address)?, header[1]).ok()?,
            scope: header[3],
            tentative: flags & TENTATIVE != 0,
            dad_failed: flags & DUPLICATE != 0,
            advertised: flags & AUTOCONFIGURED != 0 && flags & PERMANENT == 0,
        })
    }
}

pub(crate) fn message(index: u32, cidr: IpNetwork, nodad: bool) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if cidr.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.prefix_len = cidr.prefix();
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Local(cidr.ip()));
    message
        .attributes
        .push(AddressAttribute::Address(cidr.ip()));
    match cidr {
        // RFC 3021: a /31 has no broadcast address, a /32 no neighbours.
        IpNetwork::V4(net) if net.prefix() < 31 => {
            message
                .attributes
                .push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNetwork::V6(net) => {
            if nodad {
                message.header.flags = AddressHeaderFlags::Nodad;
            }
            if net.ip().segments()[0] & 0xffc0 == 0xfe80 {
                message.header.scope = AddressScope::Link;
            }
        }
        IpNetwork::V4(_) => {}
    }
    message
}

impl RouteSocket {
    /// The addresses of one link, chosen by the kernel.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Error> {
        let mut question = AddressMessage::default();
        question.header.index = index;
        let read = |frame: Frame<'_>| {
            (frame.kind == RTM_NEWADDR)
                .then(|| Address::parse(frame.payload))
                .flatten()
        };
        match self.dump("addresses", RTM_GETADDR, &question, read) {
            // The link went away; so did its addresses.
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
            other => other,
        }
    }

    /// All addresses of the namespace in one family: IPv4, else IPv6.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn all_addresses(&mut self, v4: bool) -> Result<Vec<Address>, Error> {
        let read = |frame: Frame<'_>| {
            (frame.kind == RTM_NEWADDR)
                .then(|| Address::parse(frame.payload))
                .flatten()
        };
        let mut question = AddressMessage::default();
        question.header.family = if v4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        self.dump("addresses", RTM_GETADDR, &question, read)
    }

    /// Gives a link an address; false when it has it already. With `nodad` an IPv6 address works at once instead of a
    /// second later.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn add_address(&mut self, index: u32, cidr: IpNetwork, nodad: bool) -> Result<bool, Error> {
        match self.act(
            RTM_NEWADDR,
            NLM_F_CREATE | NLM_F_EXCL,
            &message(index, cidr, nodad),
        )? {
            None => Ok(true),
            Some(failure) if failure.errno == Errno::EEXIST => Ok(false),
            Some(failure) if failure.errno == Errno::EACCES && cidr.is_ipv6() => {
                Err(Error::Ipv6Disabled { address: cidr })
            }
            Some(failure) => Err(Error::kernel("add address", cidr, failure)),
        }
    }

    /// Takes an address from a link; false when it was gone, or the link was.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn remove_address(&mut self, index: u32, cidr: IpNetwork) -> Result<bool, Error> {
        match self.act(RTM_DELADDR, 0, &message(index, cidr, false))? {
            None => Ok(true),
            Some(failure) if matches!(failure.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV) => {
                Ok(false)
            }
            Some(failure) => Err(Error::kernel("remove address", cidr, failure)),
        }
    }
}
