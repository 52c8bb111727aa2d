//! Sockets at the gateways.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::watch::watch;

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
    pub(crate) fn keep(&mut self, criteria: &[IpAddr]) {
        self.by_address
            .retain(|address, _| criteria.contains(address));
    }

    /// Notes the tasks that serve at an address.
    pub(crate) fn put(&mut self, address: IpAddr, tasks: [JoinHandle<()>; 2]) {
        self.by_address.insert(address, tasks.map(Task));
    }
}

impl Bound {
    /// Both sockets of an address, which the keeper has bound.
    pub(crate) fn new(address: IpAddr, [udp, tcp]: [OwnedFd; 2]) -> io::Result<Self> {
        Ok(Self {
            address,
            udp: watch(UdpSocket::from(udp), Interest::READABLE)?,
            tcp: tokio::net::TcpListener::from_std(TcpListener::from(tcp))?,
        })
    }
}
