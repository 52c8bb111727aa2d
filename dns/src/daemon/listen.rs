//! Sockets at the gateways.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use super::poll::{Interest, Poll, Source};
use super::slab::{Id, Slab};

/// Bytes of datagrams that may wait, so that a burst is not lost.
const BACKLOG_BYTES: usize = 4 << 20;

/// Everything we listen on.
#[derive(Default)]
pub(crate) struct Listeners {
    udp: Slab<(UdpSocket, bool)>,
    pub(crate) tcp: Slab<TcpListener>,
    by_address: HashMap<IpAddr, (Id, Id)>,
}

impl Listeners {
    /// Listens at these addresses and at no others. What stays is not touched. Returns what could
    /// not be bound.
    pub(crate) fn keep(
        &mut self,
        poll: &Poll,
        port: u16,
        wanted: impl Iterator<Item = IpAddr>,
    ) -> Vec<(IpAddr, io::Error)> {
        let mut gone: HashMap<IpAddr, (Id, Id)> = self.by_address.clone();
        let mut failed = Vec::new();
        for address in wanted {
            if gone.remove(&address).is_some() || self.by_address.contains_key(&address) {
                continue;
            }
            if let Err(error) = self.open(poll, SocketAddr::new(address, port)) {
                failed.push((address, error));
            }
        }
        for (address, (udp, tcp)) in gone {
            self.by_address.remove(&address);
            self.udp.remove(udp);
            self.tcp.remove(tcp);
        }
        failed
    }

    /// A socket, and whether it is one of IPv4.
    pub(crate) fn udp(&self, id: Id) -> Option<(&UdpSocket, bool)> {
        self.udp.get(id).map(|(socket, v4)| (socket, *v4))
    }

    /// The address of a UDP socket.
    pub(crate) fn address(&self, id: Id) -> Option<IpAddr> {
        let (socket, _) = self.udp.get(id)?;
        socket.local_addr().ok().map(|address| address.ip())
    }

    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.by_address.keys().copied().collect()
    }

    fn open(&mut self, poll: &Poll, at: SocketAddr) -> io::Result<()> {
        let udp = UdpSocket::from(bound(at, SockType::Datagram)?);
        let tcp = TcpListener::from(bound(at, SockType::Stream)?);
        let udp = self.udp.insert((udp, at.is_ipv4()));
        let tcp = self.tcp.insert(tcp);
        let mut done = Ok(());
        if let Some((socket, _)) = self.udp.get(udp) {
            done = poll.add(socket, Source::Udp(udp), Interest::Read);
        }
        if let (Ok(()), Some(socket)) = (&done, self.tcp.get(tcp)) {
            done = poll.add(socket, Source::Listener(tcp), Interest::Read);
        }
        if done.is_err() {
            self.udp.remove(udp);
            self.tcp.remove(tcp);
            return done;
        }
        self.by_address.insert(at.ip(), (udp, tcp));
        Ok(())
    }
}

/// A socket at an address that the host need not have yet, or any more: a bridge that goes and
/// comes takes its address along, and an IPv6 address is tentative for a while.
fn bound(at: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, kind, flags, None)?;
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    if at.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if kind == SockType::Stream {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    } else if setsockopt(&fd, sockopt::RcvBufForce, &BACKLOG_BYTES).is_err() {
        let _ = setsockopt(&fd, sockopt::RcvBuf, &BACKLOG_BYTES);
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    if kind == SockType::Stream {
        // More than musl's SOMAXCONN is refused by the wrapper, not by the kernel.
        listen(&fd, Backlog::new(128)?)?;
    }
    Ok(fd)
}
