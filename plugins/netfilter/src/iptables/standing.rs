//! Whether a network's policy stands, judged by comments and jumps: the digest in the comments
//! stands for the rest. Chains are looked at through a [`View`], so that a look at the kernel and a
//! listing by iptables are judged alike.

use super::hostport::BaseRule;
use super::policy::{
    BAR, DOCKER, DOCKER_STAGE_2, DOCKER_USER, FORWARD, HOST, LEAVE, LinkText, PolicyText, ROOT,
    SHARED, STAGES, bar,
};
use super::text::Family;

/// What a look at a rule tells.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Glimpse {
    /// A rule may have several comments.
    pub(super) comments: Vec<String>,
    /// The chain that it leads to.
    pub(super) jump: Option<String>,
}

/// The filter table, as far as it can be seen.
pub(super) trait View {
    /// The rules of a chain, none when it is missing. `None`: it could not be told.
    fn chain(&mut self, name: &str) -> Option<Vec<Glimpse>>;
}

impl Glimpse {
    pub(super) fn says(&self, comment: &str) -> bool {
        self.comments.iter().any(|c| c == comment)
    }

    pub(super) fn leads_to(&self, chain: &str) -> bool {
        self.jump.as_deref() == Some(chain)
    }
}

/// Whether all of the policy is there, in the right order.
pub(super) fn policy<V: View>(family: Family, view: &mut V, text: &PolicyText) -> Option<bool> {
    Some(
        network(view, text)?
            && hooks(view)?
            && entry(view, &text.admin)?
            && stages(view)?
            && (!text.host() || host(family, view)?),
    )
}

/// Whether any of these links' owners has a link there already.
pub(super) fn linked<V: View>(view: &mut V, links: &[LinkText]) -> Option<bool> {
    for link in links {
        if view.chain(&link.chain)?.iter().any(|g| g.says(&link.tag)) {
            return Some(true);
        }
    }
    Some(false)
}

fn network<V: View>(view: &mut V, text: &PolicyText) -> Option<bool> {
    if view.chain(&text.chain)?.len() != text.own.len() {
        return Some(false);
    }
    for chain in SHARED {
        let wanted = text.count(chain);
        if wanted == 0 {
            continue;
        }
        let rules = view.chain(chain)?;
        if rules.iter().filter(|g| g.says(&text.mark)).count() != wanted {
            return Some(false);
        }
    }
    Some(true)
}

/// The ways from FORWARD to us, past Docker where it is there.
fn hooks<V: View>(view: &mut V) -> Option<bool> {
    let forward = view.chain("FORWARD")?;
    let leads = |rules: &[Glimpse], chain: &str| rules.iter().any(|g| g.leads_to(chain));
    if !leads(&forward, FORWARD) {
        return Some(false);
    }
    let leave = view.chain(LEAVE)?;
    if leads(&forward, DOCKER_USER) {
        return Some(leads(&view.chain(DOCKER_USER)?, FORWARD) && leads(&leave, DOCKER));
    }
    Some(leave.len() > 1)
}

/// The admin's chain before ours.
fn entry<V: View>(view: &mut V, admin: &str) -> Option<bool> {
    let rules = view.chain(FORWARD)?;
    let at = |chain: &str| rules.iter().position(|g| g.leads_to(chain));
    Some(matches!((at(admin), at(ROOT)), (Some(admin), Some(root)) if admin < root))
}

pub(super) fn stages<V: View>(view: &mut V) -> Option<bool> {
    let rules = view.chain(ROOT)?;
    Some(rules.iter().map(|g| g.jump.as_deref()).eq(STAGES.map(Some)))
}

fn host<V: View>(family: Family, view: &mut V) -> Option<bool> {
    for hook in ["INPUT", "OUTPUT"] {
        if !view.chain(hook)?.iter().any(|g| g.leads_to(HOST)) {
            return Some(false);
        }
    }
    Some(view.chain(BAR)?.len() == bar(family).len())
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
