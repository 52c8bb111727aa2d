//! Questions that others answer: raw packets out, and back what is a reply to them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use pontoon_dns::cache::{Cache, Question, readdress};
use pontoon_dns::message::{Query, Rcode, Reply, answers, flag, flags};
use pontoon_dns::name::text;

use pontoon_dns::internal::{confinement, is_astray};

use super::flight::{ATTEMPT, Arrival, Client, Flight, Transport, WHOLE, Waiter};
use super::outside::Look;
use super::poll::{Interest, Source};
use super::slab::{Id, Slab};
use super::stats::Outcome;
use super::upstream::Upstreams;
use super::{Daemon, Fate, MESSAGE};

/// Most questions under way in all, and of one client.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 128;
/// Descriptors that are left for everything else: connections, bridges, commands, files.
const RESERVE: usize = 256;
/// Questions without an answer that are remembered.
const FAILURES: usize = 20;
/// Most clients that wait for one reply.
const WAITERS: usize = 256;
/// Datagrams of one question that are looked at before others get their turn.
const TURN: usize = 32;

/// Everything about questions that are not ours to answer.
#[derive(Default)]
pub(crate) struct Forwarder {
    flights: Slab<Flight>,
    by_question: HashMap<Question, Id>,
    of_source: HashMap<IpAddr, usize>,
    /// Sockets of attempts that were given up and are still listened to.
    set_aside: usize,
    timers: BinaryHeap<Reverse<(Instant, Id)>>,
    pub(crate) cache: Cache,
    pub(crate) upstreams: Upstreams,
    chance: Chance,
    /// How many descriptors the process may have.
    descriptors: usize,
}

impl Forwarder {
    pub(crate) fn new(descriptors: usize) -> Self {
        Self {
            descriptors,
            ..Self::default()
        }
    }

    /// Sockets that all questions together may have. When descriptors are few, a third of them at
    /// least stays for the rest of the program.
    fn sockets_at_most(&self) -> usize {
        let reserve = RESERVE.min(self.descriptors / 3);
        self.descriptors - reserve
    }

    fn sockets(&self) -> usize {
        self.flights.len() + self.set_aside
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    fn count(&mut self, source: IpAddr) {
        *self.of_source.entry(source).or_default() += 1;
    }

    fn discount(&mut self, source: IpAddr) {
        if let Some(count) = self.of_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.of_source.remove(&source);
            }
        }
    }
}

impl Daemon {
    /// Finds the reply to a question of somebody else's domain, or goes to ask for it.
    pub(super) fn forward(
        &mut self,
        query: &Query<'_>,
        client: Client,
        source: IpAddr,
        limit: usize,
    ) -> Fate {
        let now = Instant::now();
        let route = self.zone.at(source).map(|attachment| &attachment.route);
        let mut look = Look {
            outside: &mut self.outside,
            zone: &self.zone,
            now,
        };
        let asker = self.zone.asker(source);
        let gateway = match client {
            Client::Udp(socket, _) => self.listeners.address(socket),
            _ => None,
        };
        let astray =
            gateway.is_some_and(|gateway| is_astray(&self.zone, asker, gateway, &mut look));
        let confined = confinement(&self.zone, asker, &mut look);
        let name = query.name.to_ascii_lowercase();
        let way = self
            .forwarder
            .upstreams
            .way(&self.zone, route, &name, confined.as_deref(), now);
        if astray || confined.is_some() && way.servers.is_empty() {
            // Before the cache: what others have asked is not for this one either.
            self.stats.refused += 1;
            self.times.note(Outcome::Refused, Duration::ZERO);
            Reply::new(query, Rcode::Refused, false, limit, &mut self.out).finish();
            return Fate::Reply;
        }
        let question = Question::of(query, way.number);
        if let Some(question) = &question
            && self
                .forwarder
                .cache
                .get(question, query, now, &mut self.out)
        {
            self.stats.cache_hits += 1;
            self.times.note(Outcome::Cached, now.elapsed());
            cut(query, limit, &mut self.out);
            return Fate::Reply;
        }
        let of_one = self.forwarder.of_source.get(&source).copied().unwrap_or(0);
        if of_one >= MOST_OF_ONE {
            self.stats.over_limit += 1;
            let reason = format!("more than {MOST_OF_ONE} questions of one client at a time");
            self.failed(query.packet, source, &reason, now, now);
            return self.servfail(query, limit);
        }
        let waiter = Waiter {
            client,
            source,
            packet: query.packet.into(),
        };
        let known = question
            .as_ref()
            .and_then(|question| self.forwarder.by_question.get(question).copied());
        if let Some(flight) = known.and_then(|id| self.forwarder.flights.get_mut(id))
            && flight.waiters.len() < WAITERS
        {
            flight.waiters.push(waiter);
            self.forwarder.count(source);
            self.stats.merged += 1;
            return Fate::Pending;
        }
        if way.servers.is_empty() {
            self.stats.servfail += 1;
            let reason = format!("{} names no usable server", way.origin);
            self.failed(query.packet, source, &reason, now, now);
            return self.servfail(query, limit);
        }
        if self.forwarder.flights.len() >= MOST
            || self.forwarder.sockets() >= self.forwarder.sockets_at_most()
        {
            self.stats.over_limit += 1;
            self.failed(
                query.packet,
                source,
                "too many questions at a time",
                now,
                now,
            );
            return self.servfail(query, limit);
        }
        let id = self.forwarder.chance.word();
        let mut packet = query.onward();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        let flight = Flight {
            question: question.clone(),
            packet,
            id,
            waiters: vec![waiter],
            servers: way.servers,
            netns: way.netns,
            attempts: 0,
            transport: None,
            earlier: Vec::new(),
            kept_aside: 0,
            since: now,
            attempt_ends: now,
            begun: now,
            ends: now + WHOLE,
            refusal: None,
        };
        let flight = self.forwarder.flights.insert(flight);
        self.forwarder.count(source);
        if let Some(question) = question {
            self.forwarder.by_question.insert(question, flight);
        }
        self.stats.forwarded += 1;
        self.next_server(flight, now, false);
        Fate::Pending
    }

    fn servfail(&mut self, query: &Query<'_>, limit: usize) -> Fate {
        Reply::new(query, Rcode::ServFail, false, limit, &mut self.out).finish();
        Fate::Reply
    }

    /// Asks the next server. After a silence the first one has another chance as long as there is
    /// time; after a refusal of the last one there is nobody left to ask.
    fn next_server(&mut self, id: Id, now: Instant, silence: bool) {
        let mut silence = silence;
        // A reply may come late, but no socket is kept for it that a new question needs.
        let room = self.forwarder.sockets() < self.forwarder.sockets_at_most() / 2;
        loop {
            let Some(flight) = self.forwarder.flights.get_mut(id) else {
                return;
            };
            if now >= flight.ends || flight.all_tried() && !silence {
                return self.give_up(id, now);
            }
            if flight.all_tried()
                && flight.refusal.is_none()
                && let Some(stale) = self.stale(id, now)
            {
                return self.deliver(id, Some(stale), Outcome::Stale, now);
            }
            let Some(flight) = self.forwarder.flights.get_mut(id) else {
                return;
            };
            if silence && room && flight.set_aside() {
                self.forwarder.set_aside += 1;
            }
            flight.transport = None;
            flight.attempts += 1;
            let Some(server) = flight.server() else {
                return self.give_up(id, now);
            };
            flight.id = self.forwarder.chance.word();
            let number = flight.id.to_be_bytes();
            flight.packet[..2].copy_from_slice(&number);
            self.forwarder.upstreams.asked(server);
            if flight.send_udp(server).is_ok() && self.watch(id, now, Interest::Read) {
                return;
            }
            self.forwarder.upstreams.failed(server, now);
            silence = false;
        }
    }

    /// Waits for the flight's socket, for as long as an attempt may take.
    fn watch(&mut self, id: Id, now: Instant, interest: Interest) -> bool {
        let Some(flight) = self.forwarder.flights.get_mut(id) else {
            return false;
        };
        flight.since = now;
        flight.attempt_ends = (now + ATTEMPT).min(flight.ends);
        let at = flight.attempt_ends;
        let Some(fd) = flight.fd() else { return false };
        let added = self.poll.add(fd, Source::Flight(id), interest).is_ok();
        self.forwarder.timers.push(Reverse((at, id)));
        added
    }

    pub(super) fn flight_ready(&mut self, id: Id, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..TURN {
            let Some(flight) = self.forwarder.flights.get_mut(id) else {
                break;
            };
            let was_sending = flight.sending();
            match flight.advance(&mut buffer) {
                Arrival::Nothing => {
                    if was_sending
                        && !flight.sending()
                        && let Some(fd) = flight.fd()
                    {
                        let _ = self.poll.change(fd, Source::Flight(id), Interest::Read);
                    }
                    break;
                }
                Arrival::Failed => {
                    self.stats.upstream_refusals += 1;
                    if let Some(server) = flight.server() {
                        self.forwarder.upstreams.failed(server, now);
                    }
                    self.next_server(id, now, false);
                    break;
                }
                Arrival::Message(message) if answers(&flight.packet, flight.id, &message) => {
                    self.arrived(id, message, now);
                    break;
                }
                Arrival::Late(message, number, server)
                    if answers(&flight.packet, number, &message) =>
                {
                    let truncated = flags(&message) & flag::TC != 0;
                    let code = flags(&message) & flag::RCODE;
                    // Nothing but a whole answer is worth more than the attempt under way.
                    if !truncated && (code == 0 || code == Rcode::NxDomain as u16) {
                        let took = now.saturating_duration_since(flight.begun);
                        self.forwarder.upstreams.answered(server, took);
                        self.deliver(id, Some(message), Outcome::Forwarded, now);
                        break;
                    }
                }
                // Somebody guesses, or an old reply comes late: the right one may still come.
                Arrival::Message(_) | Arrival::Late(..) => self.stats.upstream_strange += 1,
            }
        }
        self.buffer = buffer;
    }

    /// A reply to our question.
    fn arrived(&mut self, id: Id, message: Vec<u8>, now: Instant) {
        let Some(flight) = self.forwarder.flights.get_mut(id) else {
            return;
        };
        let Some(server) = flight.server() else {
            return;
        };
        let took = now.saturating_duration_since(flight.since);
        self.forwarder.upstreams.answered(server, took);
        let flags = flags(&message);
        let by_udp = matches!(flight.transport, Some(Transport::Udp(_)));
        if flags & flag::TC != 0 && by_udp {
            self.stats.tcp_retries += 1;
            flight.transport = None;
            if flight.send_tcp(server).is_err() || !self.watch(id, now, Interest::Both) {
                self.next_server(id, now, false);
            }
            return;
        }
        let rcode = flags & flag::RCODE;
        if rcode == Rcode::ServFail as u16 || rcode == Rcode::Refused as u16 {
            self.stats.upstream_refusals += 1;
            flight.refusal = Some(message);
            return self.next_server(id, now, false);
        }
        self.deliver(id, Some(message), Outcome::Forwarded, now);
    }

    fn give_up(&mut self, id: Id, now: Instant) {
        let refusal = self
            .forwarder
            .flights
            .get_mut(id)
            .and_then(|flight| flight.refusal.take());
        if refusal.is_none()
            && let Some(stale) = self.stale(id, now)
        {
            return self.deliver(id, Some(stale), Outcome::Stale, now);
        }
        self.stats.servfail += 1;
        self.deliver(id, refusal, Outcome::Failed, now);
    }

    /// What has expired a moment ago is better than nothing when no server answers.
    fn stale(&mut self, id: Id, now: Instant) -> Option<Vec<u8>> {
        let question = self.forwarder.flights.get(id)?.question.as_ref()?;
        let stale = self.forwarder.cache.stale(question, now)?;
        self.stats.stale += 1;
        Some(stale)
    }

    /// Notes a question that has no answer, for `pontoon dns status`.
    fn failed(
        &mut self,
        packet: &[u8],
        source: IpAddr,
        reason: &str,
        begun: Instant,
        now: Instant,
    ) {
        self.times
            .note(Outcome::Failed, now.saturating_duration_since(begun));
        let Ok(query) = Query::parse(packet) else {
            return;
        };
        let failure = Failure {
            at: now,
            name: text(query.name),
            kind: query.qtype,
            source,
            reason: reason.to_owned(),
        };
        if self.failures.len() >= FAILURES {
            self.failures.pop_front();
        }
        self.failures.push_back(failure);
    }

    /// Gives everybody who waits the reply, or SERVFAIL when there is none.
    fn deliver(&mut self, id: Id, message: Option<Vec<u8>>, outcome: Outcome, now: Instant) {
        let Some(flight) = self.forwarder.flights.remove(id) else {
            return;
        };
        self.forwarder.set_aside -= flight.kept_aside;
        if let Some(question) = flight.question {
            self.forwarder.by_question.remove(&question);
            if let Some(message) = message.as_ref().filter(|_| outcome != Outcome::Stale) {
                self.forwarder.cache.put(question, message, now);
            }
        }
        let reason = match (outcome, &message) {
            (Outcome::Failed, Some(reply)) => {
                let refused = flags(reply) & flag::RCODE == Rcode::Refused as u16;
                let code = if refused { "REFUSED" } else { "SERVFAIL" };
                format!("every server that answered said no, the last one {code}")
            }
            (Outcome::Failed, None) => {
                let servers: Vec<String> = flight
                    .servers
                    .iter()
                    .map(|server| server.ip().to_string())
                    .collect();
                format!("no answer of {}", servers.join(", "))
            }
            _ => String::new(),
        };
        for waiter in flight.waiters {
            self.forwarder.discount(waiter.source);
            if outcome == Outcome::Failed {
                self.failed(&waiter.packet, waiter.source, &reason, flight.begun, now);
            } else {
                let took = now.saturating_duration_since(flight.begun);
                self.times.note(outcome, took);
            }
            let Ok(query) = Query::parse(&waiter.packet) else {
                continue;
            };
            let limit = match waiter.client {
                Client::Udp(..) => query.udp_limit(),
                Client::Tcp(_) | Client::Command(_) => MESSAGE,
            };
            match &message {
                Some(message) => {
                    self.out.clear();
                    self.out.extend_from_slice(message);
                    readdress(&query, &mut self.out);
                    cut(&query, limit, &mut self.out);
                }
                None => {
                    self.servfail(&query, limit);
                }
            }
            match waiter.client {
                Client::Udp(socket, to) => self.send_datagram(socket, to),
                Client::Tcp(connection) => self.reply_to_client(connection, now),
                Client::Command(command) => self.reply_to_command(command),
            }
        }
    }

    /// Goes on with questions whose server has been silent for too long.
    pub(super) fn overdue(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.forwarder.timers.peek().copied() {
            if at > now {
                return;
            }
            self.forwarder.timers.pop();
            let Some(flight) = self.forwarder.flights.get(id) else {
                continue;
            };
            if flight.attempt_ends > now {
                continue;
            }
            self.stats.upstream_timeouts += 1;
            if let Some(server) = flight.server() {
                self.forwarder.upstreams.failed(server, now);
            }
            self.next_server(id, now, true);
        }
    }
}

/// What is too long for the client becomes a truncated reply, for it to ask again over TCP.
fn cut(query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
    if out.len() <= limit {
        return;
    }
    let rcode = match flags(out) & flag::RCODE {
        3 => Rcode::NxDomain,
        _ => Rcode::NoError,
    };
    let mut reply = Reply::new(query, rcode, false, limit, out);
    reply.truncate();
    reply.finish();
}

/// A question that had no answer.
pub(crate) struct Failure {
    pub(crate) at: Instant,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) source: IpAddr,
    pub(crate) reason: String,
}

/// Numbers that nobody can guess, from the kernel.
#[derive(Default)]
struct Chance {
    pool: Vec<u8>,
}

impl Chance {
    fn word(&mut self) -> u16 {
        if self.pool.len() < 2 {
            let mut bytes = [0; 256];
            let read = std::fs::File::open("/dev/urandom")
                .and_then(|mut file| file.read_exact(&mut bytes));
            if read.is_err() {
                // The seed of a hash map is the kernel's randomness too.
                use std::hash::{BuildHasher, Hasher};
                for chunk in bytes.chunks_exact_mut(8) {
                    let state = std::collections::hash_map::RandomState::new();
                    chunk.copy_from_slice(&state.build_hasher().finish().to_ne_bytes());
                }
            }
            self.pool.extend_from_slice(&bytes);
        }
        let mut next = || self.pool.pop().unwrap_or_default();
        u16::from_be_bytes([next(), next()])
    }
}
