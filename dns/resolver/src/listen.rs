//! Sockets at the gateways.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::watch::watch;

/// Bytes of datagrams that may wait, so that a burst is not lost.
const BACKLOG_BYTES: usize = 4 << 20;

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The tasks at the gateways: those of an address end when it is left.
#[derive(Default)]
pub(crate) struct Listeners {
    by_address: HashMap<IpAddr, [Task; 2]>,
}

/// Sockets that are bound and not served yet.
pub(crate) struct Bound {
    pub(crate) address: IpAddr,
    pub(crate) udp: AsyncFd<UdpSocket>,
    pub(crate) tcp: tokio::net::TcpListener,
}

impl Listeners {
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.by_address.keys().copied().collect()
    }

    /// Leaves addresses that are not among these.
    pub(crate) fn keep(&mut self, wanted: &[IpAddr]) {
        self.by_address
            .retain(|address, _| wanted.contains(address));
    }

    /// Notes the tasks that serve at an address.
    pub(crate) fn put(&mut self, address: IpAddr, tasks: [JoinHandle<()>; 2]) {
        self.by_address.insert(address, tasks.map(Task));
    }
}

impl Bound {
    /// Binds both sockets of an address.
    pub(crate) fn new(address: IpAddr, port: u16) -> io::Result<Self> {
        let at = SocketAddr::new(address, port);
        let udp = UdpSocket::from(bound(at, SockType::Datagram)?);
        let tcp = TcpListener::from(bound(at, SockType::Stream)?);
        Ok(Self {
            address,
            udp: watch(udp, Interest::READABLE)?,
            tcp: tokio::net::TcpListener::from_std(tcp)?,
        })
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
