//! The way to the embedded resolver, brought in and taken out.

use super::FamilyTables;
use crate::iptables::Variant;
use crate::iptables::error::Error;
use crate::iptables::lock::Lock;
use crate::iptables::quick_check;
use crate::iptables::resolver::{SHARED, all, jumps};
use crate::iptables::resolver_port::ResolverPortRules;
use crate::iptables::text::{Rule, Table};

impl FamilyTables<'_> {
    fn has_resolver(&self, text: &ResolverPortRules) -> Result<bool, Error> {
        if self.variant == Variant::Nft {
            return Ok(quick_check::resolver_is_complete(self.family, text));
        }
        let lines = all(text).iter().map(Rule::check).collect();
        self.attempt(&[(Table::Nat, lines)])
    }

    pub(in crate::iptables) fn apply_resolver(
        &self,
        text: &ResolverPortRules,
    ) -> Result<(), Error> {
        if self.has_resolver(text)? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let mut lines = Vec::new();
        if !listing.has_chain(SHARED) {
            lines.push(format!("-N {SHARED}"));
        }
        for jump in jumps() {
            let there = listing
                .chain(&jump.chain)
                .any(|listed| listed.target() == Some(SHARED));
            if !there {
                // Before all published ports.
                lines.push(jump.insert());
            }
        }
        lines.extend(text.owned(&listing).map(Rule::delete));
        lines.extend(text.rules.iter().map(Rule::append));
        let act = format!("write the {} rules of {}", self.family, text.mark);
        self.run(&[(Table::Nat, lines)], &act)
    }

    pub(in crate::iptables) fn withdraw_resolver(
        &self,
        text: &ResolverPortRules,
    ) -> Result<(), Error> {
        let lines = text.rules.iter().map(Rule::delete).collect();
        if self.compares() && self.attempt(&[(Table::Nat, lines)])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let lines = text.owned(&listing).map(Rule::delete).collect();
        let act = format!("remove the {} rules of {}", self.family, text.mark);
        self.run(&[(Table::Nat, lines)], &act)
    }
}
