//! One namespace's part in a volley: what it sends from, what it answers with, and how it sees each
//! packet that reaches it, answered or not.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrStorage, bind, connect, listen, recv, sendto, setsockopt, socket, sockopt,
};
use pontoon_netlink::Netns;

use super::failure::{Failure, Outcome};

/// First byte of what a server is asked, and of what it answers: an answer is never answered.
const QUESTION: u8 = b'Q';
const ANSWER: u8 = b'A';

/// What a packet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo request.
    Icmp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];
}

/// What tells the packets of a volley apart: TCP's by their source port, others by what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) protocol: Protocol,
    pub(crate) v6: bool,
    pub(crate) number: u16,
}

/// What a station saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// A packet arrived, to one of the ports that are served.
    Arrival(Mark),
    /// An answer came back.
    Answer(Mark),
}

/// The sockets of one namespace. Servers listen on both families.
pub(crate) struct Station {
    netns: Netns,
    ports: Vec<u16>,
    listeners: Vec<TcpListener>,
    servers: Vec<UdpSocket>,
    // IPv4 and IPv6. Raw sockets see what arrives even when nothing can be answered.
    echoes: [OwnedFd; 2],
    segments: [OwnedFd; 2],
    clients: [UdpSocket; 2],
    accepted: Vec<TcpStream>,
}

impl Station {
    /// Opens the sockets in a namespace.
    pub(crate) fn open(netns: &Netns, ports: &[u16]) -> Outcome<Self> {
        let act = "open the sockets of a station";
        let open = || -> io::Result<Self> {
            let (mut listeners, mut servers) = (Vec::new(), Vec::new());
            for &port in ports {
                let listener = tcp_socket(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
                listen(&listener, Backlog::MAXCONN)?;
                listeners.push(TcpListener::from(listener));
                let server = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
                server.set_nonblocking(true)?;
                servers.push(server);
            }
            Ok(Self {
                netns: Netns::current().map_err(io::Error::other)?,
                ports: ports.to_vec(),
                listeners,
                servers,
                echoes: [
                    raw(AddressFamily::Inet, SockProtocol::Icmp)?,
                    raw(AddressFamily::Inet6, SockProtocol::IcmpV6)?,
                ],
                segments: [
                    raw(AddressFamily::Inet, SockProtocol::Tcp)?,
                    raw(AddressFamily::Inet6, SockProtocol::Tcp)?,
                ],
                clients: [client("0.0.0.0:0")?, client("[::]:0")?],
                accepted: Vec::new(),
            })
        };
        netns
            .run(open)
            .map_err(Failure::act(act))?
            .map_err(Failure::act(act))
    }

    /// Takes new source ports, so that nothing counts as part of an older flow; starts the
    /// connections, each from the port that is its number.
    pub(crate) fn begin(
        &mut self,
        connections: &[(u16, SocketAddr)],
    ) -> Outcome<Vec<Option<TcpStream>>> {
        let act = "start connections";
        let open = || -> io::Result<_> {
            let clients = [client("0.0.0.0:0")?, client("[::]:0")?];
            let started = connections
                .iter()
                .map(|&(number, to)| start(number, to))
                .collect::<io::Result<Vec<_>>>()?;
            Ok((clients, started))
        };
        let (clients, started) = self
            .netns
            .run(open)
            .map_err(Failure::act(act))?
            .map_err(Failure::act(act))?;
        self.clients = clients;
        Ok(started)
    }

    /// Sends a datagram or an echo request. That there is no way is a fate like others.
    pub(crate) fn send(&self, mark: Mark, to: SocketAddr, source_port: Option<u16>) {
        let text = words(QUESTION, mark.number);
        let _ = match mark.protocol {
            Protocol::Tcp => Ok(0),
            Protocol::Udp => match self
                .ports
                .iter()
                .position(|port| Some(*port) == source_port)
            {
                Some(server) => {
                    // The server's socket is of both families.
                    let to = match to.ip() {
                        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), to.port())),
                        IpAddr::V6(_) => to,
                    };
                    self.servers[server].send_to(&text, to)
                }
                None => self.clients[usize::from(mark.v6)].send_to(&text, to),
            },
            Protocol::Icmp => ping(&self.echoes[usize::from(mark.v6)], mark, to.ip(), &text),
        };
    }

    /// The descriptors to wait for.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        let datagrams = self.servers.iter().chain(&self.clients).map(AsFd::as_fd);
        let raw = self.echoes.iter().chain(&self.segments).map(AsFd::as_fd);
        let accepted = self.accepted.iter().map(AsFd::as_fd);
        listeners
            .chain(datagrams)
            .chain(raw)
            .chain(accepted)
            .collect()
    }

    /// Reads all there is, answers questions, and tells what it saw.
    pub(crate) fn attend(&mut self, saw: &mut Vec<Observation>) {
        let mut buffer = [0; 2048];
        for v6 in [false, true] {
            while let Some(packet) = read(&self.echoes[usize::from(v6)], v6, &mut buffer) {
                saw.extend(echo_sight(packet, v6));
            }
            while let Some(packet) = read(&self.segments[usize::from(v6)], v6, &mut buffer) {
                saw.extend(self.opening(packet, v6));
            }
        }
        for socket in self.servers.iter().chain(&self.clients) {
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let v6 = !peer.ip().to_canonical().is_ipv4();
                let protocol = Protocol::Udp;
                match understand(&buffer[..length]) {
                    Some((QUESTION, number)) => {
                        let mark = Mark {
                            protocol,
                            v6,
                            number,
                        };
                        saw.push(Observation::Arrival(mark));
                        let _ = socket.send_to(&words(ANSWER, number), peer);
                    }
                    Some((ANSWER, number)) => saw.push(Observation::Answer(Mark {
                        protocol,
                        v6,
                        number,
                    })),
                    _ => {}
                }
            }
        }
        for listener in &self.listeners {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok() {
                    self.accepted.push(stream);
                }
            }
        }
        // One question on each, then it is closed.
        self.accepted.retain_mut(|stream| {
            use io::{Read, Write};
            match stream.read(&mut buffer) {
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
                Ok(length) => {
                    if let Some((QUESTION, number)) = understand(&buffer[..length]) {
                        let _ = stream.write_all(&words(ANSWER, number));
                    }
                    false
                }
            }
        });
    }

    /// The first segment of a connection to a port that is served.
    fn opening(&self, segment: &[u8], v6: bool) -> Option<Observation> {
        const SYN: u8 = 2;
        const SYN_ACK: u8 = SYN | 16;
        let port = |at: usize| {
            Some(u16::from_be_bytes([
                *segment.get(at)?,
                *segment.get(at + 1)?,
            ]))
        };
        let first = segment.get(13)? & SYN_ACK == SYN;
        let mark = Mark {
            protocol: Protocol::Tcp,
            v6,
            number: port(0)?,
        };
        (first && self.ports.contains(&port(2)?)).then_some(Observation::Arrival(mark))
    }
}

/// Asks on a connection that stands; `None` while it does not.
pub(crate) fn converse(stream: &mut TcpStream, asked: &mut bool, number: u16) -> Option<bool> {
    use io::{Read, Write};
    if !*asked {
        match stream.peer_addr() {
            Err(_) => {
                return match stream.take_error() {
                    Ok(None) => None,
                    _ => Some(false),
                };
            }
            Ok(_) => {
                if stream.write_all(&words(QUESTION, number)).is_err() {
                    return Some(false);
                }
                *asked = true;
            }
        }
    }
    let mut buffer = [0; 16];
    match stream.read(&mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Ok(length) => Some(understand(&buffer[..length]) == Some((ANSWER, number))),
        Err(_) => Some(false),
    }
}

fn words(kind: u8, number: u16) -> [u8; 3] {
    let [high, low] = number.to_be_bytes();
    [kind, high, low]
}

fn understand(text: &[u8]) -> Option<(u8, u16)> {
    match text {
        [kind, high, low] => Some((*kind, u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

fn client(any: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn raw(family: AddressFamily, protocol: SockProtocol) -> io::Result<OwnedFd> {
    Ok(socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        protocol,
    )?)
}

/// A socket at a port that others may be bound to as well: a server's port is also a source port.
fn tcp_socket(at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::ReusePort, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(fd)
}

/// Starts a connection; `None` when there is no way.
fn start(port: u16, to: SocketAddr) -> io::Result<Option<TcpStream>> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let any: IpAddr = any.parse().map_err(io::Error::other)?;
    let fd = tcp_socket(SocketAddr::new(any, port))?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(Some(TcpStream::from(fd))),
        Err(_) => Ok(None),
    }
}

fn ping(fd: &OwnedFd, mark: Mark, to: IpAddr, text: &[u8]) -> io::Result<usize> {
    const REQUEST_V4: u8 = 8;
    const REQUEST_V6: u8 = 128;
    let [high, low] = mark.number.to_be_bytes();
    let kind = if mark.v6 { REQUEST_V6 } else { REQUEST_V4 };
    // Identifier and sequence number are the number: every request is a flow of its own.
    let mut packet = vec![kind, 0, 0, 0, high, low, high, low];
    packet.extend_from_slice(text);
    let sent = match to {
        IpAddr::V4(ip) => {
            let sum = checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
            let to = SockaddrIn::from(std::net::SocketAddrV4::new(ip, 0));
            sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
        IpAddr::V6(ip) => {
            // The kernel writes the checksum.
            let to = SockaddrIn6::from(std::net::SocketAddrV6::new(ip, 0, 0, 0));
            sendto(fd.as_raw_fd(), &packet, &to, MsgFlags::empty())
        }
    };
    Ok(sent?)
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The next packet of a raw socket, without the IP header that only IPv4 shows.
fn read<'b>(fd: &OwnedFd, v6: bool, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let length = recv(fd.as_raw_fd(), buffer, MsgFlags::empty()).ok()?;
    let packet = &buffer[..length];
    let header = if v6 {
        0
    } else {
        usize::from(packet.first()? & 15) * 4
    };
    Some(packet.get(header..).unwrap_or_default())
}

fn echo_sight(packet: &[u8], v6: bool) -> Option<Observation> {
    let (kind, number) = (packet.first()?, understand(packet.get(8..)?)?.1);
    let mark = Mark {
        protocol: Protocol::Icmp,
        v6,
        number,
    };
    match (kind, v6) {
        (8, false) | (128, true) => Some(Observation::Arrival(mark)),
        (0, false) | (129, true) => Some(Observation::Answer(mark)),
        _ => None,
    }
}
