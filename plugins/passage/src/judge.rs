//! Whether a packet passes a hook: one answer, with the rule that decided.

use std::fmt;

use pontoon_netfilter::iptables::Variant;

use crate::chains::{HookOutcome, HookTraversal, Step};
use crate::packet::Packet;
use crate::rules::{Hook, Rules};

/// What becomes of a packet at a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PacketVerdict {
    /// Every chain of the hook lets it on.
    Passes,
    /// One chain does not, for certain.
    Dropped(DroppingRule),
    /// What stands in its way could not be read: each in words.
    Unknown(Vec<String>),
}

/// What drops a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppingRule {
    /// The table, as its tool calls it: `inet filter`, `iptables-nft filter`.
    pub table: String,
    /// The base chain that the packet came through, with its table.
    pub base: String,
    /// The chain that drops: the base chain itself, or one that it leads to.
    pub chain: String,
    /// The rule, as its tool shows it; `None` when it is the chain's policy.
    pub rule: Option<String>,
    /// The comment of the rule.
    pub owner: Option<String>,
    /// The command that removes the rule.
    pub remove: Option<String>,
    /// The sender is told.
    pub refused: bool,
    /// The chain is the admin's, which Pontoon's chain jumps to first, or one that it leads to.
    pub admins: bool,
}

/// The comment on the jump to the admin's chain, the reference plugin's and ours.
const ADMIN_COMMENT: &str = "CNI firewall plugin admin overrides";

impl fmt::Display for DroppingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, chain, .. } = self;
        match &self.rule {
            Some(rule) => write!(f, "chain {chain} of table {table} ({rule})"),
            None => write!(f, "chain {chain} of table {table} (by its policy)"),
        }
    }
}

impl DroppingRule {
    /// Whether a chain of this name is on the way: it drops itself, or it is the base chain.
    #[must_use]
    pub fn is_in(&self, chain: &str) -> bool {
        self.chain == chain || self.base == chain
    }

    /// Whether the rules that drop are ours, as a network's configuration asks for: those of our table,
    /// of our chains of iptables, and of the admin's chains that ours lead to first.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let table = self.table.rsplit(' ').next() == Some("pontoon");
        table || self.admins || self.chain.starts_with("CNI-")
    }

    /// The program of iptables that lists the table and edits its rules: `ip6tables-legacy`. `None` where
    /// nft does.
    #[must_use]
    pub fn tool(&self) -> Option<&str> {
        let tool = self.table.split(' ').next()?;
        tool.contains("tables-").then_some(tool)
    }

    /// The variant of iptables that the drop belongs to, if it is of iptables.
    #[must_use]
    pub fn variant(&self) -> Option<Variant> {
        // Without iptables' own programs nft lists its tables.
        if matches!(self.table.as_str(), "ip filter" | "ip6 filter")
            && ["INPUT", "FORWARD"].contains(&self.base.as_str())
        {
            return Some(Variant::Nft);
        }
        match self.tool()?.split_once("tables-")?.1 {
            "nft" => Some(Variant::Nft),
            "legacy" => Some(Variant::Legacy),
            _ => None,
        }
    }
}

impl Rules {
    /// Whether the packet passes this hook, of the IP families.
    #[must_use]
    pub fn judge(&self, hook: Hook, packet: &Packet) -> PacketVerdict {
        let mut packet = packet.clone();
        let (mut steps, mut doubts) = (Vec::new(), Vec::new());
        // A chain of another hook, such as ingress, is no part of the answer.
        let mut unknown: Vec<String> = self.lacking().into_iter().collect();
        let mut visit = HookTraversal {
            rules: self,
            hook,
            bridge: false,
            own_address: None,
            steps: &mut steps,
            doubts: &mut doubts,
        };
        for (base, table, name) in visit.bases(&packet) {
            visit.doubts.clear();
            let passed = visit.base(base, table, name, &mut packet);
            let certain = visit.doubts.is_empty();
            match passed {
                HookOutcome::Ended { refused, .. } if certain => {
                    return PacketVerdict::Dropped(found(
                        table.name.clone(),
                        name,
                        visit.steps,
                        refused,
                    ));
                }
                _ => unknown.append(visit.doubts),
            }
        }
        match unknown.is_empty() {
            true => PacketVerdict::Passes,
            false => PacketVerdict::Unknown(unknown),
        }
    }
}

impl Rules {
    /// The same of the rules of other programs alone: what rules of Pontoon, or the admin's chain in them,
    /// drop was asked for by a configuration, and counts as passed.
    #[must_use]
    pub fn judge_others(&self, hook: Hook, packet: &Packet) -> PacketVerdict {
        match self.judge(hook, packet) {
            PacketVerdict::Dropped(drop) if drop.is_ours() => PacketVerdict::Passes,
            judgement => judgement,
        }
    }

    /// Whether the policy of a built-in chain of iptables drops, in the table `filter` of either family.
    #[must_use]
    pub fn policy_drops(&self, variant: Variant, hook: Hook) -> bool {
        let suffix = match variant {
            Variant::Nft => "tables-nft filter",
            Variant::Legacy => "tables-legacy filter",
        };
        let tables = self.tables.iter();
        let chains = tables
            .filter(|table| table.name.ends_with(suffix))
            .flat_map(|table| table.chains.values());
        let mut bases = chains.filter_map(|chain| chain.base.as_ref());
        bases.any(|base| base.hook == hook && base.drops)
    }
}

fn found(table: String, base: &str, steps: &[Step], refused: bool) -> DroppingRule {
    let last = steps.last();
    let rule = last.filter(|step| step.remove.is_some());
    let within = |step: &Step, chain: &str| {
        let suffix = format!(", chain {chain}");
        step.chain
            .as_ref()
            .is_some_and(|found| found.ends_with(&suffix))
    };
    let led = steps.iter().rposition(|step| within(step, "CNI-FORWARD"));
    let admins = led.is_some_and(|led| {
        let jump = steps[led].owner.as_deref() == Some(ADMIN_COMMENT);
        jump && !steps[led..].iter().any(|step| within(step, base))
    });
    let chain = last.and_then(|step| step.chain.as_deref()?.rsplit(", chain ").next());
    DroppingRule {
        chain: chain.unwrap_or(base).to_owned(),
        base: base.to_owned(),
        admins,
        rule: rule.map(|step| step.what.clone()),
        owner: rule.and_then(|step| step.owner.clone()),
        remove: rule.and_then(|step| step.remove.clone()),
        table,
        refused,
    }
}

#[cfg(test)]
mod tests;
