//! Asking servers: raw packets out, one server after the other, and back what is a reply to them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use nix::sys::socket::{MsgFlags, recv, send};
use pontoon_dns::cache::Question;
use pontoon_dns::wire::answers;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout_at};

use super::door::Door;
use super::sockets;
use super::state::Daemon;
use super::stats::Outcome;
use super::upstream::Way;
use super::watch::watch;
use pontoon_resolver::plan::{ATTEMPT, After, Plan, Step, Worth, is_worth_it_late};

/// What the servers had to say.
pub(crate) struct Said {
    pub(crate) reply: Option<Vec<u8>>,
    pub(crate) outcome: Outcome,
}

impl Daemon {
    /// Asks the servers of a way, one after the other.
    pub(crate) async fn ask(
        &self,
        way: &Way,
        mut packet: Vec<u8>,
        question: Option<&Question>,
    ) -> Said {
        let stale = |now| {
            let stale = question.and_then(|question| self.cache.borrow().stale(question, now))?;
            self.stats.borrow_mut().stale += 1;
            Some(Said {
                reply: Some(stale),
                outcome: Outcome::Stale,
            })
        };
        let mut plan = Plan::new(way.servers.clone(), Instant::now());
        let mut after = After::Start;
        let mut refusal = None;
        let mut attempts = Attempts::new(&self.late, &self.buffer);
        loop {
            let now = Instant::now();
            let (server, until) = match plan.next(after, now) {
                Step::Ask(server, until) => (server, until),
                Step::StaleOr(server, until) => match stale(now) {
                    Some(said) => return said,
                    None => (server, until),
                },
                Step::GiveUp => break,
            };
            let id = self.chance.borrow_mut().word();
            packet[..2].copy_from_slice(&id.to_be_bytes());
            self.upstreams.borrow_mut().asked(server);
            after = After::Failure;
            let Ok(socket) = send_udp(&self.door, way, server, &packet) else {
                self.upstreams.borrow_mut().failed(server, now);
                continue;
            };
            let room = self.merge.borrow().late_sockets();
            let socket = Rc::new(socket);
            let next = receive(&socket, &self.buffer);
            let attempt = Attempt {
                socket,
                next,
                id,
                server,
            };
            attempts.add(attempt, room);
            let strange = || self.stats.borrow_mut().upstream_strange += 1;
            let heard = attempts.listen(&packet, until, strange).await;
            let took = |begun: Instant| Instant::now().saturating_duration_since(begun);
            let mut reply = match heard {
                Heard::Silence => {
                    self.stats.borrow_mut().upstream_timeouts += 1;
                    self.upstreams.borrow_mut().failed(server, Instant::now());
                    after = After::Silence;
                    continue;
                }
                Heard::Failure => {
                    self.stats.borrow_mut().upstream_refusals += 1;
                    self.upstreams.borrow_mut().failed(server, Instant::now());
                    attempts.close();
                    continue;
                }
                Heard::Late(reply, server) => {
                    self.upstreams.borrow_mut().answered(server, took(now));
                    return Said {
                        reply: Some(reply),
                        outcome: Outcome::Forwarded,
                    };
                }
                Heard::Reply(reply) => reply,
            };
            attempts.close();
            self.upstreams.borrow_mut().answered(server, took(now));
            let mut worth = plan.judge(&reply, true);
            if worth == Worth::OverTcp {
                self.stats.borrow_mut().tcp_retries += 1;
                let until = Instant::now() + ATTEMPT;
                let asked = ask_tcp(&self.door, way, server, &packet, id);
                match timeout_at(until.into(), asked).await {
                    Ok(Ok(whole)) => {
                        worth = plan.judge(&whole, false);
                        reply = whole;
                    }
                    Ok(Err(_)) => {
                        self.stats.borrow_mut().upstream_refusals += 1;
                        self.upstreams.borrow_mut().failed(server, Instant::now());
                        continue;
                    }
                    Err(_) => {
                        self.stats.borrow_mut().upstream_timeouts += 1;
                        self.upstreams.borrow_mut().failed(server, Instant::now());
                        after = After::Silence;
                        continue;
                    }
                }
            }
            if worth == Worth::Refusal {
                self.stats.borrow_mut().upstream_refusals += 1;
                refusal = Some(reply);
                continue;
            }
            return Said {
                reply: Some(reply),
                outcome: Outcome::Forwarded,
            };
        }
        if refusal.is_none()
            && let Some(said) = stale(Instant::now())
        {
            return said;
        }
        self.stats.borrow_mut().servfail += 1;
        Said {
            reply: refusal,
            outcome: Outcome::Failed,
        }
    }
}

/// A server that has been asked, by a socket of its own.
struct Attempt {
    socket: Rc<AsyncFd<OwnedFd>>,
    /// Waits for the next datagram.
    next: Pin<Box<dyn Future<Output = io::Result<Vec<u8>>>>>,
    id: u16,
    server: SocketAddr,
}

/// Room for one datagram, which all questions share.
type Room = Rc<RefCell<Vec<u8>>>;

/// A closed port is an error and no datagram: waiting for the latter alone would not see it.
const WANTED: Interest = Interest::READABLE.add(Interest::ERROR);

/// The next datagram, or the error that an ICMP message has left.
fn receive(
    socket: &Rc<AsyncFd<OwnedFd>>,
    room: &Room,
) -> Pin<Box<dyn Future<Output = io::Result<Vec<u8>>>>> {
    let (socket, room) = (Rc::clone(socket), Rc::clone(room));
    Box::pin(async move {
        loop {
            let mut guard = socket.ready(WANTED).await?;
            let got = guard.try_io(|socket| {
                let mut room = room.borrow_mut();
                let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT)?;
                Ok(room[..length].to_vec())
            });
            if let Ok(got) = got {
                return got;
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
    room: &'a Room,
}

/// What has come.
enum Heard {
    Reply(Vec<u8>),
    Late(Vec<u8>, SocketAddr),
    Failure,
    Silence,
}

impl<'a> Attempts<'a> {
    fn new(late: &'a Cell<usize>, room: &'a Room) -> Self {
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
    async fn listen(&mut self, packet: &[u8], until: Instant, strange: impl Fn()) -> Heard {
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
                return Heard::Silence;
            };
            let current = self.open && index + 1 == self.all.len();
            let (Ok(message), Some(attempt)) = (got, self.all.get(index)) else {
                if current {
                    return Heard::Failure;
                }
                self.all.remove(index);
                self.late.set(self.late.get() - 1);
                continue;
            };
            if !answers(packet, attempt.id, &message) {
                // A guess of a stranger, or an old reply that comes late: the right one may still come.
                strange();
            } else if current {
                return Heard::Reply(message);
            } else if is_worth_it_late(&message) {
                return Heard::Late(message, attempt.server);
            } else {
                strange();
            }
        }
    }

    /// The next datagram of any socket.
    async fn receive(&mut self) -> (usize, io::Result<Vec<u8>>) {
        poll_fn(|context| {
            for (index, attempt) in self.all.iter_mut().enumerate() {
                if let Poll::Ready(got) = attempt.next.as_mut().poll(context) {
                    attempt.next = receive(&attempt.socket, self.room);
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
    door: &Door,
    way: &Way,
    server: SocketAddr,
    packet: &[u8],
) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = connected(door, way, server, false)?;
    send(fd.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT)?;
    watch(fd, WANTED)
}

/// A socket that is connected to a server of a way, or about to be. Those of a container's own servers
/// are in its namespace, which only the keeper can enter.
fn connected(door: &Door, way: &Way, server: SocketAddr, stream: bool) -> io::Result<OwnedFd> {
    match &way.own {
        Some(key) => door.connect(key.path(), server, stream),
        None => sockets::connected(server, stream),
    }
}

/// Asks `server` over TCP.
async fn ask_tcp(
    door: &Door,
    way: &Way,
    server: SocketAddr,
    packet: &[u8],
    id: u16,
) -> io::Result<Vec<u8>> {
    let fd = connected(door, way, server, true)?;
    let mut stream = TcpStream::from_std(fd.into())?;
    stream.writable().await?;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    let mut output = (packet.len() as u16).to_be_bytes().to_vec();
    output.extend_from_slice(packet);
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
