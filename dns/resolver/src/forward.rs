//! Questions that others answer: from a client to the cache, to an equal question under way, or to the
//! servers, and back to all who wait.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use pontoon_dns::cache::readdress;
use pontoon_dns::internal::{confinement, is_astray};
use pontoon_dns::name::text;
use pontoon_dns::wire::{Query, Rcode, bare, flag, flags};
use pontoon_dns::zone::Zone;

use super::client::{Client, ClientServers, Failure, MESSAGE, PacketOutcome, Waiter};
use super::plugin_records::PluginRecordFacts;
use super::state::Daemon;
use pontoon_resolver::choose::{ServerCriteria, choose};
use pontoon_resolver::forwarding::ForwardingOutcome;
use pontoon_resolver::local::{self, Local};
use pontoon_resolver::merge::MOST_OF_ONE;
use pontoon_resolver::resolution::ResolutionResult;
use pontoon_resolver::stats::Outcome;

/// Questions without an answer that are remembered.
const FAILURES: usize = 20;

/// Who asks, and where.
#[derive(Clone, Copy)]
pub(crate) struct QuestionSource {
    pub(crate) source: IpAddr,
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
        query: &Query<'_>,
        asked: QuestionSource,
        client: impl FnOnce() -> Client,
        out: &mut Vec<u8>,
    ) -> PacketOutcome {
        let QuestionSource {
            source,
            gateway,
            limit,
        } = asked;
        let now = Instant::now();
        let refuse = |out: &mut Vec<u8>| {
            self.stats.borrow_mut().refused += 1;
            self.times
                .borrow_mut()
                .note(Outcome::Refused, now.elapsed());
            without_records(query, ResponseCode::Refused, false, limit, out);
            PacketOutcome::Reply
        };
        let Some((choice, confined)) = self.choice(source, gateway, query.name, now) else {
            return refuse(out);
        };
        if confined && choice.servers.is_empty() {
            // Before the cache: what others have asked is not for this one either.
            return refuse(out);
        }
        let fail = |reason: &str, out: &mut Vec<u8>| {
            self.failed(query, source, reason, now);
            without_records(query, ResponseCode::ServFail, false, limit, out);
            PacketOutcome::Reply
        };
        let waiter = || Waiter {
            client: client(),
            packet: query.packet.into(),
            edns: query.edns,
            begun: now,
        };
        let outcome = self
            .forwarding
            .borrow_mut()
            .enter(query, source, &choice, now, waiter, out);
        match outcome {
            ForwardingOutcome::Cached => {
                self.stats.borrow_mut().cache_hits += 1;
                self.times.borrow_mut().note(Outcome::Cached, now.elapsed());
                cut(query, limit, out);
                PacketOutcome::Reply
            }
            ForwardingOutcome::NoServer => {
                self.stats.borrow_mut().servfail += 1;
                fail(&format!("{} names no usable server", choice.origin), out)
            }
            ForwardingOutcome::Joined => {
                self.stats.borrow_mut().merged += 1;
                PacketOutcome::Pending
            }
            ForwardingOutcome::New(number, resolution) => {
                self.stats.borrow_mut().forwarded += 1;
                let packet = query.onward();
                let daemon = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let outcome = daemon.ask(&choice, packet, resolution).await;
                    daemon.deliver(number, &outcome);
                });
                PacketOutcome::Pending
            }
            ForwardingOutcome::ClientIsFull => {
                self.stats.borrow_mut().over_limit += 1;
                let reason = format!("more than {MOST_OF_ONE} questions of one client at a time");
                fail(&reason, out)
            }
            ForwardingOutcome::AllIsFull => {
                self.stats.borrow_mut().over_limit += 1;
                fail("too many questions at a time", out)
            }
        }
    }

    /// Whom a question for `name` is asked, as [`ClientServers`] says.
    pub(crate) fn choice(
        &self,
        source: IpAddr,
        gateway: Option<IpAddr>,
        name: &[u8],
        now: Instant,
    ) -> ClientServers {
        if let Some(found) = self.server_choices.borrow().get((source, gateway)) {
            return found.clone();
        }
        let zone = self.zone.borrow();
        let attachment = zone.at(source);
        let found = self.choose_servers(&zone, source, gateway, name, now);
        if attachment.is_none_or(|attachment| attachment.shared.domains.is_empty()) {
            self.server_choices
                .borrow_mut()
                .put((source, gateway), &found);
        }
        found
    }

    fn choose_servers(
        &self,
        zone: &Zone,
        source: IpAddr,
        gateway: Option<IpAddr>,
        name: &[u8],
        now: Instant,
    ) -> ClientServers {
        let mut plugin_records = self.plugin_records.borrow_mut();
        let mut facts = PluginRecordFacts {
            plugin_records: &mut plugin_records,
            zone,
            now,
        };
        let querier = zone.querier(source);
        if gateway.is_some_and(|gateway| is_astray(zone, querier, gateway, &mut facts)) {
            return None;
        }
        let confined = confinement(zone, querier, &mut facts);
        self.warn(plugin_records.take_warnings());
        let name = name.to_ascii_lowercase();
        let criteria = ServerCriteria {
            querier: zone.at(source),
            name: &name,
            confined: confined.as_deref(),
        };
        let healths = &self.forwarding.borrow().healths;
        let file = |path: &Path| self.upstreams.borrow_mut().servers(path);
        let choice = choose(zone, criteria, healths, now, file);
        Some((Rc::new(choice), confined.is_some()))
    }

    /// Gives all who wait the reply, or SERVFAIL when there is none.
    fn deliver(&self, number: u64, outcome: &ResolutionResult) {
        let now = Instant::now();
        let waiters = self.forwarding.borrow_mut().leave(number, outcome, now);
        for (source, waiter) in waiters {
            let Some(query) = Query::new(&waiter.packet, waiter.edns) else {
                continue;
            };
            if outcome.outcome == Outcome::Failed {
                self.failed(&query, source, &outcome.reason, waiter.begun);
            } else {
                let took = now.saturating_duration_since(waiter.begun);
                self.times.borrow_mut().note(outcome.outcome, took);
            }
            let limit = match waiter.client {
                Client::Udp(..) => query.udp_limit(),
                Client::Tcp(_) | Client::Command(_) => MESSAGE,
            };
            let mut out = Vec::new();
            match &outcome.reply {
                Some(reply) => {
                    out.extend_from_slice(reply);
                    readdress(&query, &mut out);
                    cut(&query, limit, &mut out);
                }
                None => without_records(&query, ResponseCode::ServFail, false, limit, &mut out),
            }
            match waiter.client {
                Client::Udp(socket, to) => {
                    let sent = socket.get_ref().send_to(&out, to).is_ok();
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
fn cut(query: &Query<'_>, limit: usize, out: &mut Vec<u8>) {
    if out.len() <= limit {
        return;
    }
    let code = match flags(out) & flag::RCODE {
        3 => ResponseCode::NXDomain,
        _ => ResponseCode::NoError,
    };
    without_records(query, code, true, limit, out);
}

/// A reply of the resolver itself, as hickory writes it.
fn without_records(
    query: &Query<'_>,
    code: ResponseCode,
    truncated: bool,
    limit: usize,
    out: &mut Vec<u8>,
) {
    // The source says nothing in a reply without records.
    let from = SocketAddr::from(([0, 0, 0, 0], 0));
    match local::read(query.packet, from, true) {
        Ok(request) => Local::bare(&request, code, truncated).write(&request, limit, out),
        Err(_) => bare(query.packet, Rcode::ServFail, out),
    }
}
