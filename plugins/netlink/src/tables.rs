//! Routes, neighbours and forwarding entries by the hundred: many messages in one system call, each with its own outcome.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteFlags, RouteMessage, RouteProtocol};
use nix::errno::Errno;

use crate::attr;
use crate::error::Error;
use crate::frame::{Frame, Frames};
use crate::neighbour::{HEADER, Neighbour, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use crate::route::RouteSocket;
use crate::routing::{
    RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RouteEntry, RouteQuestion, RouteSpec, family, group,
    read_route, removal,
};

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Messages in one system call: their failures, of up to 100 bytes each, fit a receive buffer.
const MESSAGES: usize = 256;

/// Where a VXLAN device sends frames for a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Forwarding {
    /// Number of the device.
    pub interface: u32,
    /// The hardware address.
    pub mac: [u8; 6],
    /// The host that has it.
    pub remote: IpAddr,
}

/// An entry of one of the three tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableEntry {
    /// A route.
    Route(RouteSpec),
    /// A neighbour that stays as it is: `NUD_PERMANENT`. The kernel collects entries of any other state.
    Neighbour {
        /// Number of the link.
        interface: u32,
        /// The neighbour.
        address: IpAddr,
        /// Its hardware address.
        mac: [u8; 6],
    },
    /// A forwarding entry of a VXLAN device, permanent and of the device itself (`NTF_SELF`): one of its bridge would
    /// send the frames up into the host.
    Forwarding(Forwarding),
}

/// What shall become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// There is none of its key, and there shall be one.
    Add(TableEntry),
    /// There is one of its key, and it shall be this one. Nothing is lost between the two.
    Replace(TableEntry),
    /// There shall be none. One that is gone already is no failure.
    Remove(TableEntry),
}

impl TableChange {
    /// The entry that it is about.
    #[must_use]
    pub fn entry(&self) -> &TableEntry {
        match self {
            Self::Add(entry) | Self::Replace(entry) | Self::Remove(entry) => entry,
        }
    }

    fn verb(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Replace(_) => "replace",
            Self::Remove(_) => "remove",
        }
    }

    fn emit(&self, frames: &mut Frames) {
        let flags = match self {
            Self::Add(_) => NLM_F_CREATE | NLM_F_EXCL,
            Self::Replace(_) => NLM_F_CREATE | NLM_F_REPLACE,
            Self::Remove(_) => 0,
        };
        let removes = matches!(self, Self::Remove(_));
        match self.entry() {
            TableEntry::Route(spec) if removes => {
                frames.emit(RTM_DELROUTE, flags, &removal(spec));
            }
            TableEntry::Route(spec) => {
                for group in group(&[*spec]) {
                    frames.emit(RTM_NEWROUTE, flags, &group.message());
                }
            }
            TableEntry::Neighbour {
                interface,
                address,
                mac,
            } => {
                let family = family(address.is_ipv4());
                let message = neighbour(*interface, family, *address, *mac);
                let kind = if removes { RTM_DELNEIGH } else { RTM_NEWNEIGH };
                frames.emit(kind, flags, &message);
            }
            TableEntry::Forwarding(entry) => {
                let mut message = neighbour(
                    entry.interface,
                    AddressFamily::Bridge,
                    entry.remote,
                    entry.mac,
                );
                message.header.flags = NeighbourFlags::Own;
                let kind = if removes { RTM_DELNEIGH } else { RTM_NEWNEIGH };
                frames.emit(kind, flags, &message);
            }
        }
    }

    /// Whether a refusal says that it is so already.
    fn is_done(&self, errno: Errno) -> bool {
        let gone = [
            Errno::ENOENT,
            Errno::ESRCH,
            Errno::ENODEV,
            Errno::ENXIO,
            Errno::EADDRNOTAVAIL,
        ];
        matches!(self, Self::Remove(_)) && gone.contains(&errno)
    }
}

impl fmt::Display for TableEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(spec) => write!(f, "{spec}"),
            Self::Neighbour { address, .. } => write!(f, "neighbour {address}"),
            Self::Forwarding(entry) => write!(f, "forwarding entry to {}", entry.remote),
        }
    }
}

fn neighbour(
    interface: u32,
    family: AddressFamily,
    address: IpAddr,
    mac: [u8; 6],
) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = interface;
    message.header.state = NeighbourState::Permanent;
    let address = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}

impl Forwarding {
    fn parse(payload: &[u8]) -> Option<Forwarding> {
        let header = payload.get(..HEADER)?;
        let (mut mac, mut remote) = (None, None);
        for attr in attr::read(&payload[HEADER..]) {
            match attr.kind {
                NDA_DST => remote = attr.ip(),
                NDA_LLADDR => mac = attr.value.try_into().ok(),
                _ => {}
            }
        }
        Some(Forwarding {
            interface: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
            mac: mac?,
            remote: remote?,
        })
    }
}

impl RouteSocket {
    /// Makes all of these changes, as far as the kernel lets it: a later one is made when an earlier one fails. Returns
    /// what failed, each with its position.
    ///
    /// # Errors
    /// [`Error::Io`] when the socket failed: some changes may have been made.
    pub fn change_tables(&mut self, changes: &[TableChange]) -> Result<Vec<(usize, Error)>, Error> {
        let mut failed = Vec::new();
        let mut frames = Frames::new();
        for (part, changes) in changes.chunks(MESSAGES).enumerate() {
            frames.clear();
            changes.iter().for_each(|change| change.emit(&mut frames));
            self.make_room(&frames);
            for failure in self.batch(&mut frames, |_| {})? {
                let Some(position) = frames.position(failure.sequence) else {
                    continue;
                };
                let change = &changes[position];
                if !change.is_done(failure.errno) {
                    let error = Error::kernel(change.verb(), change.entry(), failure);
                    failed.push((part * MESSAGES + position, error));
                }
            }
        }
        Ok(failed)
    }

    /// The routes of one family in the main table that a program of this protocol number has made, chosen by the
    /// kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refused the question.
    pub fn routes_of_protocol(&mut self, v4: bool, protocol: u8) -> Result<Vec<RouteEntry>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(v4);
        question.header.protocol = RouteProtocol::from(protocol);
        let routes = self.dump("routes", RTM_GETROUTE, &question, read_route)?;
        // A kernel before 4.20 sends all of them.
        let ours = |route: &RouteEntry| route.protocol == protocol;
        Ok(routes.into_iter().filter(ours).collect())
    }

    /// The route by which a packet would go, as it stands in its table, or why there is none: `EHOSTUNREACH` when a
    /// route refuses it, `ENETUNREACH` when none matches.
    ///
    /// # Errors
    /// [`Error::Io`] when the socket failed.
    pub fn matching_route(
        &mut self,
        question: &RouteQuestion,
    ) -> Result<Result<RouteEntry, Errno>, Error> {
        self.ask_for_route(question, RouteFlags::FibMatch)
    }

    /// The neighbours on one link, of both families, chosen by the kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refused the question.
    pub fn neighbours_on(&mut self, interface: u32) -> Result<Vec<Neighbour>, Error> {
        let mut question = NeighbourMessage::default();
        question
            .attributes
            .push(NeighbourAttribute::IfIndex(interface));
        let read = |frame: Frame<'_>| {
            (frame.kind == RTM_NEWNEIGH)
                .then(|| Neighbour::parse(frame.payload))
                .flatten()
        };
        let neighbours = self.dump("neighbours", RTM_GETNEIGH, &question, read)?;
        let here = |neighbour: &Neighbour| neighbour.interface == interface;
        Ok(neighbours.into_iter().filter(here).collect())
    }

    /// The forwarding entries of a VXLAN device that lead to another host, chosen by the kernel.
    ///
    /// # Errors
    /// [`Error::Kernel`] when the kernel refused the question.
    pub fn forwarding_of(&mut self, interface: u32) -> Result<Vec<Forwarding>, Error> {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Bridge;
        question.header.ifindex = interface;
        let read = |frame: Frame<'_>| {
            (frame.kind == RTM_NEWNEIGH)
                .then(|| Forwarding::parse(frame.payload))
                .flatten()
        };
        let entries = self.dump("forwarding entries", RTM_GETNEIGH, &question, read)?;
        let here = |entry: &Forwarding| entry.interface == interface;
        Ok(entries.into_iter().filter(here).collect())
    }
}
