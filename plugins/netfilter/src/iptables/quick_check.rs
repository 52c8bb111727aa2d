//! Quick checks: are a network's rules in nf_tables already, is everything there that published
//! ports build on? Asked of the kernel directly, chain by chain, because starting any program costs
//! more than all of an attachment's kernel work, and iptables' own check reads every rule there is.
//!
//! Comments, jumps and marks are read, not all matches: iptables encodes those differently from
//! version to version, and the digest in the comments stands for them. What cannot be read counts
//! as absent; then iptables itself is asked.

use super::egress::{NetworkText, SHARED};
use super::hostport::{DNAT, LOOPBACK_GUARD, MASQ, PortsText, SETMARK};
use super::opening;
use super::policy::{FORWARD, FROM, KnownText, LinkText, MemberText, PolicyText, ROOT};
use super::policy_check::{self, FilterTable};
use super::resolver;
use super::resolver_port::ResolverPortRules;
use super::text::{Family, Table};
use crate::nft::{ChainLookup, RuleSummary};

const NAT: &str = "nat";

impl FilterTable for ChainLookup {
    fn chain(&mut self, name: &str) -> Option<Vec<RuleSummary>> {
        self.rules(Table::Filter.name(), name)
    }
}

fn open(family: Family) -> Option<ChainLookup> {
    ChainLookup::open(family == Family::V4)
}

/// Whether there is such a chain; `None`: the kernel did not tell.
pub(super) fn has_chain(family: Family, table: Table, chain: &str) -> Option<bool> {
    open(family)?.has_chain(table.name(), chain)
}

/// Whether a network's policy is complete.
pub(super) fn policy_is_complete(family: Family, text: &PolicyText) -> bool {
    open(family)
        .and_then(|mut lookup| policy_check::policy(family, &mut lookup, text))
        .unwrap_or(false)
}

/// Whether these links can be added as they are: none of their owners has one there.
pub(super) fn has_no_links(family: Family, links: &[LinkText]) -> bool {
    open(family)
        .and_then(|mut lookup| policy_check::linked(&mut lookup, links))
        .is_some_and(|linked| !linked)
}

/// Whether no rule accepts what comes from a bridge without a policy, for sure.
pub(super) fn bridge_is_not_accepted(family: Family, known: &KnownText) -> bool {
    has_no_comment(family, FROM, &known.tag)
}

/// Whether an attachment has no rule of its own, for sure.
pub(super) fn has_no_member(family: Family, member: &MemberText) -> bool {
    has_no_comment(family, FORWARD, &member.tag)
}

fn has_no_comment(family: Family, chain: &str, comment: &str) -> bool {
    open(family)
        .and_then(|mut lookup| lookup.chain(chain))
        .is_some_and(|rules| rules.iter().all(|rule| !rule.has_comment(comment)))
}

/// Whether there is nothing of any policy in the kernel, for sure.
pub(super) fn has_no_policy(family: Family) -> bool {
    open(family)
        .and_then(|mut lookup| lookup.has_chain(Table::Filter.name(), ROOT))
        .is_some_and(|there| !there)
}

/// Whether the rules that lead to the resolver are all there.
pub(super) fn resolver_is_complete(family: Family, text: &ResolverPortRules) -> bool {
    let look = || -> Option<bool> {
        let mut lookup = open(family)?;
        for hook in resolver::HOOKS {
            let rules = lookup.rules(NAT, hook)?;
            let leads = |rule: &RuleSummary| rule.jumps_to(resolver::SHARED);
            if !rules.iter().any(leads) {
                return Some(false);
            }
        }
        let rules = lookup.rules(NAT, resolver::SHARED)?;
        let ours = rules
            .iter()
            .filter(|rule| rule.has_comment(&text.mark))
            .count();
        Some(ours == text.rules.len())
    };
    look().unwrap_or(false)
}

/// Whether the rules that let questions to the resolver into the host are all there.
pub(super) fn opening_is_complete(family: Family, text: &ResolverPortRules) -> bool {
    let look = || -> Option<bool> {
        let mut lookup = open(family)?;
        let input = lookup.chain("INPUT")?;
        if !input.iter().any(|rule| rule.jumps_to(opening::SHARED)) {
            return Some(false);
        }
        let rules = lookup.chain(opening::SHARED)?;
        let ours = rules
            .iter()
            .filter(|rule| rule.has_comment(&text.mark))
            .count();
        Some(ours == text.rules.len())
    };
    look().unwrap_or(false)
}

/// Whether all of `text` is in the kernel.
pub(super) fn network_is_complete(family: Family, text: &NetworkText) -> bool {
    network(family, text).unwrap_or(false)
}

/// `None`: the kernel did not tell.
fn network(family: Family, text: &NetworkText) -> Option<bool> {
    let mut lookup = open(family)?;
    if !lookup
        .rules(NAT, "POSTROUTING")?
        .iter()
        .any(|rule| rule.jumps_to(SHARED))
    {
        return Some(false);
    }
    let shared = lookup.rules(NAT, SHARED)?;
    let marked = |rule: &&RuleSummary| rule.has_comment(&text.mark);
    // The rule of the bridge must come before any subnet's.
    if !shared
        .iter()
        .take_while(|rule| rule.jump.is_none())
        .any(|rule| marked(&rule))
    {
        return Some(false);
    }
    for subnet in &text.chains {
        let leads = |rule: &&RuleSummary| rule.jumps_to(&subnet.chain);
        let jumps = shared.iter().filter(marked).filter(leads).count();
        if jumps != 1 || lookup.rules(NAT, &subnet.chain)?.len() != subnet.rules.len() {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether the attachment's rules can be written as they are: what they build on is there, and
/// they are not.
pub(super) fn ports_can_be_added(family: Family, text: &PortsText) -> bool {
    ports(family, text).unwrap_or(false)
}

fn ports(family: Family, text: &PortsText) -> Option<bool> {
    let mut lookup = open(family)?;
    let mut hooks = vec![("PREROUTING", DNAT), ("OUTPUT", DNAT)];
    if let Some(mark) = text.base.mark {
        hooks.push(("POSTROUTING", MASQ));
        for chain in [SETMARK, MASQ] {
            if !lookup
                .rules(NAT, chain)?
                .iter()
                .any(|rule| rule.numbers.contains(&mark))
            {
                return Some(false);
            }
        }
    }
    for (hook, chain) in hooks {
        if !lookup
            .rules(NAT, hook)?
            .iter()
            .any(|rule| rule.jumps_to(chain))
        {
            return Some(false);
        }
    }
    if text.base.of(Table::Raw).next().is_some() {
        let raw = lookup.rules(Table::Raw.name(), "PREROUTING")?;
        if !raw.iter().any(|rule| rule.has_comment(LOOPBACK_GUARD)) {
            return Some(false);
        }
    }
    Some(!lookup.has_chain(NAT, &text.chain)?)
}
