//! Several packets that have to pass a hook, asked at once: the one answer to what drops the packets of a
//! network.

use std::path::PathBuf;

use crate::judge::{DroppingRule, PacketVerdict};
use crate::packet::Packet;
use crate::rules::{Hook, Rules};

/// One thing that has to work: it does when one of the packets passes.
pub struct PacketCheck {
    /// In words: `what comes from br0 (IPv4)`.
    pub what: String,
    /// Packets that would do.
    pub packets: Vec<Packet>,
    /// A chain's policy alone makes it no failure, only a doubt: replies that nothing names.
    pub lenient: bool,
}

/// What the rules of the host do to what is asked.
#[derive(Debug)]
pub enum CheckOutcome {
    /// Everything passes.
    Passes,
    /// This does not, because of that.
    Dropped(String, DroppingRule),
    /// It cannot be told, because of this.
    Unknown(Vec<String>),
    /// The rules cannot be read here: the programs that list them are not installed, or failed.
    Unreadable(String),
}

/// Reads the rules of the host by programs that are looked for in these directories first, and asks them.
#[must_use]
pub fn judge(search: &[PathBuf], hook: Hook, checks: &[PacketCheck]) -> CheckOutcome {
    match Rules::read_by(search) {
        Ok(rules) => rules.judge_checks(hook, checks),
        Err(error) => CheckOutcome::Unreadable(error.to_string()),
    }
}

impl Rules {
    /// Asks the rules of other programs, as [`Rules::judge_others`] does for one packet.
    #[must_use]
    pub fn judge_checks(&self, hook: Hook, checks: &[PacketCheck]) -> CheckOutcome {
        let mut unknown = Vec::new();
        for ask in checks {
            let mut dropped = None;
            let mut doubts = Vec::new();
            let mut passes = ask.packets.is_empty();
            for packet in &ask.packets {
                match self.judge_others(hook, packet) {
                    PacketVerdict::Passes => passes = true,
                    PacketVerdict::Dropped(drop) => dropped = dropped.or(Some(drop)),
                    PacketVerdict::Unknown(why) => doubts = why,
                }
                if passes {
                    break;
                }
            }
            match dropped {
                _ if passes => {}
                Some(drop) if doubts.is_empty() && ask.lenient && drop.rule.is_none() => {
                    unknown.push(format!("{drop} drops {}", ask.what));
                }
                Some(drop) if doubts.is_empty() => {
                    return CheckOutcome::Dropped(ask.what.clone(), drop);
                }
                _ => unknown.extend(doubts),
            }
        }
        match (unknown.is_empty(), self.lacking()) {
            (true, _) => CheckOutcome::Passes,
            (false, Some(lacking)) => CheckOutcome::Unreadable(lacking),
            (false, None) => CheckOutcome::Unknown(unknown),
        }
    }
}
