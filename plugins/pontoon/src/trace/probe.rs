//! The one packet that `--live` sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
    getsockname, getsockopt, recv, send, setsockopt, socket, sockopt,
};
use pontoon_netlink::Netns;
use pontoon_passage::shown;
use serde::Serialize;

use super::question::{Protocol, Question};
use crate::report::Failure;

/// How long an answer is waited for after the way has been told.
const PATIENCE: Duration = Duration::from_millis(300);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    Answered,
    /// It was refused: no process takes it.
    Refused,
    None,
}

/// A socket that has not sent yet.
pub(super) struct Sender {
    fd: OwnedFd,
    protocol: Protocol,
    /// The port that it sends from, or the identifier of its echo request.
    number: u16,
}

fn failed(act: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| Failure::Failed(format!("cannot {act} the probe: {errno}"))
}

impl Sender {
    /// Opens one here, or in a container's namespace.
    pub(super) fn open(question: &Question, netns: Option<&Netns>) -> Result<Self, Failure> {
        let open = || Self::make(question);
        let made = match netns {
            None => open(),
            Some(netns) => netns
                .run(open)
                .map_err(|error| Failure::Failed(error.to_string()))?,
        };
        made.map_err(failed("make a socket for"))
    }

    fn make(question: &Question) -> Result<Self, Errno> {
        let v6 = question.destination.is_ipv6();
        let family = match v6 {
            true => AddressFamily::Inet6,
            false => AddressFamily::Inet,
        };
        let (kind, protocol) = match question.protocol {
            Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
            Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
            Protocol::Icmp if v6 => (SockType::Raw, SockProtocol::IcmpV6),
            Protocol::Icmp => (SockType::Raw, SockProtocol::Icmp),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, kind, flags, protocol)?;
        let unspecified = match v6 {
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        if question.protocol == Protocol::Icmp {
            if let Some(source) = question.source {
                bind(fd.as_raw_fd(), &storage(source, 0))?;
            }
            let number = std::process::id() as u16;
            return Ok(Self {
                fd,
                protocol: question.protocol,
                number,
            });
        }
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        let source = question.source.unwrap_or(unspecified);
        bind(
            fd.as_raw_fd(),
            &storage(source, question.own_port.unwrap_or(0)),
        )?;
        let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
        let v4 = bound.as_sockaddr_in().map(|own| own.port());
        let v6 = bound.as_sockaddr_in6().map(|own| own.port());
        Ok(Self {
            fd,
            protocol: question.protocol,
            number: v4.or(v6).unwrap_or(0),
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Sends it; in words what from.
    pub(super) fn send(&mut self, question: &Question) -> Result<String, Failure> {
        let port = question.ports.map_or(0, |(_, to)| to);
        let to = storage(question.destination, port);
        let refused = |errno: Errno| match errno {
            // The verdict tells what became of it.
            Errno::EINPROGRESS
            | Errno::EPERM
            | Errno::EACCES
            | Errno::ECONNREFUSED
            | Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EINVAL => Ok(()),
            errno => Err(failed("send")(errno)),
        };
        connect(self.fd.as_raw_fd(), &to).or_else(refused)?;
        let payload = match self.protocol {
            Protocol::Tcp => None,
            Protocol::Udp => Some(b"pontoon trace".to_vec()),
            Protocol::Icmp => Some(self.echo(question.destination)),
        };
        if let Some(payload) = payload {
            let sent = send(self.fd.as_raw_fd(), &payload, MsgFlags::MSG_NOSIGNAL);
            sent.map(drop).or_else(refused)?;
        }
        let own: Result<SockaddrStorage, _> = getsockname(self.fd.as_raw_fd());
        let address = own.ok().and_then(|own| {
            let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
            v4.or_else(|| own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip())))
        });
        let port = question.ports.map(|_| self.number);
        Ok(match address.filter(|address| !address.is_unspecified()) {
            Some(address) => format!("from {}", shown(address, port)),
            None => "not sent: no route, says the sender's kernel".to_owned(),
        })
    }

    /// An echo request (RFC 792, RFC 4443); of IPv6 the kernel writes the checksum.
    fn echo(&self, to: IpAddr) -> Vec<u8> {
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let mut packet = vec![kind, 0, 0, 0];
        packet.extend_from_slice(&self.number.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        if to.is_ipv4() {
            let sum: u32 = packet
                .chunks(2)
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let folded = (folded & 0xffff) + (folded >> 16);
            packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        }
        packet
    }

    /// Whether an answer has come.
    pub(super) fn answer(&mut self) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Answer::None;
            }
            let events = match self.protocol {
                Protocol::Tcp => PollFlags::POLLOUT,
                _ => PollFlags::POLLIN,
            };
            let mut fds = [PollFd::new(self.fd.as_fd(), events)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut fds, timeout).is_err() {
                return Answer::None;
            }
            if !fds[0].any().unwrap_or(false) {
                continue;
            }
            match getsockopt(&self.fd, sockopt::SocketError) {
                Ok(0) => {}
                Ok(code) if Errno::from_raw(code) == Errno::ECONNREFUSED => return Answer::Refused,
                _ => return Answer::None,
            }
            if self.protocol == Protocol::Tcp {
                return Answer::Answered;
            }
            let mut buffer = [0; 2048];
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) if self.is_mine(&buffer[..length]) => return Answer::Answered,
                Ok(_) => {}
                Err(Errno::ECONNREFUSED) => return Answer::Refused,
                Err(_) => return Answer::None,
            }
        }
    }

    /// A raw socket receives the replies to every process.
    fn is_mine(&self, packet: &[u8]) -> bool {
        if self.protocol != Protocol::Icmp {
            return true;
        }
        // Of IPv4 the header is there too.
        let message = match packet.first().map(|byte| byte >> 4) {
            Some(4) => packet.get(usize::from(packet[0] & 15) * 4..),
            _ => Some(packet),
        };
        let message = message.unwrap_or_default();
        let reply = matches!(message.first(), Some(0 | 129));
        reply && message.get(4..6) == Some(&self.number.to_be_bytes())
    }
}

fn storage(address: IpAddr, port: u16) -> SockaddrStorage {
    SockaddrStorage::from(SocketAddr::new(address, port))
}
