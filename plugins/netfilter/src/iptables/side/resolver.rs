//! The way to the embedded resolver, brought in and taken out.

use super::Side;
use crate::iptables::error::Error;
use crate::iptables::glance;
use crate::iptables::lock::Lock;
use crate::iptables::resolver::{ResolverText, SHARED, jumps};
use crate::iptables::text::{Rule, Table};
use crate::iptables::{Variant, listing::Listing};

impl Side<'_> {
    fn has_resolver(&self, text: &ResolverText) -> Result<bool, Error> {
        if self.variant == Variant::Nft {
            return Ok(glance::resolver(self.family, text));
        }
        let lines = text.all().iter().map(Rule::check).collect();
        self.attempt(&[(Table::Nat, lines)])
    }

    pub(in crate::iptables) fn apply_resolver(&self, text: &ResolverText) -> Result<(), Error> {
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
        lines.extend(owned(&listing, text));
        lines.extend(text.rules.iter().map(Rule::append));
        let act = format!("write the {} rules of {}", self.family, text.mark);
        self.run(&[(Table::Nat, lines)], &act)
    }

    pub(in crate::iptables) fn withdraw_resolver(&self, text: &ResolverText) -> Result<(), Error> {
        let lines = text.rules.iter().map(Rule::delete).collect();
        if self.compares() && self.attempt(&[(Table::Nat, lines)])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Nat)?;
        let lines = owned(&listing, text);
        let act = format!("remove the {} rules of {}", self.family, text.mark);
        self.run(&[(Table::Nat, lines)], &act)
    }
}

/// What removes the network's rules, whatever their port.
fn owned(listing: &Listing, text: &ResolverText) -> Vec<String> {
    listing
        .chain(SHARED)
        .filter(|listed| listed.says(|comment| text.owns(comment)))
        .map(|listed| listed.rule.delete())
        .collect()
}
