//! Connections that prove something: a server that tells each client which address it saw, and a
//! client that waits only so long.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use pontoon_netlink::Netns;

use super::failure::{Failure, Outcome};

/// How often a server looks whether it should stop.
const NAP_MS: i64 = 50;

/// An echo server on one port, TCP and UDP, IPv4 and IPv6. Stops when dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Which server it was.
    pub server: String,
    /// The client's address as the server saw it.
    pub peer: IpAddr,
}

/// Why there was no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReply {
    /// Nothing came in time.
    Timeout,
    /// The other side, or a router, said no.
    Refused,
    /// There is no way there.
    Unreachable,
    /// Something answered that is no server of ours.
    Strange,
}

impl Echo {
    /// Starts a server called `name` on `port` in a namespace.
    pub fn start(netns: &Netns, name: &str, port: u16) -> Outcome<Self> {
        // Sockets stay in the namespace they are made in, so only this moment is spent inside. A
        // socket on `::` serves both families.
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let act = format!("listen on port {port} as {name}");
        let (tcp, udp) = netns
            .run(|| -> io::Result<_> {
                Ok((TcpListener::bind(everywhere)?, UdpSocket::bind(everywhere)?))
            })
            .map_err(Failure::act(&act))?
            .map_err(Failure::act(&act))?;
        let nap = TimeVal::milliseconds(NAP_MS);
        setsockopt(&tcp, sockopt::ReceiveTimeout, &nap).map_err(Failure::act(&act))?;
        setsockopt(&udp, sockopt::ReceiveTimeout, &nap).map_err(Failure::act(&act))?;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = vec![
            thread::spawn({
                let (stop, name) = (Arc::clone(&stop), name.to_owned());
                move || serve_tcp(&tcp, &name, &stop)
            }),
            thread::spawn({
                let (stop, name) = (Arc::clone(&stop), name.to_owned());
                move || serve_udp(&udp, &name, &stop)
            }),
        ];
        Ok(Self { stop, threads })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that panicked has nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn answer(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", peer.ip().to_canonical())
}

fn serve_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, peer)) = listener.accept() else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut request = [0; 5];
        if stream.read_exact(&mut request).is_ok() {
            let _ = stream.write_all(answer(name, peer).as_bytes());
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut request = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut request) {
            let _ = socket.send_to(answer(name, peer).as_bytes(), peer);
        }
    }
}

/// [`tcp`] or [`udp`].
pub type Ask = fn(SocketAddr, Duration) -> Result<Reply, NoReply>;

/// Both, by name.
pub const BOTH: [(&str, Ask); 2] = [("TCP", tcp), ("UDP", udp)];

/// Asks the server at `target` over TCP, from the namespace of the calling thread.
pub fn tcp(target: SocketAddr, timeout: Duration) -> Result<Reply, NoReply> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&target, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"hello")?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    };
    understand(ask())
}

/// Asks the server at `target` over UDP, from the namespace of the calling thread. The socket is
/// connected: an answer that comes from another address is no answer.
pub fn udp(target: SocketAddr, timeout: Duration) -> Result<Reply, NoReply> {
    let ask = || -> io::Result<String> {
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send(b"hello")?;
        let mut reply = [0; 256];
        let length = socket.recv(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
    };
    understand(ask())
}

fn understand(answer: io::Result<String>) -> Result<Reply, NoReply> {
    let text = answer.map_err(|error| match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => NoReply::Timeout,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => NoReply::Refused,
        _ => NoReply::Unreachable,
    })?;
    let (server, peer) = text.rsplit_once(' ').ok_or(NoReply::Strange)?;
    let peer = peer.parse().map_err(|_| NoReply::Strange)?;
    Ok(Reply {
        server: server.to_owned(),
        peer,
    })
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no answer in time",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Strange => "a strange answer",
        })
    }
}
