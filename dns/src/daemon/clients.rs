//! Clients that ask over TCP: bounded in number, in questions at a time, and in idle time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use super::flight::{Client, frame, waits};
use super::poll::{Interest, Source};
use super::slab::{Id, Slab};
use super::{Daemon, Fate};

/// Most connections in all, and of one client.
const MOST: usize = 512;
const MOST_OF_ONE: usize = 32;
/// Most questions of one connection under way.
const PENDING: usize = 16;
/// Bytes of replies that may wait for a client who does not read.
const UNREAD: usize = 256 * 1024;
/// For how long a connection may say nothing complete (RFC 7766 section 6.2.3 wants seconds).
const IDLE: Duration = Duration::from_secs(10);

/// A connection.
struct Connection {
    stream: TcpStream,
    source: IpAddr,
    input: Vec<u8>,
    output: Vec<u8>,
    pending: usize,
    /// The client has said all it wants to.
    ended: bool,
    active: Instant,
    interest: Interest,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Clients {
    connections: Slab<Connection>,
    of_source: HashMap<IpAddr, usize>,
}

impl Clients {
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    fn remove(&mut self, id: Id) {
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        if let Some(count) = self.of_source.get_mut(&connection.source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&connection.source);
            }
        }
    }
}

impl Daemon {
    pub(super) fn accept(&mut self, id: Id, now: Instant) {
        loop {
            let Some(listener) = self.listeners.tcp.get(id) else {
                return;
            };
            let (stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => return self.pause_accepting(&error, now),
            };
            let source = peer.ip();
            let of_one = self.clients.of_source.get(&source).copied().unwrap_or(0);
            if self.clients.len() >= MOST || of_one >= MOST_OF_ONE {
                self.stats.over_limit += 1;
                continue;
            }
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                source,
                input: Vec::new(),
                output: Vec::new(),
                pending: 0,
                ended: false,
                active: now,
                interest: Interest::Read,
            };
            let id = self.clients.connections.insert(connection);
            *self.clients.of_source.entry(source).or_default() += 1;
            let Some(connection) = self.clients.connections.get(id) else {
                continue;
            };
            let added = self
                .poll
                .add(&connection.stream, Source::Client(id), Interest::Read);
            if added.is_err() {
                self.clients.remove(id);
            }
        }
    }

    pub(super) fn client_ready(&mut self, id: Id, broken: bool, now: Instant) {
        if broken {
            return self.clients.remove(id);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let alive = match self.clients.connections.get_mut(id) {
            Some(connection) => connection.read(&mut buffer),
            None => false,
        };
        self.buffer = buffer;
        if !alive {
            return self.clients.remove(id);
        }
        self.serve_client(id, now);
    }

    /// Answers what has come in, sends what can be sent, and says what is waited for next.
    fn serve_client(&mut self, id: Id, now: Instant) {
        loop {
            let Some(connection) = self.clients.connections.get_mut(id) else {
                return;
            };
            if connection.pending >= PENDING || connection.output.len() > UNREAD {
                break;
            }
            let Some(message) = frame(&mut connection.input) else {
                break;
            };
            connection.active = now;
            let source = connection.source;
            self.stats.tcp_queries += 1;
            let fate = self.answer(&message, Client::Tcp(id), source);
            let Some(connection) = self.clients.connections.get_mut(id) else {
                return;
            };
            match fate {
                Fate::Reply => connection.queue(&self.out),
                Fate::Pending => connection.pending += 1,
                // Who sends no DNS over this stream has nothing to hope for.
                Fate::Dropped => return self.clients.remove(id),
            }
        }
        let Some(connection) = self.clients.connections.get_mut(id) else {
            return;
        };
        if !connection.flush() || connection.is_done() {
            return self.clients.remove(id);
        }
        let wanted = connection.wants();
        if wanted != connection.interest {
            connection.interest = wanted;
            let changed = self
                .poll
                .change(&connection.stream, Source::Client(id), wanted);
            if changed.is_err() {
                self.clients.remove(id);
            }
        }
    }

    /// A reply from elsewhere for a client: what is in `out`.
    pub(super) fn reply_to_client(&mut self, id: Id, now: Instant) {
        if let Some(connection) = self.clients.connections.get_mut(id) {
            connection.pending = connection.pending.saturating_sub(1);
            connection.active = now;
            connection.queue(&self.out);
            self.serve_client(id, now);
        }
    }

    pub(super) fn sweep_clients(&mut self, now: Instant) {
        for id in self.clients.connections.ids() {
            let idle = self.clients.connections.get(id).is_some_and(|connection| {
                connection.pending == 0 && now.saturating_duration_since(connection.active) > IDLE
            });
            if idle {
                self.clients.remove(id);
            }
        }
    }
}

impl Connection {
    /// Reads what is there; `false` when the connection is no more.
    fn read(&mut self, buffer: &mut [u8]) -> bool {
        // Another message is taken in only when the one before is answered.
        while !self.ended && self.input.len() < 2 * buffer.len() {
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    if count < buffer.len() {
                        return true;
                    }
                }
                Err(error) if waits(&error) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn queue(&mut self, message: &[u8]) {
        self.output
            .extend_from_slice(&(message.len() as u16).to_be_bytes());
        self.output.extend_from_slice(message);
    }

    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return false,
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if waits(&error) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn is_done(&self) -> bool {
        self.ended && self.pending == 0 && self.output.is_empty()
    }

    /// Never for reading when there is nothing to be read any more, which would always be ready.
    fn wants(&self) -> Interest {
        let reading = !self.ended && self.pending < PENDING && self.output.len() <= UNREAD;
        match (reading, !self.output.is_empty()) {
            (true, true) => Interest::Both,
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (false, false) => Interest::Nothing,
        }
    }
}
