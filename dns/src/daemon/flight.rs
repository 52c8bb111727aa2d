//! One question under way to other servers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use pontoon_dns::cache::Question;
use pontoon_netlink::Netns;

use super::slab::Id;

/// For how long one server is waited for.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(1);
/// For how long a question is tried in all.
pub(crate) const WHOLE: Duration = Duration::from_secs(4);

/// Where a reply goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Udp(Id, SocketAddr),
    Tcp(Id),
    Command(Id),
}

/// Somebody who wants the reply.
pub(crate) struct Waiter {
    pub(crate) client: Client,
    pub(crate) source: IpAddr,
    /// The query as it came.
    pub(crate) packet: Box<[u8]>,
}

/// How the question travels.
pub(crate) enum Transport {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        output: Vec<u8>,
        written: usize,
        input: Vec<u8>,
    },
}

/// A question under way.
pub(crate) struct Flight {
    /// What makes others the same; `None`: nothing is.
    pub(crate) question: Option<Question>,
    /// The query as it is sent, with an identifier of ours.
    pub(crate) packet: Vec<u8>,
    pub(crate) id: u16,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) netns: Option<std::path::PathBuf>,
    /// How many attempts were made.
    pub(crate) attempts: usize,
    pub(crate) transport: Option<Transport>,
    /// Attempts that have been silent so far: a reply may still come late.
    pub(crate) earlier: Vec<Earlier>,
    /// How many attempts were ever set aside.
    pub(crate) kept_aside: usize,
    /// When the attempt began.
    pub(crate) since: Instant,
    pub(crate) attempt_ends: Instant,
    pub(crate) begun: Instant,
    pub(crate) ends: Instant,
    /// What a server said that did not want to answer.
    pub(crate) refusal: Option<Vec<u8>>,
}

/// An attempt that was given up, and is still listened to.
pub(crate) struct Earlier {
    socket: UdpSocket,
    id: u16,
    server: SocketAddr,
}

/// What became of reading.
pub(crate) enum Arrival {
    /// Nothing yet.
    Nothing,
    /// A message; whether it is a reply to our question is not known yet.
    Message(Vec<u8>),
    /// The same from a server that was given up, and the identifier that the reply must have.
    Late(Vec<u8>, u16, SocketAddr),
    /// This attempt will bring nothing more.
    Failed,
}

impl Flight {
    /// The server of the current attempt.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        let last = self.attempts.checked_sub(1)?;
        self.servers.get(last % self.servers.len().max(1)).copied()
    }

    /// Whether every server has had its turn.
    pub(crate) fn all_tried(&self) -> bool {
        self.attempts >= self.servers.len()
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match self.transport.as_ref()? {
            Transport::Udp(socket) => socket.as_fd(),
            Transport::Tcp { stream, .. } => stream.as_fd(),
        })
    }

    /// Sends the question to `server` from a port of chance.
    pub(crate) fn send_udp(&mut self, server: SocketAddr) -> io::Result<()> {
        let open = || -> io::Result<UdpSocket> {
            let any: IpAddr = if server.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            // The kernel drops what comes from elsewhere, and tells of closed ports.
            socket.connect(server)?;
            Ok(socket)
        };
        let socket = inside(self.netns.as_deref(), open)?;
        socket.send(&self.packet)?;
        self.transport = Some(Transport::Udp(socket));
        Ok(())
    }

    /// Begins to ask `server` over TCP.
    pub(crate) fn send_tcp(&mut self, server: SocketAddr) -> io::Result<()> {
        let open = || -> io::Result<TcpStream> {
            let family = if server.is_ipv4() {
                AddressFamily::Inet
            } else {
                AddressFamily::Inet6
            };
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let fd = socket(family, SockType::Stream, flags, None)?;
            match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
                Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(fd)),
                Err(errno) => Err(errno.into()),
            }
        };
        let stream = inside(self.netns.as_deref(), open)?;
        let mut output = (self.packet.len() as u16).to_be_bytes().to_vec();
        output.extend_from_slice(&self.packet);
        self.transport = Some(Transport::Tcp {
            stream,
            output,
            written: 0,
            input: Vec::new(),
        });
        Ok(())
    }

    /// Whether there is still something to send.
    pub(crate) fn sending(&self) -> bool {
        matches!(&self.transport, Some(Transport::Tcp { output, written, .. })
            if *written < output.len())
    }

    /// Gives the current attempt up, but for a reply that comes late. Whether its socket stays.
    pub(crate) fn set_aside(&mut self) -> bool {
        let server = self.server();
        if let (Some(Transport::Udp(socket)), Some(server)) = (self.transport.take(), server) {
            self.earlier.push(Earlier {
                socket,
                id: self.id,
                server,
            });
            self.kept_aside += 1;
            return true;
        }
        false
    }

    /// What has come for attempts that were given up.
    fn late(&mut self, buffer: &mut [u8]) -> Option<Arrival> {
        let mut found = None;
        self.earlier.retain(|earlier| {
            if found.is_some() {
                return true;
            }
            match earlier.socket.recv(buffer) {
                Ok(length) => {
                    let message = buffer[..length].to_vec();
                    found = Some(Arrival::Late(message, earlier.id, earlier.server));
                    true
                }
                Err(error) => waits(&error),
            }
        });
        found
    }

    /// Goes on with whatever is ready.
    pub(crate) fn advance(&mut self, buffer: &mut [u8]) -> Arrival {
        if let Some(late) = self.late(buffer) {
            return late;
        }
        match &mut self.transport {
            None => Arrival::Failed,
            Some(Transport::Udp(socket)) => match socket.recv(buffer) {
                Ok(length) => Arrival::Message(buffer[..length].to_vec()),
                Err(error) if waits(&error) => Arrival::Nothing,
                Err(_) => Arrival::Failed,
            },
            Some(Transport::Tcp {
                stream,
                output,
                written,
                input,
            }) => {
                while *written < output.len() {
                    match stream.write(&output[*written..]) {
                        Ok(0) => return Arrival::Failed,
                        Ok(count) => *written += count,
                        Err(error) if waits(&error) => return Arrival::Nothing,
                        Err(_) => return Arrival::Failed,
                    }
                }
                loop {
                    if let Some(message) = frame(input) {
                        return Arrival::Message(message);
                    }
                    match stream.read(buffer) {
                        Ok(0) => return Arrival::Failed,
                        Ok(count) => input.extend_from_slice(&buffer[..count]),
                        Err(error) if waits(&error) => return Arrival::Nothing,
                        Err(_) => return Arrival::Failed,
                    }
                }
            }
        }
    }
}

/// Takes a whole message off the front of a stream (RFC 1035 section 4.2.2).
pub(crate) fn frame(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*input.first()?, *input.get(1)?]));
    if input.len() < 2 + length {
        return None;
    }
    let message = input[2..2 + length].to_vec();
    input.drain(..2 + length);
    Some(message)
}

/// Whether a socket has only nothing to say yet.
pub(crate) fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A socket of the namespace at `path`. Sockets stay where they are made.
fn inside<T: Send>(
    path: Option<&Path>,
    open: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(path) = path else { return open() };
    let netns = Netns::open(path).map_err(io::Error::other)?;
    netns.run(open).map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_off_one_by_one() {
        let mut input = vec![0, 2, 7, 8, 0, 1, 9, 0];
        assert_eq!(frame(&mut input), Some(vec![7, 8]));
        assert_eq!(frame(&mut input), Some(vec![9]));
        assert_eq!(frame(&mut input), None);
        input.extend_from_slice(&[0]);
        assert_eq!(frame(&mut input), Some(Vec::new()));
    }
}
