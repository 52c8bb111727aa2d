//! One family's half in the filter table: policies and links.

use super::{FamilyTables, remove_chain};
use crate::iptables::egress::{SHARED as EGRESS, owns, untagged};
use crate::iptables::error::Error;
use crate::iptables::listing::{Listed, Listing};
use crate::iptables::lock::Lock;
use crate::iptables::policy::{
    ADMIN_COMMENT, BAR, DOCKER_USER, FORWARD, HOST, IN, KnownText, LEAVE, LINKS_PREFIX, LinkText,
    MemberText, NETWORK_PREFIX, OURS, PolicyText, ROOT, SHARED, STAGE_1, STAGE_2, admin_jump, bar,
    docker_jump, forward_jump, host_jumps, leave, root_jump, stages,
};
use crate::iptables::policy_check::{self, docker_chains};
use crate::iptables::quick_check;
use crate::iptables::restore::Variant;
use crate::iptables::text::{Family, Rule, Table};

impl FamilyTables<'_> {
    /// `false`: it was there.
    pub(in crate::iptables) fn apply_policy(&self, text: &PolicyText) -> Result<bool, Error> {
        let family = self.family;
        let stands =
            |listing: &mut Listing| policy_check::policy(family, listing, text) == Some(true);
        let there = match self.variant {
            Variant::Nft => quick_check::policy_is_complete(family, text),
            Variant::Legacy => stands(&mut self.read(Table::Filter)?),
        };
        if there {
            return Ok(false);
        }
        let _lock = Lock::take(self.lock)?;
        let mut listing = self.read(Table::Filter)?;
        // The process that held the lock may have written it.
        if stands(&mut listing) {
            return Ok(false);
        }
        let mut lines = policy_lines(family, &mut listing, text);
        let unknown = bridges(&self.read(Table::Nat)?, &listing, &text.tag);
        lines.extend(
            unknown
                .iter()
                .flat_map(|known| policy_check::lines(&known.rules)),
        );
        let act = format!("write the {family} policy of {}", text.tag);
        self.run(&[(Table::Filter, lines)], &act)?;
        Ok(true)
    }

    pub(in crate::iptables) fn withdraw_policy(&self, text: &PolicyText) -> Result<(), Error> {
        if self.bare() || self.attempt(&[(Table::Filter, text.withdraw())])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let mut lines: Vec<String> = owned(&listing, &text.tag)
            .map(|listed| listed.rule.delete())
            .collect();
        remove_chain(&listing, &text.chain, IN, &mut lines);
        for links in links_of(&listing, &text.chain) {
            remove_chain(&listing, links, &text.chain, &mut lines);
        }
        let act = format!("remove the {} policy of {}", self.family, text.tag);
        self.run(&[(Table::Filter, lines)], &act)
    }

    /// Lines that make a network's bridge known to the policies of others, where there are any.
    pub(super) fn known_lines(&self, known: &KnownText) -> Result<Vec<String>, Error> {
        if self.bare() {
            return Ok(Vec::new());
        }
        let listing = self.read(Table::Filter)?;
        if !listing.has_chain(ROOT) || owned(&listing, &known.tag).next().is_some() {
            return Ok(Vec::new());
        }
        Ok(policy_check::lines(&known.rules).collect())
    }

    /// Removes what [`FamilyTables::known_lines`] made, and nothing of the network's own policy.
    pub(super) fn forget_known(&self, known: &KnownText) -> Result<(), Error> {
        if self.bare()
            || (self.variant == Variant::Nft
                && quick_check::bridge_is_not_accepted(self.family, known))
        {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let lines = owned(&listing, &known.tag)
            .filter(|listed| listed.has_comment(|comment| comment == known.tag))
            .map(|listed| listed.rule.delete())
            .collect();
        let act = format!("forget the {} bridge of {}", self.family, known.tag);
        self.run(&[(Table::Filter, lines)], &act)
    }

    pub(in crate::iptables) fn apply_member(&self, member: &MemberText) -> Result<(), Error> {
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let mut lines = Vec::new();
        let chains = [FORWARD, member.admin.as_str()].into_iter();
        let absent = chains.filter(|chain| !listing.has_chain(chain));
        lines.extend(absent.map(|chain| format!("-N {chain}")));
        hooks(&listing, &mut lines);
        admin_first(&listing, &member.admin, &mut lines);
        let missing = member.rules.iter().filter(|rule| !listing.has_rule(rule));
        lines.extend(missing.map(Rule::append));
        let act = format!("let {} pass by {}", member.tag, self.family);
        self.run(&[(Table::Filter, lines)], &act)
    }

    pub(in crate::iptables) fn withdraw_member(&self, member: &MemberText) -> Result<(), Error> {
        if self.variant == Variant::Nft && quick_check::has_no_member(self.family, member) {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let lines = listing
            .chain(FORWARD)
            .filter(|listed| listed.has_comment(|comment| comment == member.tag))
            .map(|listed| listed.rule.delete())
            .collect();
        let act = format!("let {} pass by {} no more", member.tag, self.family);
        self.run(&[(Table::Filter, lines)], &act)
    }

    pub(in crate::iptables) fn apply_links(&self, links: &[LinkText]) -> Result<(), Error> {
        if self.variant == Variant::Nft && quick_check::has_no_links(self.family, links) {
            let lines = links.iter().map(|link| link.rule.append()).collect();
            if self.attempt(&[(Table::Filter, lines)])? {
                return Ok(());
            }
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        let mut chains: Vec<&str> = links.iter().map(|link| link.chain.as_str()).collect();
        chains.sort_unstable();
        chains.dedup();
        let mut lines: Vec<String> = chains
            .into_iter()
            .filter(|chain| !listing.has_chain(chain))
            .map(|chain| format!("-N {chain}"))
            .collect();
        let missing = links.iter().filter(|link| !listing.has_rule(&link.rule));
        lines.extend(missing.map(|link| link.rule.append()));
        let act = format!("write {} links", self.family);
        self.run(&[(Table::Filter, lines)], &act)
    }

    pub(in crate::iptables) fn withdraw_links(&self, links: &[LinkText]) -> Result<(), Error> {
        if self.bare() {
            return Ok(());
        }
        let exact = links.iter().map(|link| link.rule.delete()).collect();
        if self.compares() && self.attempt(&[(Table::Filter, exact)])? {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        // By number, from the end: not every iptables tells two ports apart when it deletes.
        let mut places: Vec<(&str, usize)> = links
            .iter()
            .flat_map(|link| {
                let places = listing.places(&link.rule);
                places.into_iter().map(|place| (link.chain.as_str(), place))
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        let lines = places
            .iter()
            .rev()
            .map(|(chain, place)| format!("-D {chain} {place}"))
            .collect();
        let act = format!("remove {} links", self.family);
        self.run(&[(Table::Filter, lines)], &act)
    }

    /// Removes what policies share, when no network has one any more. What the admin or the
    /// reference plugin has in its chains stays, and so does the way there.
    pub(in crate::iptables) fn remove_policies(&self) -> Result<(), Error> {
        let none = |chain| quick_check::has_chain(self.family, Table::Filter, chain) == Some(false);
        if self.variant == Variant::Nft && none(ROOT) && none(FORWARD) {
            return Ok(());
        }
        let _lock = Lock::take(self.lock)?;
        let listing = self.read(Table::Filter)?;
        // Attachments without a bridge have no more than the reference has.
        let only_ways = || {
            let mut rules = listing.chain(FORWARD);
            listing.has_chain(FORWARD) && rules.all(|l| l.has_comment(|c| c == ADMIN_COMMENT))
        };
        if listing.len(IN) > 0 || !(listing.has_chain(ROOT) || only_ways()) {
            return Ok(());
        }
        let lines = clearance(&listing);
        let act = format!("remove the shared {} chains of policies", self.family);
        self.run(&[(Table::Filter, lines)], &act)
    }

    /// Whether the kernel says that there is no policy at all.
    fn bare(&self) -> bool {
        self.variant == Variant::Nft && quick_check::has_no_policy(self.family)
    }
}

/// A network's rules in shared chains, in whatever version.
fn owned<'a>(listing: &'a Listing, tag: &'a str) -> impl Iterator<Item = &'a Listed> {
    SHARED
        .iter()
        .flat_map(|chain| listing.chain(chain))
        .filter(move |listed| listed.has_comment(|comment| owns(tag, comment)))
}

/// The chains of links that a network's own chain leads to.
fn links_of<'a>(listing: &'a Listing, chain: &'a str) -> impl Iterator<Item = &'a str> {
    listing
        .chain(chain)
        .filter_map(Listed::target)
        .filter(|target| target.starts_with(LINKS_PREFIX))
}

/// What makes the policy out of what is there.
fn policy_lines(family: Family, listing: &mut Listing, text: &PolicyText) -> Vec<String> {
    let staged = policy_check::stages(listing) == Some(true);
    let listing = &*listing;
    let mut lines = Vec::new();
    let mut chains = vec![FORWARD, text.admin.as_str(), STAGE_1, STAGE_2];
    chains.extend(OURS);
    chains.push(&text.chain);
    if text.host() {
        chains.extend([HOST, BAR]);
    }
    if text.linked {
        chains.push(&text.links);
    }
    let absent = chains.iter().filter(|chain| !listing.has_chain(chain));
    lines.extend(absent.map(|chain| format!("-N {chain}")));
    lines.extend(owned(listing, &text.tag).map(|listed| listed.rule.delete()));
    hooks(listing, &mut lines);
    entry(listing, &text.admin, &mut lines);
    if !staged {
        rewrite(listing, ROOT, &stages(), &mut lines);
    }
    let leave = leave(docker_chains(|chain| listing.has_chain(chain)));
    if !same_targets(listing, &leave) {
        rewrite(listing, LEAVE, &leave, &mut lines);
    }
    if text.host() {
        let bar = bar(family);
        if listing.len(BAR) != bar.len() {
            rewrite(listing, BAR, &bar, &mut lines);
        }
        let missing = |jump: &Rule| listing.chain(&jump.chain).all(|l| l.target() != Some(HOST));
        let jumps = host_jumps();
        lines.extend(jumps.iter().filter(|j| missing(j)).map(Rule::insert));
    }
    lines.extend(policy_check::lines(&text.shared));
    rewrite(listing, &text.chain, &text.own, &mut lines);
    let left = links_of(listing, &text.chain).filter(|links| !text.linked || *links != text.links);
    for links in left {
        remove_chain(listing, links, &text.chain, &mut lines);
    }
    lines
}

/// The jumps that lead to us from chains of others.
fn hooks(listing: &Listing, lines: &mut Vec<String>) {
    let docker = listing
        .chain("FORWARD")
        .position(|listed| listed.target() == Some(DOCKER_USER));
    if listing
        .chain("FORWARD")
        .all(|l| l.target() != Some(FORWARD))
    {
        // Behind Docker's chain for the admin, where it is there; that is the head for other programs.
        lines.push(forward_jump().insert_at(docker.map_or(1, |place| place + 2)));
    }
    // Docker puts its own accepts at FORWARD's head, before us, whenever it makes a network, and
    // DOCKER-USER before them.
    if docker.is_some()
        && listing
            .chain(DOCKER_USER)
            .all(|l| l.target() != Some(FORWARD))
    {
        let rules = listing.len(DOCKER_USER);
        let closed = listing
            .chain(DOCKER_USER)
            .last()
            .is_some_and(|last| last.rule.spec == "-j RETURN");
        let place = if closed { rules } else { rules + 1 };
        lines.push(docker_jump().insert_at(place));
    }
}

/// The admin's chain before all rules but the jumps to chains of other admins.
fn admin_first(listing: &Listing, admin: &str, lines: &mut Vec<String>) {
    let mut head = listing
        .chain(FORWARD)
        .take_while(|listed| listed.has_comment(|comment| comment == ADMIN_COMMENT));
    if head.any(|listed| listed.target() == Some(admin)) {
        return;
    }
    let behind = listing.chain(FORWARD);
    let behind = behind.filter(|listed| listed.target() == Some(admin));
    lines.extend(behind.map(|listed| listed.rule.delete()));
    lines.push(admin_jump(admin).insert());
}

/// The admin's chain first, then ours.
fn entry(listing: &Listing, admin: &str, lines: &mut Vec<String>) {
    let at = |chain| {
        let leads = |listed: &Listed| listed.target() == Some(chain);
        listing.chain(FORWARD).position(leads)
    };
    let known = at(admin).is_some();
    if matches!((at(admin), at(ROOT)), (Some(admin), Some(root)) if admin < root) {
        return;
    }
    let (ours, others): (Vec<_>, Vec<_>) = listing
        .chain(FORWARD)
        .partition(|listed| listed.target() == Some(ROOT));
    lines.extend(ours.iter().map(|listed| listed.rule.delete()));
    if !known {
        lines.push(admin_jump(admin).insert());
    }
    let is_admins = |listed: &&Listed| {
        listed.has_comment(|c| c == ADMIN_COMMENT) || listed.target() == Some(admin)
    };
    let behind = others.iter().rposition(is_admins).map_or(0, |at| at + 1);
    lines.push(root_jump().insert_at(behind + usize::from(!known) + 1));
}

/// Replaces what a chain holds.
fn rewrite(listing: &Listing, chain: &str, rules: &[Rule], lines: &mut Vec<String>) {
    if listing.len(chain) > 0 {
        lines.push(format!("-F {chain}"));
    }
    lines.extend(rules.iter().map(Rule::append));
}

fn same_targets(listing: &Listing, rules: &[Rule]) -> bool {
    let wanted = rules.iter().map(|rule| rule.spec.rsplit(' ').next());
    listing.chain(LEAVE).map(Listed::target).eq(wanted)
}

/// The bridges of networks that have rules for the way out and nothing here yet.
fn bridges(nat: &Listing, filter: &Listing, but: &str) -> Vec<KnownText> {
    let networks = nat.chain(EGRESS).filter_map(|listed| {
        let bridge = listed.after("-o")?;
        let tag = untagged(listed.comment()?)?;
        (tag != but && owned(filter, tag).next().is_none()).then(|| KnownText::of(bridge, tag))
    });
    networks.collect()
}

/// What removes everything that policies share.
fn clearance(listing: &Listing) -> Vec<String> {
    let mut ours: Vec<&str> = OURS.iter().chain(&[HOST, BAR]).copied().collect();
    ours.retain(|chain| listing.has_chain(chain));
    // What a network left behind when the chain that leads there was flushed.
    ours.extend(
        listing
            .chains()
            .map(|chain| chain.name.as_str())
            .filter(|c| c.starts_with(NETWORK_PREFIX) || c.starts_with(LINKS_PREFIX)),
    );
    let mut lines = Vec::new();
    let mut left = listing.len(FORWARD);
    for chain in &ours {
        for listed in rules_jumping_to(listing, chain, &ours) {
            left -= usize::from(listed.rule.chain == FORWARD);
            lines.push(listed.rule.delete());
        }
    }
    lines.extend(ours.iter().map(|chain| format!("-F {chain}")));
    let mut gone = ours.clone();
    for stage in [STAGE_1, STAGE_2] {
        if listing.has_chain(stage)
            && listing.len(stage) == 0
            && rules_jumping_to(listing, stage, &ours).is_empty()
        {
            gone.push(stage);
        }
    }
    let admins = listing
        .chain(FORWARD)
        .filter(|listed| listed.has_comment(|comment| comment == ADMIN_COMMENT));
    for jump in admins {
        let Some(admin) = jump.target().filter(|admin| listing.len(admin) == 0) else {
            continue;
        };
        lines.push(jump.rule.delete());
        left -= 1;
        if listing.leading_to(admin).count() == 1 {
            gone.push(admin);
        }
    }
    for jump in listing.leading_to(FORWARD) {
        if left == 0 || jump.rule.chain == DOCKER_USER {
            lines.push(jump.rule.delete());
        }
    }
    if left == 0 && listing.has_chain(FORWARD) {
        gone.push(FORWARD);
    }
    lines.extend(gone.iter().map(|chain| format!("-X {chain}")));
    lines
}

/// The jumps to a chain from chains other than these.
fn rules_jumping_to<'a>(
    listing: &'a Listing,
    chain: &'a str,
    not_from: &[&str],
) -> Vec<&'a Listed> {
    let leads = listing.leading_to(chain);
    leads
        .filter(|listed| !not_from.contains(&listed.rule.chain.as_str()))
        .collect()
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
