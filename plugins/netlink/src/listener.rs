//! Netlink's multicast groups: notifications that the kernel sends to every listener.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::Error;
use crate::frame::Frame;
use crate::netfilter::{Reply, receive};
use crate::socket::Socket;

/// Room for one datagram of notifications.
const ROOM: usize = 64 * 1024;
/// Receive buffer, in bytes: for notifications that come while the reader is busy.
const QUEUE: usize = 4 << 20;

/// A multicast group (linux/rtnetlink.h, linux/netfilter/nfnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Links: made, changed, gone.
    Links,
    /// IPv4 addresses.
    Ipv4Addresses,
    /// IPv6 addresses.
    Ipv6Addresses,
    /// Neighbours of links, and entries of forwarding databases.
    Neighbours,
    /// IPv4 routes.
    Ipv4Routes,
    /// IPv6 routes.
    Ipv6Routes,
    /// Changes of nf_tables.
    Nftables,
    /// Packets that nf_tables traces.
    NftablesTrace,
}

impl Group {
    fn number(self) -> u32 {
        match self {
            Self::Links => 1,
            Self::Neighbours => 3,
            Self::Ipv4Addresses => 5,
            Self::Ipv4Routes => 7,
            Self::Ipv6Routes => 11,
            Self::Ipv6Addresses => 9,
            Self::Nftables => 7,
            Self::NftablesTrace => 9,
        }
    }

    fn is_netfilter(self) -> bool {
        matches!(self, Self::Nftables | Self::NftablesTrace)
    }
}

/// A socket that receives notifications about the network namespace in which it was opened.
#[derive(Debug)]
pub struct Listener {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

/// What [`Listener::recv`] received before its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Notifications, oldest first.
    Messages(Vec<Reply>),
    /// More than the queue holds: some are lost.
    Lost,
    /// Nothing came before the deadline.
    TimedOut,
}

impl Listener {
    /// Listens to groups of one protocol: either links and addresses, or netfilter.
    ///
    /// # Errors
    /// [`Error::Io`]: the socket could not be opened or join a group.
    pub fn open(groups: &[Group]) -> Result<Self, Error> {
        let open = || -> io::Result<Self> {
            let netfilter = groups.iter().any(|group| group.is_netfilter());
            let mut socket = Socket::bare(match netfilter {
                true => netlink_sys::protocols::NETLINK_NETFILTER,
                false => netlink_sys::protocols::NETLINK_ROUTE,
            })?;
            socket.bind_auto()?;
            for group in groups {
                socket.add_membership(group.number())?;
            }
            let listener = Self {
                socket,
                buffer: Vec::new(),
            };
            // Beyond the system's limit, which CAP_NET_ADMIN may; without it the queue is shorter.
            let _ = setsockopt(&listener, sockopt::RcvBufForce, &QUEUE);
            Ok(listener)
        };
        open().map_err(Error::io("listen to the kernel"))
    }

    /// Waits for notifications until the deadline; returns with the first datagram.
    ///
    /// # Errors
    /// [`Error::Io`]: the socket failed.
    pub fn recv(&mut self, deadline: Instant) -> Result<Received, Error> {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = receive(self.as_fd(), &mut buffer, ROOM);
            self.buffer = buffer;
            match received {
                Ok(()) => {}
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => return Ok(Received::Lost),
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Received::TimedOut);
                    }
                    self.wait(left)?;
                    continue;
                }
                Err(errno) => return Err(Error::io("listen to the kernel")(errno.into())),
            }
            let messages = Frame::walk(&self.buffer).map(Reply::of);
            return Ok(Received::Messages(messages.collect()));
        }
    }

    fn wait(&self, left: Duration) -> Result<(), Error> {
        // Rounded up: a wait of zero would spin through the last millisecond.
        let left = left + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut sockets = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sockets, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::io("listen to the kernel")(errno.into())),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self.socket` lives, which the borrow guarantees.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}
