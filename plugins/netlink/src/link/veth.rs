//! Making a veth pair, its peer born inside the container.
//!
//! A link that is moved between namespaces waits for RCU, 15 to 46 ms. A link that is born where it belongs, with its
//! final name, address and MTU, costs 0.6 to 0.8.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Link, PortFlags, RTM_NEWLINK};
use crate::error::Error;
use crate::frame::{Failure, Frames};
use crate::link::change::LinkChange;
use crate::name::InterfaceName;
use crate::netns::Netns;
use crate::route::RouteSocket;

/// A veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethSpec<'a> {
    /// Name of the host's end.
    pub name: &'a str,
    /// Name of the container's end.
    pub peer_name: &'a str,
    /// Where the container's end is born.
    pub peer_netns: &'a Netns,
    /// The bridge that the host's end becomes a port of.
    pub master: Option<u32>,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// Hardware address of the host's end; random if none.
    pub mac: Option<[u8; 6]>,
    /// Hardware address of the container's end; random if none.
    pub peer_mac: Option<[u8; 6]>,
    /// The owner's note on the host's end.
    pub alias: Option<&'a str>,
    /// How the bridge treats the host's end.
    pub port: PortFlags,
    /// IPv6 is off on the host's end when it is finished (`net.ipv6.conf.NAME.disable_ipv6`). On a bridge's port it has
    /// no use, and the kernel walks through the multicast routes of all links when one more with IPv6 goes up.
    pub without_ipv6: bool,
}

impl<'a> VethSpec<'a> {
    /// A pair with two names and a home for the second end, for struct update syntax.
    #[must_use]
    pub fn new(name: &'a str, peer_name: &'a str, peer_netns: &'a Netns) -> VethSpec<'a> {
        VethSpec {
            name,
            peer_name,
            peer_netns,
            master: None,
            mtu: None,
            mac: None,
            peer_mac: None,
            alias: None,
            port: PortFlags::default(),
            without_ipv6: false,
        }
    }
}

/// A veth pair that was made. The container's end is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Veth {
    /// Number of the host's end.
    pub index: u32,
    /// Number of the container's end, in its namespace.
    pub peer_index: u32,
    /// Hardware address of the host's end.
    pub mac: [u8; 6],
}

impl RouteSocket {
    /// Makes a veth pair and takes the host's end up: [`RouteSocket::create_veth_down`], then [`RouteSocket::take_veth_up`].
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<Veth, Error> {
        let veth = self.create_veth_down(spec)?;
        match self.take_veth_up(veth.index, spec) {
            Ok(()) => Ok(veth),
            Err(source) => Err(self.unmake(veth.index, source)),
        }
    }

    /// Makes a veth pair in one message: the host's end named and a port of its bridge, the container's end inside its
    /// namespace under its final name. The message is all or nothing. Both numbers come back in its echo, no lookup
    /// follows.
    ///
    /// Both ends are down, and the host's should be the last to go up. A link that is up before its other end has no
    /// carrier, and the kernel takes its queues out of service: it waits for RCU while it holds the lock that all
    /// changes of links, addresses and routes need, 0.2 ms in the middle of an ADD.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn create_veth_down(&mut self, spec: &VethSpec<'_>) -> Result<Veth, Error> {
        InterfaceName::new(spec.name)?;
        InterfaceName::new(spec.peer_name)?;
        let mut frames = Frames::new();
        frames.emit(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            &pair(spec),
        );
        let mut echo = None;
        let failures = self.batch(&mut frames, |frame| {
            echo = echo.take().or_else(|| Link::parse(frame.payload))
        })?;
        if let Some(failure) = failures.into_iter().next() {
            return Err(self.explain(spec, failure));
        }
        let incomplete = |missing| Error::Incomplete {
            action: "create veth".into(),
            object: spec.name.into(),
            missing,
        };
        let host = echo.ok_or_else(|| incomplete("echo of the link"))?;
        let found = || {
            Ok(Veth {
                index: host.index,
                peer_index: host.peer.ok_or_else(|| incomplete("index of the peer"))?,
                mac: host.mac.ok_or_else(|| incomplete("hardware address"))?,
            })
        };
        found().map_err(|source| self.unmake(host.index, source))
    }

    /// Gives the host's end its alias and port flags, then takes it up.
    ///
    /// The kernel ignores an alias in the message that creates. It cannot share that message's batch: there it would have to name the link, a
    /// batch goes on after a failure, and where the name was taken it would put our owner tag on another owner's link.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn take_veth_up(&mut self, index: u32, spec: &VethSpec<'_>) -> Result<(), Error> {
        // A new port has all flags off.
        let change = LinkChange {
            up: Some(true),
            alias: spec.alias.map(str::to_owned),
            hairpin: spec.port.hairpin.then_some(true),
            isolated: spec.port.isolated.then_some(true),
            ..LinkChange::default()
        };
        if spec.without_ipv6 || spec.master.is_none() {
            return self.set_link(index, &change);
        }
        // A port needs no IPv6 address of its own: all ports would see the packets by which it is announced. Of one
        // message the kernel would do this last, after the link is up.
        let before = LinkChange {
            link_local: Some(false),
            ..LinkChange::default()
        };
        match self.set_link_in_steps(index, &[&before, &change]) {
            // A kernel without IPv6, or a link with an MTU that is too small for it.
            Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT) => {
                self.set_link(index, &change)
            }
            outcome => outcome,
        }
    }

    /// The kernel says EEXIST for either name, and EINVAL for much; a look tells what it was.
    fn explain(&mut self, spec: &VethSpec<'_>, failure: Failure) -> Error {
        let name = spec.name.to_owned();
        match (failure.errno, spec.master) {
            (Errno::EEXIST, _) => match self.link_by_name(spec.name) {
                Ok(Some(_)) => Error::NameTaken { name },
                _ => Error::PeerNameTaken {
                    name,
                    peer_name: spec.peer_name.to_owned(),
                },
            },
            (Errno::EXFULL, Some(bridge)) => Error::BridgeFull { name, bridge },
            (Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENODEV, Some(master))
                if !self.is_bridge(master) =>
            {
                Error::NoBridge { name, master }
            }
            // Without a word from the kernel: the MTU is the likeliest to be out of range.
            (Errno::EINVAL, _) if let Some(mtu) = spec.mtu => {
                Error::kernel("create veth", format!("{name} with MTU {mtu}"), failure)
            }
            _ => Error::kernel("create veth", name, failure),
        }
    }

    fn is_bridge(&mut self, index: u32) -> bool {
        self.link_by_index(index)
            .is_ok_and(|link| link.is_some_and(|link| link.kind.as_deref() == Some("bridge")))
    }
}

fn pair(spec: &VethSpec<'_>) -> LinkMessage {
    // The peer cannot be up at birth: the kernel answers ENOTCONN.
    let mut peer = LinkMessageBuilder::<LinkUnspec>::default()
        .name(spec.peer_name)
        .setns_by_fd(spec.peer_netns.as_fd().as_raw_fd())
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1));
    // By default each end gets as many queues as the machine may have processors, 2.3 ms for 64 of them.
    let mut host = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(spec.name)
        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
        .append_extra_attribute(LinkAttribute::NumRxQueues(1));
    if let Some(mtu) = spec.mtu {
        peer = peer.mtu(mtu);
        host = host.mtu(mtu);
    }
    if let Some(mac) = spec.peer_mac {
        peer = peer.address(mac.to_vec());
    }
    if let Some(mac) = spec.mac {
        host = host.address(mac.to_vec());
    }
    if let Some(master) = spec.master {
        host = host.controller(master);
    }
    host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
        .build()
}
