//! The iptables backend: the same ruleset by `iptables-restore`, one run per family and operation,
//! each table atomic, for both variants of iptables.
//!
//! It keeps nothing in memory and no file but a lock: the rules in the kernel are the truth, found
//! by chain name and by the owner in their comments. The way that is almost always right is tried
//! first and asserts its own premises (`-C` and `-N` lines in the same run); when the kernel says
//! no, the careful way takes the lock, reads the table and writes exactly the difference. So two
//! processes never both add what they share, and a table that was flushed is completed again.
//!
//! It does not know what a container or a plugin is, does not read the environment, sets no sysctl
//! (`route_localnet` is the caller's), cuts no connection, and ignores the spoof guard: that one
//! is a rule of the bridge family, which the nftables backend writes on every host.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::reference::ReferenceAttachment;
use crate::rules::{NetworkRules, Published, Ruleset};

mod detect;
mod egress;
mod error;
mod family;
mod hostport;
mod legacy;
mod listing;
mod lock;
mod opening;
mod policy;
mod policy_check;
mod quick_check;
mod reference;
mod resolver;
mod resolver_port;
mod restore;
mod text;

pub use detect::Detected;
pub use error::{Error, TextError};
pub use legacy::legacy_tables;
pub use listing::{Listed, ListedChain, Listing};
pub use restore::{Programs, Variant};

use egress::NetworkText;
use family::FamilyTables;
use hostport::PortsText;
use policy::{LinkText, MemberText, PolicyText};
use resolver_port::ResolverPortRules;
use text::{Family, Rule, Table};

/// There when the kernel has IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";

/// The backend: which programs, and the lock around what is shared.
#[derive(Debug, Clone)]
pub struct Iptables {
    detected: Detected,
    lock: PathBuf,
}

/// One family's texts of a ruleset.
#[derive(Debug, Default)]
struct Texts {
    network: Option<NetworkText>,
    /// With the text that serves when the first one's chain has another owner.
    ports: Option<(PortsText, PortsText)>,
    policy: Option<PolicyText>,
    links: Vec<LinkText>,
    member: Option<MemberText>,
    resolver: Option<ResolverPortRules>,
    opening: Option<ResolverPortRules>,
}

impl Iptables {
    /// Looks for the programs in `directories`, first match first, without starting any unless
    /// their names do not tell the variant. With `wanted`, for those of that variant, whatever the
    /// default is now: rules made by one variant are invisible to the other.
    ///
    /// # Errors
    /// Programs whose names do not tell the variant could not be asked for it.
    pub fn detect(
        directories: &[PathBuf],
        wanted: Option<Variant>,
    ) -> Result<Option<Detected>, Error> {
        detect::detect(directories, wanted)
    }

    /// A backend that uses these programs. All processes that share a network namespace must name
    /// the same lock file; it is made when it is not there, its directory is not.
    #[must_use]
    pub fn new(detected: Detected, lock: PathBuf) -> Self {
        Self { detected, lock }
    }

    /// The variant in use.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.detected.variant
    }

    /// Brings the rules into the kernel. What is there already stays; what the same owner published
    /// before is replaced. Tells whether anything was missing that the containers of a network share.
    /// After an error one family may be written: withdraw the same ruleset.
    ///
    /// # Errors
    /// A value that cannot be a rule (nothing was changed then), or a program that failed.
    pub fn apply(&mut self, ruleset: &Ruleset) -> Result<bool, Error> {
        let made = AtomicBool::new(false);
        self.both(ruleset, |tables, texts| {
            if let Some(network) = &texts.network {
                made.fetch_or(tables.apply_network(network)?, Ordering::Relaxed);
            }
            // Closed before anything opens.
            if let Some(policy) = &texts.policy {
                made.fetch_or(tables.apply_policy(policy)?, Ordering::Relaxed);
            }
            if let Some(member) = &texts.member
                && texts.policy.is_none()
            {
                tables.apply_member(member)?;
            }
            if !texts.links.is_empty() {
                tables.apply_links(&texts.links)?;
            }
            if let Some(resolver) = &texts.resolver {
                tables.apply_resolver(resolver)?;
            }
            if let Some(opening) = &texts.opening {
                made.fetch_or(tables.apply_opening(opening)?, Ordering::Relaxed);
            }
            texts
                .ports
                .as_ref()
                .map_or(Ok(()), |(ports, by_interface)| {
                    tables.apply_ports(ports, by_interface)
                })
        })?;
        Ok(made.into_inner())
    }

    /// Whether every value of the ruleset can be written as a rule. Asks no program.
    ///
    /// # Errors
    /// The first value that cannot.
    pub fn validate(ruleset: &Ruleset) -> Result<(), TextError> {
        for family in Family::ALL {
            Texts::new(family, ruleset)?;
        }
        Ok(())
    }

    /// Removes the rules that belong to the ruleset's owners. What is missing counts as removed.
    /// Published ports without addresses or ports, or with a value that cannot be a rule, are looked for
    /// by owner in both families. Other rules with such a value were never made: [`Iptables::apply`]
    /// refuses them.
    ///
    /// # Errors
    /// A program that failed.
    pub fn withdraw(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        self.withdraw_with_reference_chain(ruleset, None)
    }

    /// As [`Iptables::withdraw`]; with published ports goes what [`Iptables::create_reference_chain`] has made, where that
    /// costs nothing more.
    ///
    /// # Errors
    /// As [`Iptables::withdraw`].
    pub fn withdraw_with_reference_chain(
        &mut self,
        ruleset: &Ruleset,
        attachment: Option<&ReferenceAttachment>,
    ) -> Result<(), Error> {
        let empty = attachment.map(ReferenceAttachment::chain);
        if let Some(published) = ruleset.published.as_ref().filter(|p| !removable(p)) {
            let owner = &published.owner;
            let (network, container) = (&owner.network, &owner.container);
            let chain = hostport::chain_name(network, container);
            let by_interface = hostport::interface_chain_name(network, container, &owner.interface);
            let tag = owner.tag();
            self.installed(|tables| {
                tables.forget_ports(&chain, &tag)?;
                tables.forget_ports(&by_interface, &tag)
            })?;
        }
        let v4 = Texts::to_remove(Family::V4, ruleset);
        let v6 = Texts::to_remove(Family::V6, ruleset);
        self.both_of(ruleset, &v4, &v6, |tables, texts| {
            // Ports first: they are the attachment's, and the network's rules may serve others.
            if let Some((ports, by_interface)) = &texts.ports {
                tables.withdraw_ports(ports, by_interface, empty.as_deref())?;
            }
            if !texts.links.is_empty() {
                tables.withdraw_links(&texts.links)?;
            }
            if let Some(member) = &texts.member {
                tables.withdraw_member(member)?;
            }
            if let Some(resolver) = &texts.resolver {
                tables.withdraw_resolver(resolver)?;
            }
            if let Some(opening) = &texts.opening {
                tables.withdraw_opening(opening)?;
            }
            if let Some(policy) = &texts.policy {
                tables.withdraw_policy(policy)?;
            }
            texts
                .network
                .as_ref()
                .map_or(Ok(()), |network| tables.withdraw_network(network))
        })
    }

    /// What is missing of the ruleset, one sentence per rule. Empty: everything is there.
    ///
    /// # Errors
    /// A value that cannot be a rule, or a program that failed for another reason.
    pub fn verify(&mut self, ruleset: &Ruleset) -> Result<Vec<String>, Error> {
        self.verify_all(std::slice::from_ref(ruleset))
    }

    /// As [`Self::verify`] of each, with one reading of each table for all of them.
    ///
    /// # Errors
    /// A program failed.
    pub fn verify_all(&mut self, rulesets: &[Ruleset]) -> Result<Vec<String>, Error> {
        let mut words = Vec::new();
        for family in Family::ALL {
            let mut rules: Vec<(Table, Rule)> = Vec::new();
            let mut nat = None;
            let tables = || FamilyTables::new(family, &self.detected, &self.lock);
            for ruleset in rulesets {
                let texts = Texts::new(family, ruleset)?;
                if texts.is_empty() || !self.serves(family, ruleset) {
                    continue;
                }
                if let Some(network) = &texts.network {
                    rules.push((Table::Nat, egress::shared_jump()));
                    rules.extend(
                        network
                            .all()
                            .into_iter()
                            .map(|rule| (Table::Nat, rule.clone())),
                    );
                }
                if let Some((ports, by_interface)) = &texts.ports {
                    let nat = match &mut nat {
                        Some(nat) => nat,
                        unread => unread.insert(tables()?.read(Table::Nat)?),
                    };
                    let ports = if family::uses_interface_chain(nat, ports, by_interface) {
                        by_interface
                    } else {
                        ports
                    };
                    rules.extend(
                        ports
                            .base
                            .rules
                            .iter()
                            .map(|base| (base.table, base.rule.clone())),
                    );
                    let own = ports.entries.iter().chain(&ports.rules);
                    rules.extend(own.map(|rule| (Table::Nat, rule.clone())));
                }
                if let Some(policy) = &texts.policy {
                    let all = policy.all(family).into_iter();
                    rules.extend(all.map(|rule| (Table::Filter, rule)));
                }
                if let Some(member) = texts.member.as_ref().filter(|_| texts.policy.is_none()) {
                    let ways = [policy::forward_jump(), policy::admin_jump(&member.admin)];
                    let own = ways.into_iter().chain(member.rules.iter().cloned());
                    rules.extend(own.map(|rule| (Table::Filter, rule)));
                }
                if let Some(resolver) = &texts.resolver {
                    let all = resolver::all(resolver).into_iter();
                    rules.extend(all.map(|rule| (Table::Nat, rule)));
                }
                if let Some(opening) = &texts.opening {
                    let all = opening::all(opening).into_iter();
                    rules.extend(all.map(|rule| (Table::Filter, rule)));
                }
                let links = texts.links.iter();
                rules.extend(links.map(|link| (Table::Filter, link.rule.clone())));
            }
            // What they share is in each of them.
            let mut known = HashSet::new();
            rules.retain(|(table, rule)| known.insert((table.name(), rule.append())));
            if !rules.is_empty() {
                words.extend(tables()?.differences(&rules)?);
            }
        }
        Ok(words)
    }

    /// Removes what networks and attachments share, as far as no network uses it any more: the
    /// reference plugins use the same chains for published ports.
    ///
    /// # Errors
    /// A program failed.
    pub fn remove_all(&mut self) -> Result<(), Error> {
        self.installed(|tables| {
            tables.remove_policies()?;
            tables.remove_all()
        })
    }

    /// Does `work` for each family that the ruleset concerns, both at a time.
    fn both(
        &self,
        ruleset: &Ruleset,
        work: impl Fn(&FamilyTables<'_>, &Texts) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        // All texts are made before the first change: a bad value in one changes nothing.
        let v4 = Texts::new(Family::V4, ruleset)?;
        let v6 = Texts::new(Family::V6, ruleset)?;
        self.both_of(ruleset, &v4, &v6, work)
    }

    fn both_of(
        &self,
        ruleset: &Ruleset,
        v4: &Texts,
        v6: &Texts,
        work: impl Fn(&FamilyTables<'_>, &Texts) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let half = |family, texts: &Texts| {
            if texts.is_empty() || !self.serves(family, ruleset) {
                return Ok(());
            }
            work(
                &FamilyTables::new(family, &self.detected, &self.lock)?,
                texts,
            )
        };
        both_families(
            || half(Family::V4, v4),
            || half(Family::V6, v6),
            !v4.is_empty() && !v6.is_empty(),
        )
    }

    /// Does `work` for each family whose programs are installed.
    fn installed(
        &self,
        work: impl Fn(&FamilyTables<'_>) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let half = |family| match self.detected.programs(family) {
            Some(_) => work(&FamilyTables::new(family, &self.detected, &self.lock)?),
            None => Ok(()),
        };
        both_families(|| half(Family::V4), || half(Family::V6), true)
    }

    /// A network without any subnet to translate concerns both families a little, and must not fail
    /// where one of them has no programs. A policy must fail then, unless the kernel has no IPv6.
    fn serves(&self, family: Family, ruleset: &Ruleset) -> bool {
        if family == Family::V6 && !Path::new(IPV6).try_exists().unwrap_or(true) {
            return false;
        }
        self.detected.programs(family).is_some()
            || ruleset.published.is_some()
            || ruleset.policy.is_some()
            || ruleset.resolver.is_some()
            || ruleset.opening.is_some()
            || ruleset
                .network
                .as_ref()
                .is_some_and(|network| !network.egress.is_empty())
    }
}

impl Texts {
    fn new(family: Family, ruleset: &Ruleset) -> Result<Self, TextError> {
        let network = |rules: &NetworkRules| NetworkText::new(family, rules).transpose();
        let ports = |published: &Published| {
            let text = PortsText::new(family, published).transpose()?;
            Some(text.map(|text| {
                let by_interface = text.in_interface_chain(published);
                (text, by_interface)
            }))
        };
        Ok(Self {
            network: ruleset.network.as_ref().and_then(network).transpose()?,
            ports: ruleset.published.as_ref().and_then(ports).transpose()?,
            policy: ruleset
                .policy
                .as_ref()
                .map(|policy| PolicyText::new(family, policy))
                .transpose()?,
            links: ruleset
                .links
                .iter()
                .filter_map(|link| LinkText::new(family, link).transpose())
                .collect::<Result<_, _>>()?,
            member: ruleset
                .member
                .as_ref()
                .and_then(|member| MemberText::new(family, member).transpose())
                .transpose()?,
            resolver: ruleset
                .resolver
                .as_ref()
                .and_then(|resolver| resolver::rules(family, resolver).transpose())
                .transpose()?,
            opening: ruleset
                .opening
                .as_ref()
                .and_then(|opening| opening::rules(family, opening).transpose())
                .transpose()?,
        })
    }

    /// As [`Self::new`], without the parts that cannot be written: they were never made.
    fn to_remove(family: Family, ruleset: &Ruleset) -> Self {
        let Ruleset {
            network,
            published,
            spoof_guard: _,
            policy,
            former_policy: _,
            links,
            member,
            resolver,
            opening,
            separation: _,
        } = ruleset;
        let ports = published.as_ref().and_then(|published| {
            let text = PortsText::new(family, published).ok()??;
            let by_interface = text.in_interface_chain(published);
            Some((text, by_interface))
        });
        let links = links.iter().map(|link| LinkText::new(family, link));
        Self {
            network: network
                .as_ref()
                .and_then(|network| NetworkText::new(family, network).ok()?),
            ports,
            policy: policy
                .as_ref()
                .and_then(|policy| PolicyText::new(family, policy).ok()),
            links: links.filter_map(|link| link.ok()?).collect(),
            member: member
                .as_ref()
                .and_then(|member| MemberText::new(family, member).ok()?),
            resolver: resolver
                .as_ref()
                .and_then(|resolver| resolver::rules(family, resolver).ok()?),
            opening: opening
                .as_ref()
                .and_then(|opening| opening::rules(family, opening).ok()?),
        }
    }

    fn is_empty(&self) -> bool {
        let Self {
            network,
            ports,
            policy,
            links,
            member,
            resolver,
            opening,
        } = self;
        network.is_none()
            && ports.is_none()
            && policy.is_none()
            && links.is_empty()
            && member.is_none()
            && resolver.is_none()
            && opening.is_none()
    }
}

/// Whether the rules of an attachment can be told from the value alone.
fn removable(published: &Published) -> bool {
    !published.ports.is_empty()
        && published.has_address()
        && Family::ALL
            .iter()
            .all(|family| PortsText::validate(*family, published).is_ok())
}

/// Does it once more when the program has refused. Each time begins with a look at the tables: another
/// program, which does not know our lock, may have changed them after the first one.
fn looking_again(work: &impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    match work() {
        Err(Error::Refused { .. }) => work(),
        done => done,
    }
}

/// Runs both, the second on a thread of its own when that is worth one. A thread is born in the
/// network namespace of the one that makes it.
fn both_families(
    v4: impl Fn() -> Result<(), Error>,
    v6: impl Fn() -> Result<(), Error> + Send,
    parallel: bool,
) -> Result<(), Error> {
    let (v4, v6) = (|| looking_again(&v4), move || looking_again(&v6));
    let (v4, v6) = if parallel {
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().spawn_scoped(scope, v6);
            let own = v4();
            let other = match other {
                Ok(other) => other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(source) => Err(Error::Thread { source }),
            };
            (own, other)
        })
    } else {
        (v4(), v6())
    };
    match (v4, v6) {
        (Err(v4), Err(v6)) => Err(Error::Both {
            v4: Box::new(v4),
            v6: Box::new(v6),
        }),
        (v4, v6) => v4.and(v6),
    }
}
