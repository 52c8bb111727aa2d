//! Equal questions become one, and no container has too many: what is under way to other servers. Knows
//! neither socket nor clock.

use std::collections::HashMap;
use std::net::IpAddr;

use pontoon_dns::cache::Question;

/// Most questions under way in all, and of one client.
pub const MOST: usize = 1024;
/// As above.
pub const MOST_OF_ONE: usize = 128;
/// Most clients that wait for one reply.
const WAITERS: usize = 256;
/// Sockets that one question may have: one for each attempt whose reply may still come.
const SOCKETS: usize = 4;
/// Descriptors that are left for everything else: connections, bridges, commands, files.
const RESERVE: usize = 256;

/// A question under way.
struct PendingQuestion<W> {
    question: Option<Question>,
    waiters: Vec<(IpAddr, W)>,
}

/// All of them.
pub struct Merge<W> {
    pending_questions: HashMap<u64, PendingQuestion<W>>,
    by_question: HashMap<Question, u64>,
    of_source: HashMap<IpAddr, usize>,
    next: u64,
    /// Most questions, by the descriptors there are.
    most: usize,
    /// Sockets that may be kept for replies that come late.
    late: usize,
}

/// Where a question has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// It waits for the reply to an equal one.
    Joined,
    /// It is to be asked, under this number.
    New(u64),
    /// The client has too many under way.
    ClientIsFull,
    /// There are too many under way.
    AllIsFull,
}

impl<W> Merge<W> {
    /// For a process that may have so many descriptors.
    #[must_use]
    pub fn new(descriptors: usize) -> Self {
        // When there are few, a third of them at least stays for the rest of the program.
        let usable = descriptors - RESERVE.min(descriptors / 3);
        let most = MOST.min(usable);
        Self {
            pending_questions: HashMap::new(),
            by_question: HashMap::new(),
            of_source: HashMap::new(),
            next: 0,
            most,
            late: (usable - most).min(MOST * (SOCKETS - 1)),
        }
    }

    /// How many questions are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.pending_questions.len()
    }

    /// How many sockets may be kept in all for replies that come late.
    #[must_use]
    pub fn late_sockets(&self) -> usize {
        self.late
    }

    /// Takes a question in. `None` is one that no other is equal to. `waiter` is made only when there
    /// is room.
    pub fn enter(
        &mut self,
        question: Option<&Question>,
        source: IpAddr,
        waiter: impl FnOnce() -> W,
    ) -> MergeOutcome {
        if self.of_source.get(&source).copied().unwrap_or(0) >= MOST_OF_ONE {
            return MergeOutcome::ClientIsFull;
        }
        let known = question.and_then(|question| self.by_question.get(question));
        if let Some(pending) = known.and_then(|number| self.pending_questions.get_mut(number))
            && pending.waiters.len() < WAITERS
        {
            pending.waiters.push((source, waiter()));
            *self.of_source.entry(source).or_default() += 1;
            return MergeOutcome::Joined;
        }
        if self.pending_questions.len() >= self.most {
            return MergeOutcome::AllIsFull;
        }
        self.next += 1;
        let number = self.next;
        let pending = PendingQuestion {
            question: question.cloned(),
            waiters: vec![(source, waiter())],
        };
        self.pending_questions.insert(number, pending);
        if let Some(question) = question {
            self.by_question.insert(question.clone(), number);
        }
        *self.of_source.entry(source).or_default() += 1;
        MergeOutcome::New(number)
    }

    /// Takes a question out whose reply is there, or will never be: who waits for it.
    pub fn leave(&mut self, number: u64) -> (Option<Question>, Vec<(IpAddr, W)>) {
        let Some(pending) = self.pending_questions.remove(&number) else {
            return (None, Vec::new());
        };
        if let Some(question) = &pending.question
            && self.by_question.get(question) == Some(&number)
        {
            self.by_question.remove(question);
        }
        for (source, _) in &pending.waiters {
            if let Some(count) = self.of_source.get_mut(source) {
                *count -= 1;
                if *count == 0 {
                    self.of_source.remove(source);
                }
            }
        }
        (pending.question, pending.waiters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(number: u8) -> Question {
        Question::new(&[1, number], 1, 1, 0, 7)
    }

    fn source(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn equal_questions_are_one_and_all_hear_the_reply() {
        let mut merge = Merge::new(16_384);
        let one = question(1);
        let number = match merge.enter(Some(&one), source(1), || "a") {
            MergeOutcome::New(number) => number,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            merge.enter(Some(&one), source(2), || "b"),
            MergeOutcome::Joined
        );
        assert!(matches!(
            merge.enter(Some(&question(2)), source(2), || "c"),
            MergeOutcome::New(_)
        ));
        assert!(matches!(
            merge.enter(None, source(1), || "d"),
            MergeOutcome::New(_)
        ));
        let (asked, waiters) = merge.leave(number);
        assert_eq!(asked, Some(one.clone()));
        let words: Vec<_> = waiters.into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, ["a", "b"]);
        assert!(merge.leave(number).1.is_empty());
        assert!(matches!(
            merge.enter(Some(&one), source(1), || "e"),
            MergeOutcome::New(_)
        ));
    }

    #[test]
    fn no_client_has_more_than_its_share() {
        let mut merge = Merge::new(16_384);
        for _ in 0..MOST_OF_ONE {
            merge.enter(None, source(1), || ());
        }
        assert_eq!(
            merge.enter(None, source(1), || ()),
            MergeOutcome::ClientIsFull
        );
        assert!(matches!(
            merge.enter(None, source(2), || ()),
            MergeOutcome::New(_)
        ));
        merge.leave(1);
        assert!(matches!(
            merge.enter(None, source(1), || ()),
            MergeOutcome::New(_)
        ));
    }

    #[test]
    fn all_that_is_promised_goes_with_a_usual_limit_of_descriptors() {
        let fill = |descriptors| {
            let mut merge = Merge::new(descriptors);
            for client in 0..16 {
                for _ in 0..MOST_OF_ONE {
                    merge.enter(None, source(client), || ());
                }
            }
            assert_eq!(
                merge.enter(None, source(99), || ()),
                MergeOutcome::AllIsFull
            );
            (merge.under_way(), merge.late_sockets())
        };
        assert_eq!(fill(16_384), (MOST, 3 * MOST));
        assert_eq!(fill(2048), (MOST, 768));
        assert_eq!(fill(1024), (768, 0));
        assert_eq!(fill(40), (27, 0));
    }

    #[test]
    fn a_reply_has_so_many_waiters_and_another_question_the_rest() {
        let mut merge = Merge::new(16_384);
        let one = question(1);
        let mut new = 0;
        for number in 0..WAITERS as u32 + 1 {
            let source = IpAddr::from(number.to_be_bytes());
            new += u32::from(matches!(
                merge.enter(Some(&one), source, || ()),
                MergeOutcome::New(_)
            ));
        }
        assert_eq!(new, 2);
        // The first one that ends does not take the second one's question away.
        assert_eq!(merge.leave(1).1.len(), WAITERS);
        assert_eq!(
            merge.enter(Some(&one), source(1), || ()),
            MergeOutcome::Joined
        );
    }
}
