//! The course of one question through the servers: what is done next after each thing that happens, what
//! is noted of it, and how it ends. Knows neither socket nor clock.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::cache::{Cache, Question};
use pontoon_dns::wire::{Rcode, flag, flags};

use crate::choose::ServerChoice;
use crate::health::Healths;
use crate::plan::{ATTEMPT, AttemptResult, NextStep, Plan, ReplyClass};
use crate::server::Server;
use crate::stats::{Outcome, Stats};

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet.
    Start,
    /// The question could not be sent.
    NotSent,
    /// The server that is asked has said nothing in its time.
    Silence,
    /// The server that is asked cannot be reached; over TLS, why.
    Failure(Option<String>),
    /// A reply over UDP.
    Datagram(Vec<u8>),
    /// A reply over TCP or TLS.
    Stream(Vec<u8>),
    /// A reply of a server that was given up, which [ends the question](crate::plan::is_worth_it_late).
    Late(Vec<u8>, Server),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum NextAction {
    /// Ask this server, until then: over TLS when it is one of those, else over UDP.
    Ask(Server, Instant),
    /// Ask the same one again over TCP.
    OverTcp(Server, Instant),
    /// Nothing more.
    Done(ResolutionResult),
}

/// What the servers had to say.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolutionResult {
    /// The reply, whatever it says; `None` when there is none.
    pub reply: Option<Vec<u8>>,
    /// What becomes of the question.
    pub outcome: Outcome,
    /// Why it has failed; empty when it has not.
    pub reason: String,
}

/// What all questions share.
pub struct ResolutionContext<'a> {
    /// How the servers do.
    pub healths: &'a mut Healths,
    /// Replies that are kept.
    pub cache: &'a Cache,
    /// What is counted.
    pub stats: &'a mut Stats,
}

/// A question on its way.
pub struct Resolution {
    plan: Plan,
    choice: Rc<ServerChoice>,
    question: Option<Question>,
    /// Who is asked now, and since when.
    current: Option<(Server, Instant)>,
    refusal: Option<Vec<u8>>,
    reasons: Vec<(Server, String)>,
}

impl Resolution {
    /// Of a question that is asked from now on. `None` stands for one that no other is equal to.
    #[must_use]
    pub fn new(choice: Rc<ServerChoice>, question: Option<Question>, now: Instant) -> Self {
        Self {
            plan: Plan::new(Rc::clone(&choice.servers), now),
            choice,
            question,
            current: None,
            refusal: None,
            reasons: Vec::new(),
        }
    }

    /// What is to be done after this.
    pub fn next(
        &mut self,
        event: Event,
        now: Instant,
        mut common: ResolutionContext<'_>,
    ) -> NextAction {
        let after = match event {
            Event::Start => AttemptResult::Start,
            Event::NotSent => {
                self.failed(&mut common, None, now);
                AttemptResult::Failure
            }
            Event::Silence => {
                common.stats.upstream_timeouts += 1;
                self.failed(&mut common, None, now);
                AttemptResult::Silence
            }
            Event::Failure(reason) => {
                common.stats.upstream_refusals += 1;
                self.failed(&mut common, reason, now);
                AttemptResult::Failure
            }
            Event::Late(reply, server) => {
                let took = self.since(now);
                common.healths.answered(&server, took);
                return NextAction::Done(ResolutionResult::reply(reply, Outcome::Forwarded));
            }
            Event::Datagram(reply) => match self.judge(reply, true, now, &mut common) {
                Some(next) => return next,
                None => AttemptResult::Failure,
            },
            Event::Stream(reply) => match self.judge(reply, false, now, &mut common) {
                Some(next) => return next,
                None => AttemptResult::Failure,
            },
        };
        let (server, until) = match self.plan.next(after, now) {
            NextStep::Ask(server, until) => (server, until),
            NextStep::StaleOr(server, until) => match self.stale(&mut common, now) {
                Some(outcome) => return NextAction::Done(outcome),
                None => (server, until),
            },
            NextStep::GiveUp => return NextAction::Done(self.give_up(&mut common, now)),
        };
        common.healths.asked(&server);
        self.current = Some((server.clone(), now));
        NextAction::Ask(server, until)
    }

    /// What a reply of the server that is asked leads to; `None` when the next one is asked.
    fn judge(
        &mut self,
        reply: Vec<u8>,
        by_udp: bool,
        now: Instant,
        common: &mut ResolutionContext<'_>,
    ) -> Option<NextAction> {
        let took = self.since(now);
        let (server, _) = self.current.as_ref()?;
        common.healths.answered(server, took);
        match self.plan.judge(&reply, by_udp) {
            ReplyClass::Answer => Some(NextAction::Done(ResolutionResult::reply(
                reply,
                Outcome::Forwarded,
            ))),
            ReplyClass::OverTcp => {
                common.stats.tcp_retries += 1;
                Some(NextAction::OverTcp(server.clone(), now + ATTEMPT))
            }
            ReplyClass::Refusal => {
                common.stats.upstream_refusals += 1;
                self.refusal = Some(reply);
                None
            }
        }
    }

    fn since(&self, now: Instant) -> Duration {
        let begun = self.current.as_ref().map_or(now, |(_, begun)| *begun);
        now.saturating_duration_since(begun)
    }

    fn failed(&mut self, common: &mut ResolutionContext<'_>, reason: Option<String>, now: Instant) {
        let Some((server, _)) = &self.current else {
            return;
        };
        common.healths.failed(server, reason.as_deref(), now);
        if let Some(reason) = reason {
            self.reasons.retain(|(known, _)| known != server);
            self.reasons.push((server.clone(), reason));
        }
    }

    fn stale(&self, common: &mut ResolutionContext<'_>, now: Instant) -> Option<ResolutionResult> {
        let stale = common.cache.stale(self.question.as_ref()?, now)?;
        common.stats.stale += 1;
        Some(ResolutionResult::reply(stale, Outcome::Stale))
    }

    fn give_up(&mut self, common: &mut ResolutionContext<'_>, now: Instant) -> ResolutionResult {
        if self.refusal.is_none()
            && let Some(outcome) = self.stale(common, now)
        {
            return outcome;
        }
        common.stats.servfail += 1;
        let reply = self.refusal.take();
        ResolutionResult {
            reason: self.reason(reply.as_deref()),
            reply,
            outcome: Outcome::Failed,
        }
    }

    fn reason(&self, refusal: Option<&[u8]>) -> String {
        let why = |server: &Server| {
            let known = self.reasons.iter().find(|(known, _)| known == server);
            known.map(|(_, reason)| reason.as_str())
        };
        let tell = |server: &Server| match why(server) {
            Some(reason) => format!("{} ({reason})", server.words()),
            None => server.words(),
        };
        let Some(refusal) = refusal else {
            let servers: Vec<String> = self.choice.servers.iter().map(tell).collect();
            return format!("no answer of {}", servers.join(", "));
        };
        let refused = flags(refusal) & flag::RCODE == Rcode::Refused as u16;
        let code = if refused { "REFUSED" } else { "SERVFAIL" };
        let text = format!("every server that answered said no, the last one {code}");
        let failed = self.reasons.iter().map(|(server, _)| tell(server));
        std::iter::once(text)
            .chain(failed)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

impl ResolutionResult {
    fn reply(reply: Vec<u8>, outcome: Outcome) -> Self {
        Self {
            reply: Some(reply),
            outcome,
            reason: String::new(),
        }
    }
}
