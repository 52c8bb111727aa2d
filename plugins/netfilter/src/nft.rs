//! The nftables backend: straight to the kernel over nfnetlink, without the `nft` binary and
//! without a C library.
//!
//! # What stands in the kernel
//! One table, `inet pontoon` (and `bridge pontoon` where MAC spoofing protection is asked for).
//! Its base chains hold a handful of fixed rules, made once per host. All that grows is an element
//! of a map or set: a published port, the way back of a container, a subnet and its bridge. Each
//! element carries its owner as a comment, as `nft list ruleset` shows. An element costs the same
//! however many there are, and is removed by key, so that no step lists what others own.
//!
//! What may pass is decided by fixed chains too, made only where a policy is: `forward`, `to-host`,
//! `from-host` and those that they lead to, by sets and maps of interface names. The chain `admin`
//! comes before them and is the admin's.
//!
//! Small chains hang behind elements, named by a hash of what they contain: `egress-…` of a
//! subnet, `hairpin-…` shared by the containers of a subnet, `cond-…` of a port published under
//! conditions. Each goes in the same transaction as the last element that leads to it; the kernel
//! itself counts what still refers to it.
//!
//! A port at one address of the host and the same port at every address are different keys and may
//! have different owners: the narrower one wins, whichever came first.
//!
//! # Concurrency
//! Every change is one transaction of the kernel. Elements that must be new are added exclusively,
//! so that of two processes publishing one port exactly one is told that the port is taken. What
//! is already there is then looked up and the transaction made again. Removal first looks up whose
//! each element is and then removes what is ours; between the two no process may publish the same key
//! under another owner, which is what the caller's lock per network is for.
//!
//! # What this does not do
//! Moving flows that connection tracking has pinned is the business of `pontoon_netlink::conntrack`, and the sysctls that these
//! rules rely on (forwarding, `route_localnet`) that of the bridge plugin.
//!
//! # Waiting
//! Adding takes some ten microseconds. After something was deleted the kernel lets the *closing*
//! of the socket wait for a grace period of several milliseconds; [`Nft::deleted`] tells, and
//! [`Nft::into_sockets`] hands the socket out to be closed elsewhere. A refused transaction waits
//! for a grace period as well, so that nothing here tries what it could have looked up, except
//! that new elements are expected to be new.

mod apply;
mod chain;
mod chain_lookup;
mod condition;
mod element;
mod error;
mod expression;
mod foreign;
#[cfg(test)]
mod fuzz;
mod generation;
mod guard;
mod list;
mod lookup;
mod message;
mod own_table;
mod plan;
mod policy;
mod policy_chains;
pub(crate) mod reference;
mod services;
mod sets;
mod skeleton;
mod socket;
mod subnets;
mod tracing;
mod uapi;
mod verify;
mod withdraw;

use std::os::fd::OwnedFd;

pub(crate) use chain_lookup::{ChainLookup, RuleSummary};
pub use error::Error;
pub use foreign::{DroppingChain, FilterHook, ForeignFilters};
pub(crate) use generation::generation;
pub use guard::TunnelGuard;
pub use own_table::TableChange;
pub use services::{Entrance, EntranceTarget, ServiceNetwork};
pub use tracing::{PacketHeader, Probe, ProbeKind, TraceEvent, TraceVerdict, Tracing};

use crate::reference::{ReferenceAttachment, ReferencePlugin};
use crate::rules::Ruleset;
use message::Family;
use plan::Plan;
use policy_chains::ADMIN;
use skeleton::Part;
use socket::Socket;

/// The nftables of the network namespace in which it was opened.
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// Removes what a plugin of the reference has left of an attachment.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub fn remove_reference_rules(
        &mut self,
        plugin: ReferencePlugin,
        attachment: &ReferenceAttachment,
    ) -> Result<(), Error> {
        reference::remove(&mut self.socket, plugin, attachment)
    }

    /// Whether every value of the ruleset can be a rule. Does not ask the kernel.
    ///
    /// # Errors
    /// The first value that cannot.
    pub fn validate(rules: &Ruleset) -> Result<(), Error> {
        plans(rules).map(drop)
    }

    /// Makes the kernel hold what the ruleset says. Repeating it changes nothing; what was flushed
    /// or removed in between is made again. Tells whether anything was missing that the
    /// containers of a network share.
    ///
    /// # Errors
    /// Validation fails before anything is changed. Egress and published ports are one transaction,
    /// a policy with links another one, what is in the table `bridge` a third.
    pub fn apply(&mut self, rules: &Ruleset) -> Result<bool, Error> {
        let mut made = false;
        for plan in plans(rules)? {
            made |= apply::apply(&mut self.socket, &plan)?;
        }
        Ok(made)
    }

    /// Removes what the ruleset says, as far as it is its owner's. What is gone already, the table
    /// included, is fine; what belongs to another owner stays.
    ///
    /// The caller holds its lock per network: see the module's word on concurrency.
    ///
    /// # Errors
    /// When the kernel refuses. All is tried before the first error is returned.
    pub fn withdraw(&mut self, rules: &Ruleset) -> Result<(), Error> {
        let mut done = Ok(());
        for plan in plans_to_remove(rules) {
            done = done.and(withdraw::withdraw(&mut self.socket, &plan));
        }
        done
    }

    /// What the kernel has otherwise than the ruleset says, in plain words; empty when all is well.
    ///
    /// # Errors
    /// When the kernel cannot be asked or the ruleset itself is not valid.
    pub fn verify(&mut self, rules: &Ruleset) -> Result<Vec<String>, Error> {
        let mut differences = Vec::new();
        for plan in plans(rules)? {
            verify::verify(&mut self.socket, &plan, &mut differences)?;
        }
        Ok(differences)
    }

    /// Filters of other programs that a container's packet has to pass as well. Five lookups by name.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn others(&mut self) -> Result<ForeignFilters, Error> {
        foreign::others(&mut self.socket)
    }

    /// Chains of others that drop packets at a hook, and in whose tables nothing is said of the bridge.
    /// All chains of the host are listed.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn obstacles(
        &mut self,
        hook: FilterHook,
        bridge: &str,
    ) -> Result<Vec<DroppingChain>, Error> {
        foreign::obstacles(&mut self.socket, hook, bridge)
    }

    /// Removes our tables with all that is in them: for when the host's last network goes. While the
    /// admin's chain has rules, the table `inet pontoon` stays, with nothing else in its sets.
    ///
    /// # Errors
    /// When the kernel refuses. A table that is not there is fine.
    pub fn remove_all(&mut self) -> Result<(), Error> {
        if list::rules_of(&mut self.socket, Family::Inet, ADMIN)?.unwrap_or_default() == 0 {
            withdraw::remove_table(&mut self.socket, Family::Inet)?;
        }
        withdraw::remove_table(&mut self.socket, Family::Bridge)
    }

    /// Makes the table that protects a network's way to its other hosts what it should be.
    ///
    /// # Errors
    /// When an interface cannot be called so, or the kernel refuses.
    pub fn guard_tunnel(&mut self, guard: &TunnelGuard) -> Result<TableChange, Error> {
        guard::apply(&mut self.socket, guard)
    }

    /// Removes the table of a tunnel's device. False when there was none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unguard_tunnel(&mut self, device: &str) -> Result<bool, Error> {
        guard::remove(&mut self.socket, device)
    }

    /// Makes the table of services lead to these, in one transaction; without a network that can have services it is
    /// removed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn balance(&mut self, networks: &[ServiceNetwork]) -> Result<TableChange, Error> {
        services::apply(&mut self.socket, networks)
    }

    /// Something was deleted, so that closing the socket will wait for a grace period.
    #[must_use]
    pub fn deleted(&self) -> bool {
        self.socket.deleted()
    }

    /// Hands out the socket, to be closed by a detached child.
    #[must_use]
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        vec![self.socket.into_fd()]
    }
}

/// What a ruleset wants to be there.
fn plans(rules: &Ruleset) -> Result<Vec<Plan>, Error> {
    let mut translation = Plan::new(Part::Translation);
    if let Some(network) = &rules.network {
        translation.network(network)?;
    }
    if let Some(published) = &rules.published {
        translation.published(published)?;
    }
    if let Some(resolver) = &rules.resolver {
        translation.resolver(resolver);
    }
    let mut policy = Plan::new(Part::Policy);
    if let Some(wanted) = &rules.policy {
        policy.policy(wanted)?;
    }
    if let Some(former) = &rules.former_policy {
        policy.retract(former)?;
    }
    policy.links(&rules.links)?;
    // An attachment without a bridge has the admin's chain alone.
    policy.base = rules.member.is_some();
    let mut guard = Plan::new(Part::Guard);
    if let Some(wanted) = &rules.spoof_guard {
        guard.spoof_guard(wanted)?;
    }
    let (mut marking, mut separation) = (Plan::new(Part::Marking), Plan::new(Part::Separation));
    if let Some(wanted) = &rules.separation {
        marking.marking(&wanted.owner.network, &wanted.bridge)?;
        separation.separation(wanted)?;
    }
    Ok(used([translation, policy, marking, guard, separation]))
}

/// The same for what is to go: a removal is not refused for what could never have been applied.
fn plans_to_remove(rules: &Ruleset) -> Vec<Plan> {
    let mut translation = Plan::new(Part::Translation);
    if let Some(network) = &rules.network {
        let _ = translation.network(network);
    }
    if let Some(published) = &rules.published {
        translation.published_keys(published);
    }
    if let Some(resolver) = &rules.resolver {
        translation.resolver(resolver);
    }
    let (mut policy, mut marking) = (Plan::new(Part::Policy), Plan::new(Part::Marking));
    if let Some(there) = &rules.policy {
        let _ = policy.policy(there);
        if !there.icc {
            let _ = marking.marking(&there.network, &there.bridge);
        }
    }
    let _ = policy.links(&rules.links);
    let (mut guard, mut separation) = (Plan::new(Part::Guard), Plan::new(Part::Separation));
    if let Some(there) = &rules.spoof_guard {
        let _ = guard.spoof_guard(there);
    }
    if let Some(there) = &rules.separation {
        let _ = separation.separation(there);
    }
    used([translation, policy, marking, guard, separation])
}

fn used(plans: [Plan; 5]) -> Vec<Plan> {
    plans
        .into_iter()
        .filter(|plan| plan.base || !plan.elements.is_empty())
        .collect()
}
