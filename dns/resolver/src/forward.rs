//! Questions that others answer: from a client to the cache, to an equal question under way, or to the
//! servers, and back to all who wait.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_server::server::Request;
use pontoon_dns::cache::{Question, readdress};
use pontoon_dns::internal::{confinement, is_astray};
use pontoon_dns::name::text;
use pontoon_dns::wire::{Query, Rcode, flag, flags};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use super::ask::Said;
use super::daemon::{Daemon, Fate, MESSAGE};
use super::outside::Look;
use super::stats::Outcome;
use super::upstream::Way;
use pontoon_resolver::local::{self, Local};
use pontoon_resolver::merge::{Entered, MOST_OF_ONE};

/// Questions without an answer that are remembered.
const FAILURES: usize = 20;

/// Where a reply goes.
pub(crate) enum Client {
    Udp(Rc<UdpSocket>, SocketAddr),
    Tcp(mpsc::Sender<Vec<u8>>),
    Command(oneshot::Sender<Vec<u8>>),
}

/// A client that waits for a reply.
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
    /// Finds the reply to a question of a domain that is not ours, or goes to ask for it. A reply that is
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

    /// Gives all who wait the reply, or SERVFAIL when there is none.
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
            let Some(query) = local::query(&request, &waiter.packet) else {
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
