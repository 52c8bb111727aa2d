//! Clients that wait for a reply, and whom their questions are asked.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Instant;

use pontoon_dns::wire::Edns;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use pontoon_resolver::choose::ServerChoice;

/// Largest DNS message, in bytes.
pub(crate) const MESSAGE: usize = 65_535;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketOutcome {
    /// The reply is written.
    Reply,
    /// There will be one.
    Pending,
    /// There will be none.
    Dropped,
}

/// Where a reply goes.
pub(crate) enum Client {
    Udp(Rc<AsyncFd<UdpSocket>>, SocketAddr),
    Tcp(mpsc::Sender<Vec<u8>>),
    Command(oneshot::Sender<Vec<u8>>),
}

/// A client that waits for a reply.
pub(crate) struct Waiter {
    pub(crate) client: Client,
    /// The query as it came.
    pub(crate) packet: Box<[u8]>,
    pub(crate) edns: Option<Edns>,
    pub(crate) begun: Instant,
}

/// A question that had no answer.
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) source: IpAddr,
    pub(crate) reason: String,
}

/// The way of a client's questions, and whether it is on internal networks alone. `None` when it has come
/// to an internal network from elsewhere.
pub(crate) type ClientServers = Option<(Rc<ServerChoice>, bool)>;

/// Ways of the clients of one turn: whatever they ask for, when their networks have no servers for
/// some domains.
#[derive(Default)]
pub(crate) struct ServerChoices(Vec<((IpAddr, Option<IpAddr>), ClientServers)>);

/// Most clients whose ways are remembered.
const CLIENTS: usize = 8;

impl ServerChoices {
    /// Everything is looked at again from now on.
    pub(crate) fn begin_turn(&mut self) {
        self.0.clear();
    }

    pub(crate) fn get(&self, client: (IpAddr, Option<IpAddr>)) -> Option<&ClientServers> {
        let known = self.0.iter().find(|(known, _)| *known == client);
        known.map(|(_, found)| found)
    }

    pub(crate) fn put(&mut self, client: (IpAddr, Option<IpAddr>), found: &ClientServers) {
        if self.0.len() < CLIENTS {
            self.0.push((client, found.clone()));
        }
    }
}
