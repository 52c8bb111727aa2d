//! Whether a network's policy is complete, judged by comments and jumps: the digest in the comments
//! stands for the rest. Rules are read through a [`FilterTable`], so that the kernel's answer and a
//! listing by iptables are judged alike.

use super::hostport::BaseRule;
use super::listing::{Listed, Listing};
use super::policy::{
    BAR, DOCKER, DOCKER_STAGE_2, DOCKER_USER, FORWARD, HOST, LEAVE, LinkText, PolicyText, ROOT,
    SHARED, STAGES, bar,
};
use super::text::Family;
use crate::nft::RuleSummary;

/// The filter table, as far as it can be seen.
pub(super) trait FilterTable {
    /// The rules of a chain, none when it is missing. `None`: it could not be told.
    fn chain(&mut self, name: &str) -> Option<Vec<RuleSummary>>;
}

impl FilterTable for Listing {
    fn chain(&mut self, name: &str) -> Option<Vec<RuleSummary>> {
        Some(Self::chain(self, name).map(Listed::summary).collect())
    }
}

/// Whether all of the policy is there, in the right order.
pub(super) fn policy<T: FilterTable>(
    family: Family,
    table: &mut T,
    text: &PolicyText,
) -> Option<bool> {
    Some(
        network(table, text)?
            && hooks(table)?
            && entry(table, &text.admin)?
            && stages(table)?
            && (!text.host() || host(family, table)?),
    )
}

/// Whether any of these links' owners has a link there already.
pub(super) fn linked<T: FilterTable>(table: &mut T, links: &[LinkText]) -> Option<bool> {
    for link in links {
        if table
            .chain(&link.chain)?
            .iter()
            .any(|rule| rule.has_comment(&link.tag))
        {
            return Some(true);
        }
    }
    Some(false)
}

fn network<T: FilterTable>(table: &mut T, text: &PolicyText) -> Option<bool> {
    if table.chain(&text.chain)?.len() != text.own.len() {
        return Some(false);
    }
    for chain in SHARED {
        let wanted = text.count(chain);
        if wanted == 0 {
            continue;
        }
        let rules = table.chain(chain)?;
        if rules
            .iter()
            .filter(|rule| rule.has_comment(&text.mark))
            .count()
            != wanted
        {
            return Some(false);
        }
    }
    Some(true)
}

/// The ways from FORWARD to us, past Docker where it is there.
fn hooks<T: FilterTable>(table: &mut T) -> Option<bool> {
    let forward = table.chain("FORWARD")?;
    let leads = |rules: &[RuleSummary], chain: &str| rules.iter().any(|rule| rule.jumps_to(chain));
    if !leads(&forward, FORWARD) {
        return Some(false);
    }
    let leave = table.chain(LEAVE)?;
    if leads(&forward, DOCKER_USER) {
        return Some(leads(&table.chain(DOCKER_USER)?, FORWARD) && leads(&leave, DOCKER));
    }
    Some(leave.len() > 1)
}

/// The admin's chain before ours.
fn entry<T: FilterTable>(table: &mut T, admin: &str) -> Option<bool> {
    let rules = table.chain(FORWARD)?;
    let at = |chain: &str| rules.iter().position(|rule| rule.jumps_to(chain));
    Some(matches!((at(admin), at(ROOT)), (Some(admin), Some(root)) if admin < root))
}

pub(super) fn stages<T: FilterTable>(table: &mut T) -> Option<bool> {
    let rules = table.chain(ROOT)?;
    Some(
        rules
            .iter()
            .map(|rule| rule.jump.as_deref())
            .eq(STAGES.map(Some)),
    )
}

fn host<T: FilterTable>(family: Family, table: &mut T) -> Option<bool> {
    for hook in ["INPUT", "OUTPUT"] {
        if !table.chain(hook)?.iter().any(|rule| rule.jumps_to(HOST)) {
            return Some(false);
        }
    }
    Some(table.chain(BAR)?.len() == bar(family).len())
}

/// Docker's chains that decide about what goes to its bridges, of those that `there` finds.
pub(super) fn docker_chains(there: impl Fn(&str) -> bool) -> impl Iterator<Item = &'static str> {
    [DOCKER, DOCKER_STAGE_2]
        .into_iter()
        .filter(move |chain| there(chain))
}

/// Rules by chain: how a shared rule gets where it belongs.
pub(super) fn lines(shared: &[BaseRule]) -> impl Iterator<Item = String> {
    shared.iter().map(BaseRule::line)
}
