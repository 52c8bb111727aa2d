//! Questions that others answer: raw packets out, and back what is a reply to them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_server::server::Request;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, socket,
};
use pontoon_dns::cache::{Question, readdress};
use pontoon_dns::internal::{confinement, is_astray};
use pontoon_dns::name::text;
use pontoon_dns::wire::{Query, Rcode, answers, flag, flags};
use pontoon_netlink::Netns;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout_at};

use super::daemon::{Daemon, Fate, MESSAGE};
use super::outside::Look;
use super::stats::Outcome;
use super::upstream::Way;
use pontoon_resolver::local::{self, Local};
use pontoon_resolver::merge::{Entered, MOST_OF_ONE};
use pontoon_resolver::plan::{After, Plan, Step, Worth, is_worth_it_late};

/// Questions without an answer that are remembered.
const FAILURES: usize = 20;

/// Where a reply goes.
pub(crate) enum Client {
    Udp(Rc<UdpSocket>, SocketAddr),
    Tcp(mpsc::Sender<Vec<u8>>),
    Command(oneshot::Sender<Vec<u8>>),
}

/// Somebody who waits for a reply.
pub(crate) struct Waiter {
    client: Client,
    /// The query as it came.
    packet: Box<[u8]>,
    from: SocketAddr,
    begun: Instant,
}

/// A question that had no answer.
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) source: IpAddr,
    pub(crate) reason: String,
}

/// What the servers had to say.
struct Said {
    reply: Option<Vec<u8>>,
    outcome: Outcome,
}

/// Who asks, and where.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) from: SocketAddr,
    /// The address asked at, when the source may be a lie.
    pub(crate) gateway: Option<IpAddr>,
    /// Bytes that the reply may have.
    pub(crate) limit: usize,
}

impl Daemon {
    /// Finds the reply to a question of somebody else's domain, or goes to ask for it. A reply that is
    /// there at once is in `out`.
    pub(crate) fn forward(
        self: &Rc<Self>,
        request: &Request,
        query: &Query<'_>,
        asked: Asked,
        client: impl FnOnce() -> Client,
        out: &mut Vec<u8>,
    ) -> Fate {
        let Asked {
            from,
            gateway,
            limit,
        } = asked;
        let source = from.ip();
        let now = Instant::now();
        let name = query.name.to_ascii_lowercase();
        let refuse = |out: &mut Vec<u8>| {
            self.stats.borrow_mut().refused += 1;
            self.times
                .borrow_mut()
                .note(Outcome::Refused, now.elapsed());
            Local::bare(request, ResponseCode::Refused, false).write(request, limit, out);
            Fate::Reply
        };
        let Some((way, confined)) = self.way(source, gateway, &name, now) else {
            return refuse(out);
        };
        if confined && way.servers.is_empty() {
            // Before the cache: what others have asked is not for this one either.
            return refuse(out);
        }
        let question = Question::of(query, way.number);
        if let Some(question) = &question
            && self.cache.borrow().get(question, query, now, out)
        {
            self.stats.borrow_mut().cache_hits += 1;
            self.times.borrow_mut().note(Outcome::Cached, now.elapsed());
            cut(request, limit, out);
            return Fate::Reply;
        }
        let fail = |reason: &str, out: &mut Vec<u8>| {
            self.failed(query, source, reason, now);
            Local::bare(request, ResponseCode::ServFail, false).write(request, limit, out);
            Fate::Reply
        };
        if way.servers.is_empty() {
            self.stats.borrow_mut().servfail += 1;
            return fail(&format!("{} names no usable server", way.origin), out);
        }
        let waiter = || Waiter {
            client: client(),
            packet: query.packet.into(),
            from,
            begun: now,
        };
        let entered = self
            .merge
            .borrow_mut()
            .enter(question.as_ref(), source, waiter);
        match entered {
            Entered::Joined => self.stats.borrow_mut().merged += 1,
            Entered::New(number) => {
                self.stats.borrow_mut().forwarded += 1;
                let packet = query.onward();
                let daemon = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let servers = way.servers.clone();
                    let said = daemon.ask(way, packet, question.as_ref()).await;
                    daemon.deliver(number, said, &servers);
                });
            }
            Entered::ClientIsFull => {
                self.stats.borrow_mut().over_limit += 1;
                let reason = format!("more than {MOST_OF_ONE} questions of one client at a time");
                return fail(&reason, out);
            }
            Entered::AllIsFull => {
                self.stats.borrow_mut().over_limit += 1;
                return fail("too many questions at a time", out);
            }
        }
        Fate::Pending
    }

    /// Whom a question is asked, and whether the asker is on internal networks alone. `None` when it
    /// has come to an internal network from elsewhere.
    pub(crate) fn way(
        &self,
        source: IpAddr,
        gateway: Option<IpAddr>,
        name: &[u8],
        now: Instant,
    ) -> Option<(Way, bool)> {
        let zone = self.zone.borrow();
        let mut outside = self.outside.borrow_mut();
        let mut look = Look {
            outside: &mut outside,
            zone: &zone,
            now,
        };
        let asker = zone.asker(source);
        if gateway.is_some_and(|gateway| is_astray(&zone, asker, gateway, &mut look)) {
            return None;
        }
        let confined = confinement(&zone, asker, &mut look);
        let route = zone.at(source).map(|attachment| &attachment.route);
        let way = self
            .upstreams
            .borrow_mut()
            .way(&zone, route, name, confined.as_deref(), now);
        Some((way, confined.is_some()))
    }

    /// Asks the servers of a way, one after the other.
    async fn ask(&self, way: Way, mut packet: Vec<u8>, question: Option<&Question>) -> Said {
        let stale = |now| {
            let stale = question.and_then(|question| self.cache.borrow().stale(question, now))?;
            self.stats.borrow_mut().stale += 1;
            Some(Said {
                reply: Some(stale),
                outcome: Outcome::Stale,
            })
        };
        let mut plan = Plan::new(way.servers, Instant::now());
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
            let Ok(socket) = send_udp(server, way.netns.as_deref(), &packet) else {
                self.upstreams.borrow_mut().failed(server, now);
                continue;
            };
            let room = self.merge.borrow().late_sockets();
            attempts.add(Attempt::new(socket, id, server), room);
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
                let until = Instant::now() + pontoon_resolver::plan::ATTEMPT;
                let asked = ask_tcp(server, way.netns.as_deref(), &packet, id);
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

    /// Gives everybody who waits the reply, or SERVFAIL when there is none.
    fn deliver(&self, number: u64, said: Said, servers: &[SocketAddr]) {
        let now = Instant::now();
        let (question, waiters) = self.merge.borrow_mut().leave(number);
        if let (Some(question), Some(reply), Outcome::Forwarded) =
            (question, &said.reply, said.outcome)
        {
            self.cache.borrow_mut().put(question, reply, now);
        }
        let reason = match (&said.reply, said.outcome) {
            (Some(reply), Outcome::Failed) => {
                let refused = flags(reply) & flag::RCODE == Rcode::Refused as u16;
                let code = if refused { "REFUSED" } else { "SERVFAIL" };
                format!("every server that answered said no, the last one {code}")
            }
            _ => {
                let servers: Vec<String> = servers
                    .iter()
                    .map(|server| server.ip().to_string())
                    .collect();
                format!("no answer of {}", servers.join(", "))
            }
        };
        for (source, waiter) in waiters {
            let Ok(request) = local::read(&waiter.packet, waiter.from, true) else {
                continue;
            };
            let Some(query) = local::query(&request) else {
                continue;
            };
            if said.outcome == Outcome::Failed {
                self.failed(&query, source, &reason, waiter.begun);
            } else {
                let took = now.saturating_duration_since(waiter.begun);
                self.times.borrow_mut().note(said.outcome, took);
            }
            let limit = match waiter.client {
                Client::Udp(..) => local::udp_limit(&request),
                Client::Tcp(_) | Client::Command(_) => MESSAGE,
            };
            let mut out = Vec::new();
            match &said.reply {
                Some(reply) => {
                    out.extend_from_slice(reply);
                    readdress(&query, &mut out);
                    cut(&request, limit, &mut out);
                }
                None => {
                    let local = Local::bare(&request, ResponseCode::ServFail, false);
                    local.write(&request, limit, &mut out);
                }
            }
            match waiter.client {
                Client::Udp(socket, to) => {
                    let sent = socket.try_send_to(&out, to).is_ok();
                    self.stats.borrow_mut().send_failures += u64::from(!sent);
                }
                // There is room: a connection has no more questions under way than that.
                Client::Tcp(sender) => drop(sender.try_send(out)),
                Client::Command(sender) => drop(sender.send(out)),
            }
        }
    }

    /// Notes a question that has no answer, for `pontoon dns status`.
    fn failed(&self, query: &Query<'_>, source: IpAddr, reason: &str, begun: Instant) {
        let now = Instant::now();
        self.times
            .borrow_mut()
            .note(Outcome::Failed, now.saturating_duration_since(begun));
        let mut failures = self.failures.borrow_mut();
        if failures.len() >= FAILURES {
            failures.pop_front();
        }
        failures.push_back(Failure {
            at: now,
            name: text(query.name),
            kind: query.qtype,
            source,
            reason: reason.to_owned(),
        });
    }
}

/// What is too long for the client becomes a truncated reply, for it to ask again over TCP.
fn cut(request: &Request, limit: usize, out: &mut Vec<u8>) {
    if out.len() <= limit {
        return;
    }
    let code = match flags(out) & flag::RCODE {
        3 => ResponseCode::NXDomain,
        _ => ResponseCode::NoError,
    };
    Local::bare(request, code, true).write(request, limit, out);
}

/// A server that has been asked, by a socket of its own.
struct Attempt {
    socket: Rc<UdpSocket>,
    /// Waits for something at the socket.
    ready: Pin<Box<dyn Future<Output = ()>>>,
    id: u16,
    server: SocketAddr,
}

impl Attempt {
    fn new(socket: UdpSocket, id: u16, server: SocketAddr) -> Self {
        let socket = Rc::new(socket);
        Self {
            ready: ready(&socket),
            socket,
            id,
            server,
        }
    }

    /// A datagram, or the error that an ICMP message has left.
    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Vec<u8>>> {
        loop {
            if self.ready.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.ready = ready(&self.socket);
            // One at a time: tokio takes two together for neither.
            let mut read = |interest| {
                self.socket.try_io(interest, || {
                    let length = recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
                    Ok(buffer[..length].to_vec())
                })
            };
            let got = match read(Interest::READABLE) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => read(Interest::ERROR),
                got => got,
            };
            match got {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                got => return Poll::Ready(got),
            }
        }
    }
}

/// A closed port is an error and no datagram: waiting for the latter alone would not see it.
const WANTED: Interest = Interest::READABLE.add(Interest::ERROR);

fn ready(socket: &Rc<UdpSocket>) -> Pin<Box<dyn Future<Output = ()>>> {
    let socket = Rc::clone(socket);
    Box::pin(async move {
        let _ = socket.ready(WANTED).await;
    })
}

/// The attempt under way, last, and those that were given up: a reply may still come.
struct Attempts<'a> {
    all: Vec<Attempt>,
    /// Whether the last one is under way.
    open: bool,
    /// How many sockets of attempts that were given up all questions have.
    late: &'a Cell<usize>,
    /// Room for one datagram, which all questions share.
    buffer: &'a RefCell<Vec<u8>>,
}

/// What has come.
enum Heard {
    Reply(Vec<u8>),
    Late(Vec<u8>, SocketAddr),
    Failure,
    Silence,
}

impl<'a> Attempts<'a> {
    fn new(late: &'a Cell<usize>, buffer: &'a RefCell<Vec<u8>>) -> Self {
        Self {
            all: Vec::new(),
            open: false,
            late,
            buffer,
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
                // Somebody guesses, or an old reply comes late: the right one may still come.
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
            let mut buffer = self.buffer.borrow_mut();
            for (index, attempt) in self.all.iter_mut().enumerate() {
                if let Poll::Ready(got) = attempt.poll_recv(context, &mut buffer) {
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

/// Sends the question to `server` from a port of chance.
fn send_udp(server: SocketAddr, netns: Option<&Path>, packet: &[u8]) -> io::Result<UdpSocket> {
    let open = || -> io::Result<std::net::UdpSocket> {
        let any: IpAddr = if server.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        // The kernel drops what comes from elsewhere, and tells of closed ports.
        socket.connect(server)?;
        Ok(socket)
    };
    let socket = inside(netns, open)?;
    socket.send(packet)?;
    UdpSocket::from_std(socket)
}

/// Asks `server` over TCP.
async fn ask_tcp(
    server: SocketAddr,
    netns: Option<&Path>,
    packet: &[u8],
    id: u16,
) -> io::Result<Vec<u8>> {
    let open = || -> io::Result<std::net::TcpStream> {
        let family = if server.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(std::net::TcpStream::from(fd)),
            Err(errno) => Err(errno.into()),
        }
    };
    let mut stream = TcpStream::from_std(inside(netns, open)?)?;
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

/// A socket of the namespace at `path`. Sockets stay where they are made.
fn inside<T: Send>(
    path: Option<&Path>,
    open: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let Some(path) = path else { return open() };
    let netns = Netns::open(path).map_err(io::Error::other)?;
    netns.run(open).map_err(io::Error::other)?
}
