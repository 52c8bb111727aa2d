//! Which server is asked next, for how long, and what a reply is worth. Knows neither socket nor
//! clock: times come in as arguments.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::wire::{Rcode, flag, flags};

use crate::server::Server;

/// For how long one server is waited for.
pub const ATTEMPT: Duration = Duration::from_secs(1);
/// For how long a question is tried in all.
pub const WHOLE: Duration = Duration::from_secs(4);

/// How the attempt before has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptResult {
    /// There was none.
    Start,
    /// The server said nothing.
    Silence,
    /// The server cannot be asked, or does not want to answer.
    Failure,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Ask this server, until then.
    Ask(Server, Instant),
    /// Every server has been silent once: an old answer will do, else go on.
    StaleOr(Server, Instant),
    /// No server is left to ask.
    GiveUp,
}

/// What a reply to the question is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyClass {
    /// It is the answer.
    Answer,
    /// There is more over TCP.
    OverTcp,
    /// The server does not want to answer.
    Refusal,
}

/// A question's way through the servers.
pub struct Plan {
    servers: Rc<[Server]>,
    attempts: usize,
    ends: Instant,
    refused: bool,
}

impl Plan {
    /// Of a question that is asked from now on.
    #[must_use]
    pub fn new(servers: Rc<[Server]>, now: Instant) -> Self {
        Self {
            servers,
            attempts: 0,
            ends: now + WHOLE,
            refused: false,
        }
    }

    /// The next server. After a silence the first one has another chance as long as there is time;
    /// after a refusal of the last one none is left to ask.
    pub fn next(&mut self, after: AttemptResult, now: Instant) -> NextStep {
        let all_tried = self.attempts >= self.servers.len();
        if now >= self.ends || all_tried && after != AttemptResult::Silence {
            return NextStep::GiveUp;
        }
        let Some(server) = self
            .servers
            .get(self.attempts % self.servers.len().max(1))
            .cloned()
        else {
            return NextStep::GiveUp;
        };
        self.attempts += 1;
        let until = (now + ATTEMPT).min(self.ends);
        if all_tried && !self.refused {
            NextStep::StaleOr(server, until)
        } else {
            NextStep::Ask(server, until)
        }
    }

    /// Judges a reply of the server that is being asked.
    pub fn judge(&mut self, reply: &[u8], by_udp: bool) -> ReplyClass {
        let flags = flags(reply);
        if flags & flag::TC != 0 && by_udp {
            return ReplyClass::OverTcp;
        }
        let rcode = flags & flag::RCODE;
        if rcode == Rcode::ServFail as u16 || rcode == Rcode::Refused as u16 {
            self.refused = true;
            return ReplyClass::Refusal;
        }
        ReplyClass::Answer
    }
}

/// Whether a reply of a server that was given up ends the question: nothing but a whole answer is
/// worth more than the attempt under way.
#[must_use]
pub fn is_worth_it_late(reply: &[u8]) -> bool {
    let flags = flags(reply);
    let code = flags & flag::RCODE;
    flags & flag::TC == 0 && (code == 0 || code == Rcode::NxDomain as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: u8) -> Rc<[Server]> {
        (1..=count)
            .map(|number| Server::from(std::net::IpAddr::from([10, 0, 0, number])))
            .collect()
    }

    fn reply(flags: u16) -> Vec<u8> {
        let mut reply = vec![0, 1];
        reply.extend_from_slice(&flags.to_be_bytes());
        reply
    }

    #[test]
    fn silence_goes_round_for_four_seconds() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let [a, b] = [0, 1].map(|index| servers(2)[index].clone());
        let mut plan = Plan::new(servers(2), start);
        assert_eq!(
            plan.next(AttemptResult::Start, start),
            NextStep::Ask(a.clone(), after(1000))
        );
        assert_eq!(
            plan.next(AttemptResult::Silence, after(1000)),
            NextStep::Ask(b.clone(), after(2000))
        );
        assert_eq!(
            plan.next(AttemptResult::Silence, after(2000)),
            NextStep::StaleOr(a, after(3000))
        );
        assert_eq!(
            plan.next(AttemptResult::Silence, after(3500)),
            NextStep::StaleOr(b, after(4000))
        );
        assert_eq!(
            plan.next(AttemptResult::Silence, after(4000)),
            NextStep::GiveUp
        );
    }

    #[test]
    fn failures_go_on_at_once_and_end_with_the_last_server() {
        let now = Instant::now();
        let mut plan = Plan::new(servers(3), now);
        for number in 0..3 {
            let step = plan.next(AttemptResult::Failure, now);
            assert_eq!(
                step,
                NextStep::Ask(servers(3)[number].clone(), now + ATTEMPT)
            );
        }
        assert_eq!(plan.next(AttemptResult::Failure, now), NextStep::GiveUp);
        assert_eq!(
            Plan::new(Rc::default(), now).next(AttemptResult::Start, now),
            NextStep::GiveUp
        );
    }

    #[test]
    fn an_error_code_is_newer_than_an_old_answer() {
        let now = Instant::now();
        let mut plan = Plan::new(servers(2), now);
        plan.next(AttemptResult::Start, now);
        assert_eq!(plan.judge(&reply(0x8182), true), ReplyClass::Refusal);
        plan.next(AttemptResult::Failure, now);
        assert!(matches!(
            plan.next(AttemptResult::Silence, now),
            NextStep::Ask(..)
        ));
    }

    #[test]
    fn replies_are_judged_by_their_flags() {
        let mut plan = Plan::new(servers(1), Instant::now());
        for (flags, by_udp, worth, late) in [
            (0x8180, true, ReplyClass::Answer, true),
            (0x8183, true, ReplyClass::Answer, true),
            (0x8182, true, ReplyClass::Refusal, false),
            (0x8185, true, ReplyClass::Refusal, false),
            (0x8181, true, ReplyClass::Answer, false),
            (0x8380, true, ReplyClass::OverTcp, false),
            (0x8380, false, ReplyClass::Answer, false),
        ] {
            assert_eq!(plan.judge(&reply(flags), by_udp), worth, "{flags:x}");
            assert_eq!(is_worth_it_late(&reply(flags)), late, "{flags:x}");
        }
    }
}
