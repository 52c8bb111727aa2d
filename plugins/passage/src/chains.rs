//! The chains of one hook, rule by rule.

use std::net::IpAddr;

use serde::Serialize;

use crate::packet::{MatchResult, Packet, shown};
use crate::rules::{
    Base, Hook, Rewrite, Rule, RuleAction, Rules, Statement, Table, Target, Verdict,
};

/// How deep chains may call each other; the kernel allows no more.
const DEPTH: usize = 16;
/// Targets of iptables that change nothing of a packet's way.
const HARMLESS: [&str; 7] = [
    "TCPMSS", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "CT", "CONNMARK",
];

/// Statements of nftables that let a packet go on to the next statement, or not.
const LIMITS: [&str; 3] = ["limit", "quota", "ct count"];

/// Something that a packet met.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// `prerouting`, `routing`, `bridge forward`, …
    pub at: String,
    /// Table and chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// The rule, as its tool shows it; or what happened.
    pub what: String,
    /// Whose rule or element it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What came of it: `drop`, `to 10.0.0.2:80`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// The rule's number in the kernel, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// The command that removes the rule.
    #[serde(skip)]
    pub remove: Option<String>,
}

/// What a hook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookOutcome {
    /// To what comes after the hook.
    On,
    /// Dropped, or refused with a message to the sender, by this chain.
    Ended {
        /// The sender is told.
        refused: bool,
        /// Table and chain.
        by: String,
    },
}

/// The walk of one packet through one hook.
pub struct HookTraversal<'a> {
    /// Of this host.
    pub rules: &'a Rules,
    /// Where the packet is.
    pub hook: Hook,
    /// It is a frame on a bridge.
    pub bridge: bool,
    /// The address that masquerade, or redirect, would write.
    pub own_address: Option<IpAddr>,
    /// What it meets is added here.
    pub steps: &'a mut Vec<Step>,
    /// What stands in its way and cannot be judged is added here.
    pub doubts: &'a mut Vec<String>,
}

enum RuleOutcome {
    /// To the next rule.
    Next,
    Return,
    Accept,
    End {
        refused: bool,
    },
}

impl<'a> HookTraversal<'a> {
    /// The hook in words.
    #[must_use]
    pub fn at(&self) -> String {
        match self.bridge {
            true => format!("bridge {}", self.hook.name()),
            false => self.hook.name().to_owned(),
        }
    }

    /// All base chains that the packet meets at the hook, in the kernel's order.
    pub(crate) fn bases(&self, packet: &Packet) -> Vec<(&'a Base, &'a Table, &'a str)> {
        let rules = self.rules;
        let mut bases = Vec::new();
        for table in &rules.tables {
            let family = match self.bridge {
                true => table.bridge,
                false => (packet.v4() && table.v4) || (!packet.v4() && table.v6),
            };
            let chains = table.chains.iter().filter(|_| family);
            bases.extend(chains.filter_map(|(name, chain)| {
                let base = chain.base.as_ref()?;
                (base.hook == self.hook).then_some((base, table, name.as_str()))
            }));
        }
        bases.sort_by_key(|(base, ..)| base.priority);
        bases
    }

    /// All base chains of the hook, in the kernel's order.
    pub fn pass(&mut self, packet: &mut Packet) -> HookOutcome {
        let mut rewritten = false;
        for (base, table, name) in self.bases(packet) {
            // The first chain that decides on a flow's addresses is the last one.
            if base.nat && rewritten {
                continue;
            }
            let before = (packet.source, packet.destination, packet.ports);
            let passed = self.base(base, table, name, packet);
            rewritten |= base.nat && before != (packet.source, packet.destination, packet.ports);
            if passed != HookOutcome::On {
                return passed;
            }
        }
        HookOutcome::On
    }

    /// One base chain, with its policy.
    pub(crate) fn base(
        &mut self,
        base: &Base,
        table: &Table,
        name: &str,
        packet: &mut Packet,
    ) -> HookOutcome {
        let by = format!("{}, chain {name}", table.name);
        match self.chain(table, name, packet, DEPTH) {
            RuleOutcome::End { refused } => HookOutcome::Ended { refused, by },
            RuleOutcome::Next | RuleOutcome::Return if base.drops => {
                self.steps.push(Step {
                    at: self.at(),
                    chain: Some(by.clone()),
                    what: "policy".to_owned(),
                    owner: None,
                    effect: Some("drop".to_owned()),
                    handle: None,
                    remove: None,
                });
                HookOutcome::Ended { refused: false, by }
            }
            _ => HookOutcome::On,
        }
    }

    fn chain(
        &mut self,
        table: &Table,
        name: &str,
        packet: &mut Packet,
        depth: usize,
    ) -> RuleOutcome {
        let Some(chain) = table.chains.get(name) else {
            if !HARMLESS.contains(&name) {
                self.doubt(format!("-j {name} of {}", table.name));
            }
            return RuleOutcome::Next;
        };
        if depth == 0 {
            self.doubt(format!("chain {name} of {}: too deep", table.name));
            return RuleOutcome::Next;
        }
        for rule in &chain.rules {
            match self.rule(table, name, rule, packet, depth) {
                RuleOutcome::Next => {}
                way => return way,
            }
        }
        RuleOutcome::Next
    }

    fn rule(
        &mut self,
        table: &Table,
        chain: &str,
        rule: &Rule,
        packet: &mut Packet,
        depth: usize,
    ) -> RuleOutcome {
        let mut doubt = None;
        for statement in &rule.statements {
            let mut owner = rule.owner.clone();
            let verdict = match statement {
                Statement::When(condition) => {
                    match packet.meets(condition, table) {
                        MatchResult::Yes => {}
                        MatchResult::No => return RuleOutcome::Next,
                        MatchResult::Unknown(name) => doubt = Some(name),
                    }
                    continue;
                }
                Statement::Note => continue,
                // A chain that only counts, logs and returns changes nothing, whether it is entered or not.
                Statement::Verdict(Verdict::Jump(name))
                    if doubt.is_some() && idle(table, name, DEPTH) =>
                {
                    return RuleOutcome::Next;
                }
                // What follows would count only if all before is so.
                _ if doubt.is_some() => {
                    self.doubt(format!(
                        "{} in {}, chain {chain}: {}",
                        doubt.unwrap_or_default(),
                        table.name,
                        rule.text
                    ));
                    return RuleOutcome::Next;
                }
                // A condition on how much has passed before.
                Statement::Unknown(name) if LIMITS.contains(&name.as_str()) => {
                    doubt = Some(name.clone());
                    continue;
                }
                Statement::Unknown(name) => {
                    self.doubt(format!(
                        "{name} in {}, chain {chain}: {}",
                        table.name, rule.text
                    ));
                    continue;
                }
                Statement::Verdict(verdict) => Ok(verdict.clone()),
                Statement::VerdictMap(fields, members) => {
                    match packet.look_up(fields, members, table) {
                        Ok(None) => return RuleOutcome::Next,
                        Ok(Some(element)) => {
                            owner = element.owner.clone().or(owner);
                            match &element.leads {
                                Some(RuleAction::Verdict(verdict)) => Ok(verdict.clone()),
                                other => Err(unread(other.as_ref())),
                            }
                        }
                        Err(name) => Err(name),
                    }
                }
                Statement::Mark { and, xor } => {
                    packet.mark = (packet.mark & and) ^ xor;
                    self.met(
                        table,
                        chain,
                        rule,
                        owner,
                        format!("mark {:#x}", packet.mark),
                    );
                    continue;
                }
                Statement::Redirect(port) => {
                    let target = Target {
                        address: self.own_address,
                        port: *port,
                    };
                    self.towards(table, chain, rule, owner, packet, target);
                    return RuleOutcome::Accept;
                }
                Statement::Masquerade => {
                    let target = Target {
                        address: self.own_address,
                        port: None,
                    };
                    self.from(table, chain, rule, owner, packet, target);
                    return RuleOutcome::Accept;
                }
                Statement::Dnat(rewrite) | Statement::Snat(rewrite) => {
                    let target = match target(rewrite, packet, table, &mut owner) {
                        Ok(Some(target)) => target,
                        Ok(None) => return RuleOutcome::Next,
                        Err(name) => {
                            self.doubt(format!("{name} in {}, chain {chain}", table.name));
                            return RuleOutcome::Next;
                        }
                    };
                    match statement {
                        Statement::Dnat(_) => {
                            self.towards(table, chain, rule, owner, packet, target);
                        }
                        _ => self.from(table, chain, rule, owner, packet, target),
                    }
                    return RuleOutcome::Accept;
                }
            };
            let verdict = match verdict {
                Ok(verdict) => verdict,
                Err(name) => {
                    self.doubt(format!("{name} in {}, chain {chain}", table.name));
                    return RuleOutcome::Next;
                }
            };
            let effect = match &verdict {
                Verdict::Accept => "accept".to_owned(),
                Verdict::Drop => "drop".to_owned(),
                Verdict::Reject => "reject".to_owned(),
                Verdict::Return => "return".to_owned(),
                Verdict::Continue => continue,
                Verdict::Jump(name) => format!("jump {name}"),
                Verdict::Goto(name) => format!("goto {name}"),
            };
            self.met(table, chain, rule, owner, effect);
            return match verdict {
                Verdict::Accept => RuleOutcome::Accept,
                Verdict::Drop => RuleOutcome::End { refused: false },
                Verdict::Reject => RuleOutcome::End { refused: true },
                Verdict::Return => RuleOutcome::Return,
                Verdict::Continue => RuleOutcome::Next,
                Verdict::Jump(name) => match self.chain(table, &name, packet, depth - 1) {
                    RuleOutcome::Return | RuleOutcome::Next => RuleOutcome::Next,
                    way => way,
                },
                Verdict::Goto(name) => match self.chain(table, &name, packet, depth - 1) {
                    RuleOutcome::Next => RuleOutcome::Return,
                    way => way,
                },
            };
        }
        RuleOutcome::Next
    }

    fn doubt(&mut self, what: String) {
        if !self.doubts.contains(&what) {
            self.doubts.push(what);
        }
    }

    fn met(
        &mut self,
        table: &Table,
        chain: &str,
        rule: &Rule,
        owner: Option<String>,
        effect: String,
    ) {
        self.steps.push(Step {
            at: self.at(),
            chain: Some(format!("{}, chain {chain}", table.name)),
            what: rule.text.clone(),
            owner,
            effect: Some(effect),
            handle: rule.handle,
            remove: Some(rule.remove.clone()),
        });
    }

    /// Writes the destination.
    fn towards(
        &mut self,
        table: &Table,
        chain: &str,
        rule: &Rule,
        owner: Option<String>,
        packet: &mut Packet,
        target: Target,
    ) {
        let before = packet.target();
        packet.destination = target.address.unwrap_or(packet.destination);
        if let (Some((_, to)), Some(port)) = (&mut packet.ports, target.port) {
            *to = port;
        }
        packet.dnat |= before != packet.target();
        let effect = format!("destination {before} becomes {}", packet.target());
        self.met(table, chain, rule, owner, effect);
    }

    /// Writes the source.
    fn from(
        &mut self,
        table: &Table,
        chain: &str,
        rule: &Rule,
        owner: Option<String>,
        packet: &mut Packet,
        target: Target,
    ) {
        let before = packet.source;
        packet.source = target.address.unwrap_or(packet.source);
        packet.snat |= before != packet.source;
        let effect = format!(
            "source {} becomes {}",
            shown(before, None),
            shown(packet.source, target.port)
        );
        self.met(table, chain, rule, owner, effect);
    }
}

/// Whether a chain decides nothing: all its rules count, log, return, or lead to such chains.
fn idle(table: &Table, name: &str, depth: usize) -> bool {
    let rules = table.chains.get(name).map(|chain| &chain.rules);
    let mut statements = rules
        .into_iter()
        .flatten()
        .flat_map(|rule| &rule.statements);
    rules.is_some()
        && depth > 0
        && statements.all(|statement| match statement {
            Statement::When(_) | Statement::Note => true,
            Statement::Unknown(name) => LIMITS.contains(&name.as_str()),
            Statement::Verdict(Verdict::Return | Verdict::Continue) => true,
            Statement::Verdict(Verdict::Jump(name)) => idle(table, name, depth - 1),
            _ => false,
        })
}

/// Where a rewrite leads; nothing when its map has no entry.
fn target(
    rewrite: &Rewrite,
    packet: &Packet,
    table: &Table,
    owner: &mut Option<String>,
) -> Result<Option<Target>, String> {
    match rewrite {
        Rewrite::To(target) => Ok(Some(*target)),
        Rewrite::Map(fields, members) => {
            let Some(element) = packet.look_up(fields, members, table)? else {
                return Ok(None);
            };
            if element.owner.is_some() {
                owner.clone_from(&element.owner);
            }
            match &element.leads {
                Some(RuleAction::Target(target)) => Ok(Some(*target)),
                other => Err(unread(other.as_ref())),
            }
        }
    }
}

/// The name of what an element leads to, where that is not what its map is for.
fn unread(leads: Option<&RuleAction>) -> String {
    match leads {
        Some(RuleAction::Unknown(name)) => name.clone(),
        _ => "an element that leads nowhere".to_owned(),
    }
}
