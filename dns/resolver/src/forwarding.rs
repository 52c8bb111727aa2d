//! Questions that other servers answer: from the cache, by joining an equal question, or by a course of
//! their own. Knows neither socket nor clock.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use pontoon_dns::cache::{Cache, Question};
use pontoon_dns::wire::Query;

use crate::choose::Way;
use crate::course::{Common, Course, Event, Next, Said};
use crate::health::Healths;
use crate::merge::{Entered, Merge};
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
pub enum Entrance {
    /// The reply is written.
    Cached,
    /// The way names no server.
    NoServer,
    /// It waits for the reply to an equal one.
    Joined,
    /// It is to be asked, under this number.
    New(u64, Course),
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
        way: &Rc<Way>,
        now: Instant,
        waiter: impl FnOnce() -> W,
        out: &mut Vec<u8>,
    ) -> Entrance {
        let question = Question::of(query, way.number);
        if let Some(question) = &question
            && self.cache.get(question, query, now, out)
        {
            return Entrance::Cached;
        }
        if way.servers.is_empty() {
            return Entrance::NoServer;
        }
        match self.merge.enter(question.as_ref(), source, waiter) {
            Entered::Joined => Entrance::Joined,
            Entered::New(number) => {
                Entrance::New(number, Course::new(Rc::clone(way), question, now))
            }
            Entered::ClientIsFull => Entrance::ClientIsFull,
            Entered::AllIsFull => Entrance::AllIsFull,
        }
    }

    /// What is to be done for a question after this.
    pub fn step(
        &mut self,
        course: &mut Course,
        event: Event,
        now: Instant,
        stats: &mut Stats,
    ) -> Next {
        let common = Common {
            healths: &mut self.healths,
            cache: &self.cache,
            stats,
        };
        course.next(event, now, common)
    }

    /// Takes a question out that has ended, and keeps its reply: who waits for it.
    pub fn leave(&mut self, number: u64, said: &Said, now: Instant) -> Vec<(IpAddr, W)> {
        let (question, waiters) = self.merge.leave(number);
        if let (Some(question), Some(reply), Outcome::Forwarded) =
            (question, &said.reply, said.outcome)
        {
            self.cache.put(question, reply, now);
        }
        waiters
    }
}
