//! Taking a plan out of the kernel again, as far as it is its owner's.

use nix::errno::Errno;

use super::TRIES;
use super::apply::{look, remove_chain};
use super::element::{self, Data};
use super::error::Error;
use super::message::{Batch, Family, Verb};
use super::plan::{Plan, Purpose, Users};
use super::socket::Socket;

/// Removes the plan's elements that carry its owner's tag, and the chains that served only them.
pub(super) fn withdraw(socket: &mut Socket, plan: &Plan) -> Result<(), Error> {
    for _ in 0..TRIES {
        if plan.elements.is_empty() {
            return Ok(());
        }
        let (chains, found) = look(socket, plan, |_| true)?;
        let mut elements = Vec::new();
        let mut own_chains = Vec::new();
        for (planned, found) in plan.elements.iter().zip(&found) {
            let ours = found.as_ref().filter(|found| {
                found.tag == planned.element.tag && found.key == planned.element.key
            });
            let Some(found) = ours else { continue };
            let single = match planned.purpose {
                // Another prefix or source than planned: no element of this plan.
                Purpose::Egress(_) if found.data != planned.element.data => continue,
                Purpose::Egress(_) | Purpose::Port(_) => true,
                Purpose::Hairpin | Purpose::Bridge | Purpose::Spoof => false,
            };
            elements.push(planned.element.clone());
            if let (Data::Jump(chain), true) = (&found.data, single) {
                own_chains.push(chain.clone());
            }
        }
        let mut batch = Batch::default();
        element::remove(&mut batch, plan.family, &elements);
        for chain in &own_chains {
            remove_chain(&mut batch, plan.family, chain);
        }
        match socket.commit(batch)? {
            Ok(()) => {
                let left = plan
                    .chains
                    .iter()
                    .zip(&chains.own)
                    .filter(|(chain, uses)| chain.users == Users::Containers && uses.is_some());
                for (chain, _) in left {
                    try_remove_chain(socket, plan.family, &chain.name)?;
                }
                return Ok(());
            }
            // Something went between the look and the removal: look again.
            Err(refusal) if refusal.errno == Errno::ENOENT => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(Error::Unstable {
        what: "the table inet pontoon".to_owned(),
    })
}

/// Removes a chain that others may still use. The kernel counts who refers to it, so this is free
/// of races: EBUSY means that a container of the subnet is left, and whoever adds an element to a
/// chain that has just gone is refused with ENOENT and makes it again.
fn try_remove_chain(socket: &mut Socket, family: Family, chain: &str) -> Result<(), Error> {
    let mut batch = Batch::default();
    remove_chain(&mut batch, family, chain);
    match socket.commit(batch)? {
        Ok(()) => Ok(()),
        Err(refusal) if matches!(refusal.errno, Errno::EBUSY | Errno::ENOENT) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Removes the table of a family.
pub(super) fn remove_table(socket: &mut Socket, family: Family) -> Result<(), Error> {
    let mut batch = Batch::default();
    batch.push(
        Verb::DelTable,
        family,
        0,
        "the table pontoon",
        super::message::table,
    );
    match socket.commit(batch)? {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.subject.is_some() && refusal.errno == Errno::ENOENT => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}
