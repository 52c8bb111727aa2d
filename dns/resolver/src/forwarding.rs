//! Questions that other servers answer: from the cache, by joining an equal question, or by a course of
//! their own. Knows neither socket nor clock.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use pontoon_dns::cache::{Cache, Question};
use pontoon_dns::wire::Query;

use crate::choose::ServerChoice;
use crate::health::Healths;
use crate::merge::{Merge, MergeOutcome};
use crate::resolution::{Event, NextAction, Resolution, ResolutionContext, ResolutionResult};
use crate::stats::{Outcome, Stats};

/// Questions under way, replies that are kept, and how the servers do. `W` waits for a reply.
pub struct Forwarding<W> {
    /// Questions under way.
    pub merge: Merge<W>,
    /// Replies that are kept.
    pub cache: Cache,
    /// How the servers do.
    pub healths: Healths,
}

/// Where a question has come to.
pub enum ForwardingOutcome {
    /// The reply is written.
    Cached,
    /// The way names no server.
    NoServer,
    /// It waits for the reply to an equal one.
    Joined,
    /// It is to be asked, under this number.
    New(u64, Resolution),
    /// The client has too many under way.
    ClientIsFull,
    /// There are too many under way.
    AllIsFull,
}

impl<W> Forwarding<W> {
    /// For a process that may have so many descriptors.
    #[must_use]
    pub fn new(descriptors: usize) -> Self {
        Self {
            merge: Merge::new(descriptors),
            cache: Cache::default(),
            healths: Healths::default(),
        }
    }

    /// Takes a question in. A reply that is there already is in `out`; `waiter` is made when one has to
    /// be waited for.
    pub fn enter(
        &mut self,
        query: &Query<'_>,
        source: IpAddr,
        choice: &Rc<ServerChoice>,
        now: Instant,
        waiter: impl FnOnce() -> W,
        out: &mut Vec<u8>,
    ) -> ForwardingOutcome {
        let question = Question::of(query, choice.number);
        if let Some(question) = &question
            && self.cache.get(question, query, now, out)
        {
            return ForwardingOutcome::Cached;
        }
        if choice.servers.is_empty() {
            return ForwardingOutcome::NoServer;
        }
        match self.merge.enter(question.as_ref(), source, waiter) {
            MergeOutcome::Joined => ForwardingOutcome::Joined,
            MergeOutcome::New(number) => {
                ForwardingOutcome::New(number, Resolution::new(Rc::clone(choice), question, now))
            }
            MergeOutcome::ClientIsFull => ForwardingOutcome::ClientIsFull,
            MergeOutcome::AllIsFull => ForwardingOutcome::AllIsFull,
        }
    }

    /// What is to be done for a question after this.
    pub fn step(
        &mut self,
        resolution: &mut Resolution,
        event: Event,
        now: Instant,
        stats: &mut Stats,
    ) -> NextAction {
        let common = ResolutionContext {
            healths: &mut self.healths,
            cache: &self.cache,
            stats,
        };
        resolution.next(event, now, common)
    }

    /// Takes a question out that has ended, and keeps its reply: who waits for it.
    pub fn leave(
        &mut self,
        number: u64,
        outcome: &ResolutionResult,
        now: Instant,
    ) -> Vec<(IpAddr, W)> {
        let (question, waiters) = self.merge.leave(number);
        if let (Some(question), Some(reply), Outcome::Forwarded) =
            (question, &outcome.reply, outcome.outcome)
        {
            self.cache.put(question, reply, now);
        }
        waiters
    }
}
