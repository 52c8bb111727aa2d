//! Sockets of both kinds: those at gateways, and those to servers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};

/// Bytes of datagrams that may wait, so that a burst is not lost.
const BACKLOG_BYTES: usize = 4 << 20;

fn family(at: SocketAddr) -> AddressFamily {
    if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// A datagram and a stream socket that listen at an address.
pub(crate) fn listening(at: SocketAddr) -> io::Result<[OwnedFd; 2]> {
    Ok([bound(at, SockType::Datagram)?, bound(at, SockType::Stream)?])
}

/// A socket at an address that the host need not have yet, or any more: a bridge that goes and
/// comes takes its address along, and an IPv6 address is tentative for a while.
fn bound(at: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family(at), kind, flags, None)?;
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

/// A socket that is connected to `server`, or about to be. The kernel drops what comes from elsewhere,
/// and tells of closed ports.
pub(crate) fn connected(server: SocketAddr, stream: bool) -> io::Result<OwnedFd> {
    let kind = if stream {
        SockType::Stream
    } else {
        SockType::Datagram
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family(server), kind, flags, None)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

/// The number of an interface that has an IPv6 address; other ones lead to no server with a scope. As
/// text, because the worker may open no other socket than to a server.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    index_in(&std::fs::read_to_string("/proc/net/if_inet6").ok()?, name)
}

/// A line is address, number in hexadecimal, three more numbers, name.
fn index_in(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let index = words.nth(1)?;
        (words.last() == Some(name)).then(|| u32::from_str_radix(index, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_name() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 1f 40 20 80     eth0\n";
        assert_eq!(index_in(table, "lo"), Some(1));
        assert_eq!(index_in(table, "eth0"), Some(31));
        assert_eq!(index_in(table, "eth"), None);
        assert_eq!(
            interface_index("lo"),
            nix::net::if_::if_nametoindex("lo").ok()
        );
    }
}
