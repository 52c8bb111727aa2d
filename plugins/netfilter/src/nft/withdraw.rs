//! Taking a plan out of the kernel again, as far as it is its owner's.

use nix::errno::Errno;

use pontoon_netlink::Frames;

use super::chain::remove_chain;
use super::element::{self, Data};
use super::error::Error;
use super::list;
use super::lookup::look;
use super::message::{Batch, Family, TABLE, ask_chain, kind, table};
use super::plan::{ChainUsers, ElementPurpose, Plan};
use super::policy_chains::own_chain;
use super::socket::{Socket, TRIES};
use super::uapi::{NFT_MSG_DELTABLE, NFT_MSG_GETTABLE};

/// Removes the plan's elements that carry its owner's tag, and the chains that served only them.
///
/// The chain that the containers of a subnet share goes with the last of them. The kernel counts
/// who refers to a chain, so no race takes it from a user: when another container came since we looked,
/// the transaction is refused with EBUSY and made again without the chain; and a process that adds an
/// element to a chain that has just gone is refused with ENOENT and makes the chain again. A
/// refused transaction costs a grace period, which is why the count is looked at first.
pub(super) fn withdraw(socket: &mut Socket, plan: &Plan) -> Result<(), Error> {
    if plan.elements.is_empty() {
        return Ok(());
    }
    let mut contested = false;
    for _ in 0..TRIES {
        let (chains, found) = look(socket, plan, |_| true)?;
        let mut elements = Vec::new();
        let mut idle = Vec::new();
        let mut left = Vec::new();
        for (planned, found) in plan.elements.iter().zip(&found) {
            let ours = found.as_ref().filter(|found| {
                found.tag == planned.element.tag && found.key == planned.element.key
            });
            let Some(found) = ours else { continue };
            if matches!(planned.purpose, ElementPurpose::Egress(_))
                && found.data != planned.element.data
            {
                // The network's configuration has changed since: only a listing tells where the
                // subnet of then ends.
                let all = list::intervals(socket, plan.family, planned.element.set)?;
                elements.extend(
                    all.into_iter()
                        .map(|(old, _)| old)
                        .filter(|old| old.key == found.key),
                );
            } else {
                elements.push(planned.element.clone());
            }
            match (planned.purpose, &found.data) {
                (ElementPurpose::Egress(_) | ElementPurpose::Port(_), Data::Jump(chain)) => {
                    idle.push(chain.clone());
                }
                (ElementPurpose::Hairpin, Data::Jump(chain)) => left.push(chain.clone()),
                (ElementPurpose::Policy, data) => idle.extend(own_chain(data)),
                _ => {}
            }
        }
        let shared = plan.chains.iter().zip(&chains.own);
        for (chain, uses) in shared.filter(|(chain, _)| chain.users == ChainUsers::Containers) {
            let leaving = left.iter().filter(|name| **name == chain.name).count();
            let kept = chain.rules.len() + leaving;
            if !contested && uses.is_some_and(|uses| uses as usize <= kept) {
                idle.push(chain.name.clone());
            }
        }
        let mut batch = Batch::default();
        element::remove(&mut batch, plan.family, &elements);
        for chain in &idle {
            remove_chain(&mut batch, plan.family, chain);
        }
        match socket.commit(batch)? {
            Ok(()) => {
                let known = |name: &str| {
                    let chain = plan.chains.iter().find(|chain| chain.name == name)?;
                    Some(chain.rules.len() as u32)
                };
                return sweep(socket, plan.family, &left, known);
            }
            Err(refusal) if refusal.why.errno == Errno::EBUSY && !contested => contested = true,
            // Something went between the look and the removal: look again.
            Err(refusal) if refusal.why.errno == Errno::ENOENT => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(Error::Unstable {
        what: format!("the table {} pontoon", plan.family.name()),
    })
}

/// When two containers leave at once, each may have seen the other still there. So each looks once
/// more after it has left these chains, and the last of them finds a shared chain without users.
/// The rules of a chain whose number is not `known` are listed.
pub(super) fn sweep(
    socket: &mut Socket,
    family: Family,
    left: &[String],
    known: impl Fn(&str) -> Option<u32>,
) -> Result<(), Error> {
    if left.is_empty() {
        return Ok(());
    }
    let answers = socket.ask(left.len(), |frames, index| {
        ask_chain(frames, family, TABLE, &left[index]);
    })?;
    for (chain, answer) in left.iter().zip(answers) {
        let Some(uses) = answer.as_ref().and_then(list::uses) else {
            continue;
        };
        let rules = match known(chain) {
            Some(rules) => Some(rules),
            None => list::rules_of(socket, family, chain)?,
        };
        // The kernel counts what refers to a chain together with the rules in it.
        if rules.is_none_or(|rules| uses > rules) {
            continue;
        }
        let mut batch = Batch::default();
        remove_chain(&mut batch, family, chain);
        match socket.commit(batch)? {
            Ok(()) => {}
            // A container came, or another process removed the chain.
            Err(refusal) if matches!(refusal.why.errno, Errno::EBUSY | Errno::ENOENT) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(())
}

/// Removes the table of a family.
pub(super) fn remove_table(socket: &mut Socket, family: Family) -> Result<(), Error> {
    // Asked first, since the kernel takes a grace period to refuse a batch.
    let answers = socket.ask(1, |frames: &mut Frames, _| {
        frames.push(kind(NFT_MSG_GETTABLE), 0, &family.header(), table);
    })?;
    if !matches!(answers.first(), Some(Some(_))) {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.push(NFT_MSG_DELTABLE, family, 0, "the table pontoon", table);
    match socket.commit(batch)? {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.subject.is_some() && refusal.why.errno == Errno::ENOENT => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}
