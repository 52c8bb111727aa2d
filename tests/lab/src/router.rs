//! Routers that advertise themselves, as a neighbour, a LAN's router or a hostile sibling does.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, Ipv6MembershipRequest, MsgFlags, SockFlag, SockProtocol,
    SockType, SockaddrIn6, recv, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use pontoon_netlink::{Address, Netns, RouteSocket};

use super::failure::{Failure, Outcome};

/// Every node of a link, and every router.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;

/// What a router advertises (RFC 4861, section 4.2).
#[derive(Debug, Clone, Copy, Default)]
pub struct Advertisement {
    /// A prefix for addresses, of 64 bits.
    pub prefix: Option<Ipv6Addr>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// It is to be preferred to other routers (RFC 4191).
    pub preferred: bool,
}

impl Advertisement {
    fn message(&self) -> Vec<u8> {
        const HOP_LIMIT: u8 = 64;
        const HIGH: u8 = 0b0000_1000;
        let lifetime = 1800u16.to_be_bytes();
        let flags = if self.preferred { HIGH } else { 0 };
        let mut bytes = vec![
            ADVERTISEMENT,
            0,
            0,
            0,
            HOP_LIMIT,
            flags,
            lifetime[0],
            lifetime[1],
        ];
        bytes.extend([0; 8]);
        if let Some(prefix) = self.prefix {
            // On the link, and for autonomous configuration.
            bytes.extend([3, 4, 64, 0b1100_0000]);
            bytes.extend(3600u32.to_be_bytes());
            bytes.extend(1800u32.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(prefix.octets());
        }
        if let Some(mtu) = self.mtu {
            bytes.extend([5, 1, 0, 0]);
            bytes.extend(mtu.to_be_bytes());
        }
        bytes
    }
}

/// Sends one advertisement out of an interface of a namespace.
pub fn advertise(netns: &Netns, interface: &str, advertisement: &Advertisement) -> Outcome {
    let act = format!("advertise a router by {interface}");
    let send = || -> io::Result<()> {
        let (socket, index) = (open()?, ready(interface)?);
        emit(&socket, index, &advertisement.message())
    };
    netns
        .run(send)
        .map_err(Failure::act(&act))?
        .map_err(Failure::act(&act))
}

/// A router that advertises itself when it is asked, and never else. Stops when dropped.
pub struct Router {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    /// Starts one on an interface of a namespace.
    pub fn start(netns: &Netns, interface: &str, advertisement: Advertisement) -> Outcome<Self> {
        const NAP_MS: i64 = 50;
        let act = format!("start a router on {interface}");
        let prepare = || -> io::Result<(OwnedFd, u32)> {
            let (socket, index) = (open()?, ready(interface)?);
            setsockopt(
                &socket,
                sockopt::ReceiveTimeout,
                &TimeVal::milliseconds(NAP_MS),
            )?;
            let group = Ipv6MembershipRequest::new(ALL_ROUTERS);
            setsockopt(&socket, sockopt::Ipv6AddMembership, &group)?;
            Ok((socket, index))
        };
        let (socket, index) = netns
            .run(prepare)
            .map_err(Failure::act(&act))?
            .map_err(Failure::act(&act))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut packet = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let got = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty());
                if got.is_ok_and(|length| length > 0 && packet[0] == SOLICITATION) {
                    let _ = emit(&socket, index, &advertisement.message());
                }
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Inet6,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::IcmpV6,
    )?)
}

/// The number of an interface, as soon as that has the link-local address which advertisements must come from.
fn ready(interface: &str) -> io::Result<u32> {
    let mut socket = RouteSocket::open().map_err(io::Error::other)?;
    let link = socket.link_by_name(interface).map_err(io::Error::other)?;
    let index = link.ok_or(Errno::ENODEV)?.index;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let addresses = socket.addresses(index).map_err(io::Error::other)?;
        let usable = |address: &Address| {
            matches!(address.cidr.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
                && !address.tentative
        };
        if addresses.iter().any(usable) {
            return Ok(index);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("no link-local address"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn emit(socket: &OwnedFd, index: u32, message: &[u8]) -> io::Result<()> {
    // Only a packet that no router has forwarded counts. The kernel writes the checksum.
    let hops = 255;
    let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
    sendmsg(
        socket.as_raw_fd(),
        &[io::IoSlice::new(message)],
        &[ControlMessage::Ipv6HopLimit(&hops)],
        MsgFlags::empty(),
        Some(&to),
    )?;
    Ok(())
}
