//! One family's half of every operation: the quick way first, and when that fails the careful one,
//! which reads the tables under the lock and writes exactly the difference.

use std::path::Path;

use super::detect::Detected;
use super::egress::{NetworkText, SHARED, shared_jump};
use super::error::Error;
use super::hostport::{Base, DNAT, LOOPBACK_GUARD, MASQ, PortsText, SETMARK};
use super::listing::{Listed, Listing, wording};
use super::lock::Lock;
use super::quick_check;
use super::resolver::SHARED as RESOLVER;
use super::restore::{Programs, Variant};
use super::text::{Family, Rule, Table, script};

mod filter;
mod opening;
mod resolver;

/// The programs of one family and what they share with the other.
#[derive(Debug)]
pub(super) struct FamilyTables<'a> {
    family: Family,
    variant: Variant,
    programs: &'a Programs,
    lock: &'a Path,
}

impl<'a> FamilyTables<'a> {
    pub(super) fn new(
        family: Family,
        detected: &'a Detected,
        lock: &'a Path,
    ) -> Result<Self, Error> {
        let programs = detected.programs(family).ok_or_else(|| Error::Missing {
            family: family.name(),
        })?;
        Ok(Self {
            family,
            variant: detected.variant,
            programs,
            lock,
        })
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    fn run(&self, tables: &[(Table, Vec<String>)], act: &str) -> Result<(), Error> {
        if tables.iter().all(|(_, lines)| lines.is_empty()) {
            return Ok(());
        }
        self.programs.restore(self.variant, &script(tables), act)
    }

    pub(super) fn read(&self, table: Table) -> Result<Listing, Error> {
        self.programs.read(self.variant, table)
    }

    /// Runs a script that may well be refused: `false` then. Other failures are failures.
    fn attempt(&self, tables: &[(Table, Vec<String>)]) -> Result<bool, Error> {
        match self.run(tables, "try") {
            Ok(()) => Ok(true),
            Err(Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a network's rules are all there.
    fn present(&self, text: &NetworkText) -> Result<bool, Error> {
        if self.variant == Variant::Nft && quick_check::network_is_complete(self.family, text) {
            return Ok(true);
        }
        if self.variant == Variant::Nft {
            return Ok(false);
        }
        let mut lines = vec![shared_jump().check()];
        lines.extend(text.all().into_iter().map(Rule::check));
        self.attempt(&[(Table::Nat, lines)])
    }

    /// `false`: they were there.
    pub(super) fn apply_network(&self, text: &NetworkText) -> Result<bool, Error> {
        if self.present(text)? {
            return Ok(false);
        }
        let _lock = Lock::take(self.lock)?;
        // The process that held the lock may have written them.
        if self.present(text)? {
            return Ok(false);
        }
        let listing = self.read(Table::Nat)?;
        let mut lines = Vec::new();
        let fresh = |lines: &mut Vec<String>, chain: &str| {
            let verb = if listing.has_chain(chain) { "-F" } else { "-N" };
            lines.push(format!("{verb} {chain}"));
        };
        if !listing.has_chain(SHARED) {
            lines.push(format!("-N {SHARED}"));
        }
        if listing
            .chain("POSTROUTING")
            .all(|listed| listed.target() != Some(SHARED))
        {
            lines.push(shared_jump().append());
        }
        lines.extend(owned(&listing, text).map(|listed| listed.rule.delete()));
        lines.push(text.bridge.insert());
        for (jump, subnet) in text.jumps.iter().zip(&text.chains) {
            fresh(&mut lines, &subnet.chain);
            lines.extend(subnet.rules.iter().map(Rule::append));
            lines.push(jump.append());
        }
        let known = self.known_lines(&text.known)?;
        self.run(
            &[(Table::Nat, lines), (Table::Filter, known)],
            &format!("write the {} rules of {}", self.family, text.tag),
        )?;
        Ok(true)
    }

    pub(super) fn withdraw_network(&self, text: &NetworkText) -> Result<(), Error> {
        self.forget_known(&text.known)?;
        if self.attempt(&[(Table::Nat, text.withdraw())])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let mut chains: Vec<&str> = text.chains.iter().map(|s| s.chain.as_str()).collect();
        let mut lines = Vec::new();
        for listed in owned(&listing, text) {
            lines.push(listed.rule.delete());
            chains.extend(
                listed
                    .target()
                    .filter(|t| t.starts_with(super::egress::CHAIN_PREFIX)),
            );
        }
        chains.sort_unstable();
        chains.dedup();
        for chain in chains {
            remove_chain(&listing, chain, SHARED, &mut lines);
        }
        self.run(
            &[(Table::Nat, lines)],
            &format!("remove the {} rules of {}", self.family, text.tag),
        )
    }

    pub(super) fn apply_ports(
        &self,
        text: &PortsText,
        by_interface: &PortsText,
    ) -> Result<(), Error> {
        if self.variant == Variant::Nft
            && quick_check::ports_can_be_added(self.family, text)
            && self.attempt(&[(Table::Nat, text.create())])?
        {
            return Ok(());
        }
        // `raw` comes first, and holds nothing but an assertion: when it fails nothing is written.
        let mut nat = text.base.checks(Table::Nat);
        nat.extend(text.create());
        let quick = [
            (Table::Raw, text.base.checks(Table::Raw)),
            (Table::Nat, nat),
        ];
        if self.compares() && self.attempt(&quick)? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let text = if is_anothers(&listing, text) {
            by_interface
        } else {
            text
        };
        let (raw, mut nat) = self.missing_base(&text.base, &listing)?;
        nat.extend(entries_of(&listing, &text.chain).map(|listed| listed.rule.delete()));
        let mut create = text.create();
        if let Some(first) = create
            .first_mut()
            .filter(|_| listing.has_chain(&text.chain))
        {
            *first = format!("-F {}", text.chain);
        }
        nat.extend(create);
        let act = format!("publish {} ports for {}", self.family, text.tag);
        self.run(&[(Table::Raw, raw), (Table::Nat, nat)], &act)
    }

    /// Lines for `raw` and `nat` that make what is missing of the base.
    fn missing_base(
        &self,
        base: &Base,
        nat: &Listing,
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        let mut nat_lines: Vec<String> = base
            .chains
            .iter()
            .filter(|chain| !nat.has_chain(chain))
            .map(|chain| format!("-N {chain}"))
            .collect();
        for wanted in base.of(Table::Nat) {
            if !self.has(Table::Nat, nat, &wanted.rule)? {
                nat_lines.push(wanted.line());
            }
        }
        let mut raw_lines = Vec::new();
        if base.of(Table::Raw).next().is_some() {
            let raw = self.read(Table::Raw)?;
            for wanted in base.of(Table::Raw) {
                if !self.has(Table::Raw, &raw, &wanted.rule)? {
                    raw_lines.push(wanted.line());
                }
            }
        }
        Ok((raw_lines, nat_lines))
    }

    /// Whether a rule is there. Another version of iptables may print a rule otherwise than we do,
    /// and a second jump would count packets twice, so iptables has the last word.
    fn has(&self, table: Table, listing: &Listing, rule: &Rule) -> Result<bool, Error> {
        if listing.has_rule(rule) {
            return Ok(true);
        }
        if !self.compares() || listing.chain(&rule.chain).next().is_none() {
            return Ok(false);
        }
        self.attempt(&[(table, vec![rule.check()])])
    }

    /// Whether `-C` tells rules apart that differ in a match's or target's own data. ip6tables-legacy
    /// 1.8.9, the one of Debian 12, does not: it takes `--mark 1` for `--mark 2`, and one DNAT target
    /// for another. Addresses, interfaces, chains jumped to and comments it does compare.
    fn compares(&self) -> bool {
        self.variant == Variant::Nft || self.family == Family::V4
    }

    /// With `empty`, an empty chain, which goes in the same transaction if it is there: each that deletes
    /// something makes the next one wait for a grace period of the kernel.
    pub(super) fn withdraw_ports(
        &self,
        text: &PortsText,
        by_interface: &PortsText,
        empty: Option<&str>,
    ) -> Result<(), Error> {
        let there = |chain: &&str| {
            self.variant == Variant::Nft
                && quick_check::has_chain(self.family, Table::Nat, chain) == Some(true)
        };
        if let Some(chain) = empty.filter(there) {
            let mut lines = text.withdraw();
            lines.push(format!("-X {chain}"));
            if self.attempt(&[(Table::Nat, lines)])? {
                return Ok(());
            }
        }
        for text in [text, by_interface] {
            if self.attempt(&[(Table::Nat, text.withdraw())])? {
                return Ok(());
            }
        }
        self.forget_ports(&text.chain, &text.tag)?;
        self.forget_ports(&by_interface.chain, &by_interface.tag)
    }
    /// Removes an attachment's ports without knowing them.
    pub(super) fn forget_ports(&self, chain: &str, tag: &str) -> Result<(), Error> {
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        // The reference names chains by network and container only. Rules there that name another
        // interface of this container have replaced ours; rules that name none are the reference's.
        if belongs_to_another(&listing, chain, tag) {
            return Ok(());
        }
        let mut lines: Vec<String> = entries_of(&listing, chain)
            .map(|listed| listed.rule.delete())
            .collect();
        remove_chain(&listing, chain, DNAT, &mut lines);
        self.run(
            &[(Table::Nat, lines)],
            &format!("withdraw the {} ports of {tag}", self.family),
        )
    }

    /// Removes the reference plugins' masquerade chain of one container.
    pub(super) fn forget_masquerade(&self, chain: &str) -> Result<(), Error> {
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let mut lines: Vec<String> = listing
            .chain("POSTROUTING")
            .filter(|listed| listed.target() == Some(chain))
            .map(|listed| listed.rule.delete())
            .collect();
        remove_chain(&listing, chain, "POSTROUTING", &mut lines);
        self.run(
            &[(Table::Nat, lines)],
            &format!("remove the {} chain {chain}", self.family),
        )
    }

    /// Deletes an empty chain of `nat`; false when it is not there, or not empty.
    pub(super) fn delete_empty(&self, chain: &str) -> Result<bool, Error> {
        self.attempt(&[(Table::Nat, vec![format!("-X {chain}")])])
    }

    /// Makes an empty chain in `nat`, unless it is there.
    pub(super) fn create_empty(&self, chain: &str) -> Result<(), Error> {
        if self.attempt(&[(Table::Nat, vec![format!("-N {chain}")])])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        if self.read(Table::Nat)?.has_chain(chain) {
            return Ok(());
        }
        self.run(
            &[(Table::Nat, vec![format!("-N {chain}")])],
            &format!("make the {} chain {chain}", self.family),
        )
    }

    /// Deletes those of these rules that are there.
    pub(super) fn delete_rules(
        &self,
        table: Table,
        rules: impl Iterator<Item = Rule>,
        act: &str,
    ) -> Result<(), Error> {
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(table)?;
        let lines = rules
            .filter(|rule| listing.has_rule(rule))
            .map(|rule| rule.delete())
            .collect();
        self.run(&[(table, lines)], act)
    }

    /// Removes what is shared, as far as it is out of use. A chain that gets a rule after we looked
    /// cannot be deleted and fails the whole script; the next look then leaves it alone.
    pub(super) fn remove_all(&self) -> Result<(), Error> {
        const LOOKS: usize = 3;
        let _lock = Lock::take(self.lock)?;
        for look in 1.. {
            let listing = self.read(Table::Nat)?;
            let mut lines = Vec::new();
            for chain in [SHARED, RESOLVER] {
                if listing.chain(chain).next().is_none() {
                    unhook(&listing, chain, &mut lines);
                }
            }
            let closed = listing.chain(DNAT).next().is_none();
            if closed {
                unhook(&listing, DNAT, &mut lines);
                // Chains of other programs may still mark packets by jumping there.
                if listing.leading_to(SETMARK).next().is_none() {
                    unhook(&listing, SETMARK, &mut lines);
                    unhook(&listing, MASQ, &mut lines);
                }
            }
            let nat = [(Table::Nat, lines)];
            if look == LOOKS {
                self.run(&nat, &format!("remove the shared {} chains", self.family))?;
            } else if !self.attempt(&nat)? {
                continue;
            }
            return if closed { self.remove_guard() } else { Ok(()) };
        }
        Ok(())
    }

    /// No port is published any more, so nothing needs the guard in `raw`.
    fn remove_guard(&self) -> Result<(), Error> {
        let listing = self.read(Table::Raw)?;
        let guards = listing
            .chain("PREROUTING")
            .filter(|listed| listed.comment() == Some(LOOPBACK_GUARD))
            .map(|listed| listed.rule.delete())
            .collect();
        self.run(&[(Table::Raw, guards)], "remove the loopback guard")
    }

    /// Which of these rules are missing, in words.
    pub(super) fn differences(&self, rules: &[(Table, Rule)]) -> Result<Vec<String>, Error> {
        let mut words = Vec::new();
        for table in [Table::Raw, Table::Nat, Table::Filter] {
            let wanted: Vec<&Rule> = rules
                .iter()
                .filter(|(of, _)| *of == table)
                .map(|(_, rule)| rule)
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let listing = self.read(table)?;
            let there = listing.index();
            for rule in wanted {
                let known = there.contains(&(rule.chain.as_str(), wording(rule)));
                if !known && !self.has(table, &listing, rule)? {
                    let (name, text) = (table.name(), rule.append());
                    words.push(format!(
                        "{} table {name} lacks the rule: {text}",
                        self.family
                    ));
                }
            }
        }
        Ok(words)
    }
}

/// The text under which the attachment's rules are there, if it is the second one.
pub(super) fn uses_interface_chain(
    listing: &Listing,
    text: &PortsText,
    by_interface: &PortsText,
) -> bool {
    is_anothers(listing, text) && listing.has_chain(&by_interface.chain)
}

/// Whether the attachment's chain holds the rules of another interface of its container.
fn is_anothers(listing: &Listing, text: &PortsText) -> bool {
    belongs_to_another(listing, &text.chain, &text.tag)
}

fn belongs_to_another(listing: &Listing, chain: &str, tag: &str) -> bool {
    let foreign = |listed: &Listed| {
        listed
            .comment()
            .is_some_and(|c| c.starts_with("pontoon ") && c != tag)
    };
    listing.chain(chain).any(foreign)
}

/// The network's rules in the shared chain, by comment.
fn owned<'a>(listing: &'a Listing, text: &'a NetworkText) -> impl Iterator<Item = &'a Listed> {
    listing
        .chain(SHARED)
        .filter(|listed| listed.comment().is_some_and(|c| text.owns(c)))
}

/// The entries that lead to an attachment's chain.
fn entries_of<'a>(listing: &'a Listing, chain: &'a str) -> impl Iterator<Item = &'a Listed> {
    listing
        .chain(DNAT)
        .filter(move |listed| listed.target() == Some(chain))
}

/// Empties a chain and deletes it, unless a rule leads to it from elsewhere than `from`: deleting
/// it would fail then, and removing their rule is not for us.
fn remove_chain(listing: &Listing, chain: &str, from: &str, lines: &mut Vec<String>) {
    if !listing.has_chain(chain) {
        return;
    }
    lines.push(format!("-F {chain}"));
    if listing
        .leading_to(chain)
        .all(|listed| listed.rule.chain == from)
    {
        lines.push(format!("-X {chain}"));
    }
}

/// Deletes a chain with every jump to it and what it holds, rule by rule: a flush would also take
/// what was added a moment ago.
fn unhook(listing: &Listing, chain: &str, lines: &mut Vec<String>) {
    if !listing.has_chain(chain) {
        return;
    }
    lines.extend(listing.leading_to(chain).map(|listed| listed.rule.delete()));
    lines.extend(listing.chain(chain).map(|listed| listed.rule.delete()));
    lines.push(format!("-X {chain}"));
}
