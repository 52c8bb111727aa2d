//! The quick look: are a network's rules in nf_tables already, is everything there that published
//! ports build on? Asked of the kernel directly, chain by chain, because starting any program costs
//! more than all of an attachment's kernel work, and iptables' own check reads every rule there is.
//!
//! It reads comments, jumps and marks, not all matches: iptables encodes those differently from
//! version to version, and the digest in the comments stands for them. What it cannot read counts
//! as absent; then iptables itself is asked.

mod window;

use super::egress::{NetworkText, SHARED};
use super::hostport::{DNAT, LOOPBACK_GUARD, MASQ, PortsText, SETMARK};
use super::opening::{self, OpeningText};
use super::policy::{FORWARD, FROM, KnownText, LinkText, MemberText, PolicyText, ROOT};
use super::resolver::{self, ResolverText};
use super::standing::{self, Glimpse, View};
use super::text::{Family, Table};
use window::{Seen, Window};

const NAT: &str = "nat";

impl View for Window {
    fn chain(&mut self, name: &str) -> Option<Vec<Glimpse>> {
        let rules = self.rules(Table::Filter.name(), name)?;
        let glimpse = |seen: Seen| Glimpse {
            comments: seen.comments,
            jump: seen.jump,
        };
        Some(rules.into_iter().map(glimpse).collect())
    }
}

/// Whether there is such a chain; `None`: the kernel did not tell.
pub(super) fn has_chain(family: Family, table: Table, chain: &str) -> Option<bool> {
    Window::open(family)?.has_chain(table.name(), chain)
}

/// Whether a network's policy stands.
pub(super) fn policy(family: Family, text: &PolicyText) -> bool {
    Window::open(family)
        .and_then(|mut window| standing::policy(family, &mut window, text))
        .unwrap_or(false)
}

/// Whether these links can be added as they are: none of their owners has one there.
pub(super) fn unlinked(family: Family, links: &[LinkText]) -> bool {
    Window::open(family)
        .and_then(|mut window| standing::linked(&mut window, links))
        .is_some_and(|linked| !linked)
}

/// Whether a bridge without a policy is not known to those of others, for sure.
pub(super) fn unknown(family: Family, known: &KnownText) -> bool {
    silent(family, FROM, &known.tag)
}

/// Whether an attachment has no rule of its own, for sure.
pub(super) fn no_member(family: Family, member: &MemberText) -> bool {
    silent(family, FORWARD, &member.tag)
}

fn silent(family: Family, chain: &str, comment: &str) -> bool {
    Window::open(family)
        .and_then(|mut window| window.chain(chain))
        .is_some_and(|rules| rules.iter().all(|rule| !rule.says(comment)))
}

/// Whether there is nothing of any policy in the kernel, for sure.
pub(super) fn no_policy(family: Family) -> bool {
    Window::open(family)
        .and_then(|mut window| window.has_chain(Table::Filter.name(), ROOT))
        .is_some_and(|there| !there)
}

/// Whether the way to the resolver is there, and first.
pub(super) fn resolver(family: Family, text: &ResolverText) -> bool {
    let look = || -> Option<bool> {
        let mut window = Window::open(family)?;
        for hook in resolver::HOOKS {
            let rules = window.rules(NAT, hook)?;
            let leads = |seen: &Seen| seen.jump.as_deref() == Some(resolver::SHARED);
            if !rules.iter().any(leads) {
                return Some(false);
            }
        }
        let rules = window.rules(NAT, resolver::SHARED)?;
        let ours = rules.iter().filter(|rule| rule.says(&text.mark)).count();
        Some(ours == text.rules.len())
    };
    look().unwrap_or(false)
}

/// Whether the way into the host for questions to the resolver is there.
pub(super) fn opening(family: Family, text: &OpeningText) -> bool {
    let look = || -> Option<bool> {
        let mut window = Window::open(family)?;
        let input = window.chain("INPUT")?;
        if !input.iter().any(|rule| rule.leads_to(opening::SHARED)) {
            return Some(false);
        }
        let rules = window.chain(opening::SHARED)?;
        let ours = rules.iter().filter(|rule| rule.says(&text.mark)).count();
        Some(ours == text.rules.len())
    };
    look().unwrap_or(false)
}

/// Whether all of `text` is in the kernel.
pub(super) fn present(family: Family, text: &NetworkText) -> bool {
    network(family, text).unwrap_or(false)
}

/// `None`: the kernel did not tell.
fn network(family: Family, text: &NetworkText) -> Option<bool> {
    let mut window = Window::open(family)?;
    if !window
        .rules(NAT, "POSTROUTING")?
        .iter()
        .any(|rule| rule.jump.as_deref() == Some(SHARED))
    {
        return Some(false);
    }
    let shared = window.rules(NAT, SHARED)?;
    let marked = |rule: &&Seen| rule.says(&text.mark);
    // The rule of the bridge must come before any subnet's.
    if !shared
        .iter()
        .take_while(|rule| rule.jump.is_none())
        .any(|rule| marked(&rule))
    {
        return Some(false);
    }
    for subnet in &text.chains {
        let leads = |rule: &&Seen| rule.jump.as_deref() == Some(subnet.chain.as_str());
        let jumps = shared.iter().filter(marked).filter(leads).count();
        if jumps != 1 || window.rules(NAT, &subnet.chain)?.len() != subnet.rules.len() {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether the attachment's rules can be written as they are: what they build on is there, and
/// they are not.
pub(super) fn ready(family: Family, text: &PortsText) -> bool {
    ports(family, text).unwrap_or(false)
}

fn ports(family: Family, text: &PortsText) -> Option<bool> {
    let mut window = Window::open(family)?;
    let mut hooks = vec![("PREROUTING", DNAT), ("OUTPUT", DNAT)];
    if let Some(mark) = text.base.mark {
        hooks.push(("POSTROUTING", MASQ));
        for chain in [SETMARK, MASQ] {
            if !window
                .rules(NAT, chain)?
                .iter()
                .any(|rule| rule.numbers.contains(&mark))
            {
                return Some(false);
            }
        }
    }
    for (hook, chain) in hooks {
        if !window
            .rules(NAT, hook)?
            .iter()
            .any(|rule| rule.jump.as_deref() == Some(chain))
        {
            return Some(false);
        }
    }
    if text.base.of(Table::Raw).next().is_some() {
        let raw = window.rules(Table::Raw.name(), "PREROUTING")?;
        if !raw.iter().any(|rule| rule.says(LOOPBACK_GUARD)) {
            return Some(false);
        }
    }
    Some(!window.has_chain(NAT, &text.chain)?)
}
