//! Asking servers: raw packets out, one server after the other, and back what is a reply to them.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use nix::sys::socket::{MsgFlags, recv, send};
use pontoon_dns::wire::answers;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout_at};

use super::framing::queue;
use super::keeper_client::KeeperClient;
use super::sockets;
use super::state::Daemon;
use super::tls;
use super::watch::watch;
use pontoon_resolver::choose::ServerChoice;
use pontoon_resolver::plan::is_worth_it_late;
use pontoon_resolver::resolution::{Event, NextAction, Resolution, ResolutionResult};
use pontoon_resolver::server::Server;

impl Daemon {
    /// Takes a question on its course, and does what that wants done.
    pub(crate) async fn ask(
        self: &Rc<Self>,
        choice: &ServerChoice,
        mut packet: Vec<u8>,
        mut resolution: Resolution,
    ) -> ResolutionResult {
        let mut attempts = Attempts::new(&self.late, &self.buffer);
        let mut event = Event::Start;
        loop {
            let next = self.forwarding.borrow_mut().step(
                &mut resolution,
                event,
                Instant::now(),
                &mut self.stats.borrow_mut(),
            );
            event = match next {
                NextAction::Done(outcome) => return outcome,
                NextAction::OverTcp(server, until) => {
                    let asked = ask_tcp(&self.keeper, choice, server.at, &packet);
                    match timeout_at(until.into(), asked).await {
                        Ok(Ok(reply)) => Event::Stream(reply),
                        Ok(Err(_)) => Event::Failure(None),
                        Err(_) => Event::Silence,
                    }
                }
                NextAction::Ask(server, until) => {
                    let id = self.random.borrow_mut().word();
                    packet[..2].copy_from_slice(&id.to_be_bytes());
                    match self.attempt(server, choice, &packet, id) {
                        Ok(attempt) => {
                            let room = self.forwarding.borrow().merge.late_sockets();
                            attempts.add(attempt, room);
                            let strange = || self.stats.borrow_mut().upstream_strange += 1;
                            attempts.listen(&packet, until, strange).await
                        }
                        Err(_) => Event::NotSent,
                    }
                }
            };
        }
    }

    /// Sends a question.
    fn attempt(
        self: &Rc<Self>,
        server: Server,
        choice: &ServerChoice,
        packet: &[u8],
        id: u16,
    ) -> io::Result<Attempt> {
        let (socket, next): (_, NextMessage) = if server.tls.is_some() {
            let asked = tls::ask(Rc::clone(self), server.clone(), packet.to_vec());
            (None, Box::pin(async move { asked.await.map_err(Some) }))
        } else {
            let socket = Rc::new(send_udp(&self.keeper, choice, server.at, packet)?);
            let next = receive(&socket, &self.buffer);
            (Some(socket), next)
        };
        Ok(Attempt {
            socket,
            next,
            id,
            server,
        })
    }
}

/// Waits for the next message; an error over TLS has a reason.
type NextMessage = Pin<Box<dyn Future<Output = Result<Vec<u8>, Option<String>>>>>;

/// A server that has been asked.
struct Attempt {
    /// The question's own; `None` over TLS, where questions share a connection.
    socket: Option<Rc<AsyncFd<OwnedFd>>>,
    next: NextMessage,
    id: u16,
    server: Server,
}

/// Room for one datagram, which all questions share.
type DatagramBuffer = Rc<RefCell<Vec<u8>>>;

/// A closed port is an error and no datagram: waiting for the latter alone would not see it.
const WANTED: Interest = Interest::READABLE.add(Interest::ERROR);

/// The next datagram, or the error that an ICMP message has left.
fn receive(socket: &Rc<AsyncFd<OwnedFd>>, room: &DatagramBuffer) -> NextMessage {
    let (socket, room) = (Rc::clone(socket), Rc::clone(room));
    Box::pin(async move {
        loop {
            let mut guard = socket.ready(WANTED).await.map_err(|_| None)?;
            let got = guard.try_io(|socket| {
                let mut room = room.borrow_mut();
                let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT)?;
                Ok(room[..length].to_vec())
            });
            if let Ok(got) = got {
                return got.map_err(|_: io::Error| None);
            }
        }
    })
}

/// The attempt under way, last, and those that were given up: a reply may still come.
struct Attempts<'a> {
    all: Vec<Attempt>,
    /// Whether the last one is under way.
    open: bool,
    /// How many sockets of attempts that were given up all questions have.
    late: &'a Cell<usize>,
    room: &'a DatagramBuffer,
}

impl<'a> Attempts<'a> {
    fn new(late: &'a Cell<usize>, room: &'a DatagramBuffer) -> Self {
        Self {
            all: Vec::new(),
            open: false,
            late,
            room,
        }
    }

    /// Begins an attempt. The one before is listened to as long as sockets are not needed elsewhere.
    fn add(&mut self, attempt: Attempt, room: usize) {
        if self.open {
            if self.late.get() < room {
                self.late.set(self.late.get() + 1);
            } else {
                self.all.pop();
            }
        }
        self.open = true;
        self.all.push(attempt);
    }

    /// Ends the attempt under way: nothing more can come by it.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.all.pop();
        }
    }

    /// Waits for a reply to the question. `strange` hears of what is none.
    async fn listen(&mut self, packet: &[u8], until: Instant, strange: impl Fn()) -> Event {
        let alarm = sleep_until(until.into());
        tokio::pin!(alarm);
        loop {
            let arrival = async {
                tokio::select! {
                    biased;
                    arrival = self.receive() => Some(arrival),
                    () = &mut alarm => None,
                }
            };
            let Some((index, got)) = arrival.await else {
                return Event::Silence;
            };
            let current = self.open && index + 1 == self.all.len();
            let message = match got {
                Ok(message) => message,
                Err(reason) if current => {
                    self.close();
                    return Event::Failure(reason);
                }
                Err(_) => {
                    self.all.remove(index);
                    self.late.set(self.late.get() - 1);
                    continue;
                }
            };
            let attempt = &self.all[index];
            if !answers(packet, attempt.id, &message) {
                // A guess of a stranger, or an old reply that comes late: the right one may still come.
                strange();
            } else if current {
                let by_udp = attempt.socket.is_some();
                self.close();
                return match by_udp {
                    true => Event::Datagram(message),
                    false => Event::Stream(message),
                };
            } else if is_worth_it_late(&message) {
                return Event::Late(message, attempt.server.clone());
            } else {
                strange();
            }
        }
    }

    /// The next datagram of any socket.
    async fn receive(&mut self) -> (usize, Result<Vec<u8>, Option<String>>) {
        poll_fn(|context| {
            for (index, attempt) in self.all.iter_mut().enumerate() {
                if let Poll::Ready(got) = attempt.next.as_mut().poll(context) {
                    attempt.next = match &attempt.socket {
                        Some(socket) => receive(socket, self.room),
                        None => Box::pin(pending()),
                    };
                    return Poll::Ready((index, got));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        let late = self.all.len() - usize::from(self.open);
        self.late.set(self.late.get() - late);
    }
}

/// Sends the question to `server` from a port that the kernel chooses at random.
fn send_udp(
    keeper: &KeeperClient,
    choice: &ServerChoice,
    server: SocketAddr,
    packet: &[u8],
) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = connected(keeper, choice, server, false)?;
    send(fd.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT)?;
    watch(fd, WANTED)
}

/// A socket that is connected to a server of a way, or about to be. Those of a container's own servers
/// are in its namespace, which only the keeper can enter.
fn connected(
    keeper: &KeeperClient,
    choice: &ServerChoice,
    server: SocketAddr,
    stream: bool,
) -> io::Result<OwnedFd> {
    match &choice.own {
        Some(key) => keeper.connect(key.path(), server, stream),
        None => sockets::connected(server, stream),
    }
}

/// Asks `server` over TCP.
async fn ask_tcp(
    keeper: &KeeperClient,
    choice: &ServerChoice,
    server: SocketAddr,
    packet: &[u8],
) -> io::Result<Vec<u8>> {
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let fd = connected(keeper, choice, server, true)?;
    let mut stream = TcpStream::from_std(fd.into())?;
    stream.writable().await?;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    let mut output = Vec::new();
    queue(&mut output, packet);
    stream.write_all(&output).await?;
    loop {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        if answers(packet, id, &message) {
            return Ok(message);
        }
    }
}
