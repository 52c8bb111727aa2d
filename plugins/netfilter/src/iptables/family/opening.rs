//! The way into the host for questions to the resolver, brought in and taken out.

use super::{FamilyTables, unhook};
use crate::iptables::error::Error;
use crate::iptables::lock::Lock;
use crate::iptables::opening::{SHARED, jump};
use crate::iptables::policy::HOST;
use crate::iptables::resolver_port::ResolverPortRules;
use crate::iptables::text::{Rule, Table};
use crate::iptables::{Variant, quick_check};

impl FamilyTables<'_> {
    /// `false`: it was there.
    pub(in crate::iptables) fn apply_opening(
        &self,
        text: &ResolverPortRules,
    ) -> Result<bool, Error> {
        if self.variant == Variant::Nft && quick_check::opening_is_complete(self.family, text) {
            return Ok(false);
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let mut lines = Vec::new();
        if !listing.has_chain(SHARED) {
            lines.push(format!("-N {SHARED}"));
        }
        let leads = |chain| {
            let mut rules = listing.chain("INPUT");
            rules.position(|listed| listed.target() == Some(chain))
        };
        if leads(SHARED).is_none() {
            let place = leads(HOST).map_or(1, |host| host + 2);
            lines.push(jump().insert_at(place));
        }
        let there = |rule: &&Rule| listing.has_rule(rule);
        let wanted = text.rules.len();
        let stands = text.rules.iter().filter(there).count() == wanted
            && text.owned(&listing).count() == wanted;
        if stands && lines.is_empty() {
            return Ok(false);
        }
        if !stands {
            lines.extend(text.owned(&listing).map(Rule::delete));
            lines.extend(text.rules.iter().map(Rule::append));
        }
        let act = format!(
            "open the {} way to the resolver of {}",
            self.family, text.mark
        );
        self.run(&[(Table::Filter, lines)], &act)?;
        Ok(true)
    }

    /// The shared chain goes with the last network's rules.
    pub(in crate::iptables) fn withdraw_opening(
        &self,
        text: &ResolverPortRules,
    ) -> Result<(), Error> {
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        if !listing.has_chain(SHARED) {
            return Ok(());
        }
        let mut lines = Vec::new();
        if text.owned(&listing).count() == listing.len(SHARED) {
            unhook(&listing, SHARED, &mut lines);
        } else {
            lines.extend(text.owned(&listing).map(Rule::delete));
        }
        let act = format!(
            "close the {} way to the resolver of {}",
            self.family, text.mark
        );
        self.run(&[(Table::Filter, lines)], &act)
    }
}
