//! Bringing a plan into the kernel: look at what is shared, add the rest exclusively, and only
//! when that is refused look at each element.

use nix::errno::Errno;

use super::chain::{new_chain, refill, remove_chain};
use super::element::{self, Data, Element, Found};
use super::error::Error;
use super::lookup::look;
use super::message::{Batch, Family};
use super::plan::{ChainUsers, ElementPurpose, Plan, PlannedChain, PlannedElement};
use super::policy_chains::own_chain;
use super::skeleton;
use super::socket::{Socket, TRIES};
use super::uapi::NFT_MSG_NEWSETELEM;
use super::{list, withdraw};

/// Whether a chain of the plan has to be filled.
fn lacks_rules(
    socket: &mut Socket,
    family: Family,
    chain: &PlannedChain,
    uses: Option<u32>,
) -> Result<bool, Error> {
    let rules = chain.rules.len() as u32;
    match (uses, chain.users) {
        (None, _) => Ok(true),
        // Exactly one element refers to it, so what is left are rules.
        (Some(uses), ChainUsers::Network) => Ok(uses < rules + 1),
        (Some(uses), ChainUsers::Attachment) => Ok(uses < rules),
        (Some(uses), ChainUsers::Containers) => Ok(uses < rules
            || list::rules_of(socket, family, &chain.name)?.is_none_or(|count| count < rules)),
    }
}

/// Makes the kernel hold the plan. Tells whether anything was missing that containers share.
pub(super) fn apply(socket: &mut Socket, plan: &Plan) -> Result<bool, Error> {
    let mut look_at_all = false;
    let mut missing = 0;
    for _ in 0..TRIES {
        let (chains, found) = look(socket, plan, |planned| {
            look_at_all || planned.purpose.shared()
        })?;
        let mut batch = Batch::default();
        let whole = missing < 4 && chains.whole(plan.part);
        let mut made = !whole;
        if !whole {
            let something = chains.fixed.iter().any(Option::is_some);
            skeleton::build(&mut batch, plan.part, something);
        }
        for (chain, uses) in plan.chains.iter().zip(&chains.own) {
            if !whole || lacks_rules(socket, plan.family, chain, *uses)? {
                fill(&mut batch, plan.family, chain, uses.is_some());
                made |= chain.users == ChainUsers::Network;
            }
        }
        let change = Change::between(socket, plan, &found)?;
        made |= !change.add_shared.is_empty();
        element::remove(&mut batch, plan.family, &change.remove);
        element::add(&mut batch, plan.family, &change.add_shared, true);
        element::add(&mut batch, plan.family, &change.add, true);
        for chain in &change.chains {
            remove_chain(&mut batch, plan.family, chain);
        }
        let refusal = match socket.commit(batch)? {
            Ok(()) => {
                withdraw::sweep(socket, plan.family, &change.left, |_| None)?;
                return Ok(made);
            }
            Err(refusal) => refusal,
        };
        let about_elements = refusal
            .subject
            .as_ref()
            .is_some_and(|subject| subject.message == NFT_MSG_NEWSETELEM);
        match refusal.why.errno {
            // Another process was faster, or the element is there already: read its owner.
            Errno::EEXIST | Errno::EBUSY | Errno::ENOTEMPTY if about_elements => {
                look_at_all = true;
            }
            // A chain went with its last container a moment ago; or, when it happens again and
            // again, a map is missing.
            Errno::ENOENT if whole => {
                look_at_all = true;
                missing += 1;
            }
            errno if plan.family == Family::Bridge && errno != Errno::EPERM => {
                return Err(Error::NoBridgeFamily { errno });
            }
            _ => return Err(refusal.into()),
        }
    }
    Err(Error::Unstable {
        what: format!("the table {} pontoon", plan.family.name()),
    })
}

fn fill(batch: &mut Batch, family: Family, chain: &PlannedChain, exists: bool) {
    new_chain(batch, family, &chain.name, None, Some(&chain.comment));
    let rules = chain.rules.to_vec();
    refill(batch, family, &chain.name, rules, None);
    if exists {
        batch.mark_deleting();
    }
}

/// How to get from what was found to what is planned.
#[derive(Default)]
struct Change {
    remove: Vec<Element>,
    add_shared: Vec<Element>,
    add: Vec<Element>,
    /// Chains of one user that lose it.
    chains: Vec<String>,
    /// Chains that several use, and one of them not any more.
    left: Vec<String>,
}

impl Change {
    fn between(socket: &mut Socket, plan: &Plan, found: &[Option<Found>]) -> Result<Self, Error> {
        let mut change = Self::default();
        for (planned, found) in plan.elements.iter().zip(found) {
            let element = &planned.element;
            let same = found
                .as_ref()
                .is_some_and(|found| found.key == element.key && found.data == element.data);
            match (planned.purpose, found) {
                (ElementPurpose::Egress(_) | ElementPurpose::Bridge, Some(_)) if same => {}
                (ElementPurpose::Bridge, _) => change.add_shared.push(element.clone()),
                (ElementPurpose::Absent | ElementPurpose::Gone, Some(found))
                    if found.tag == element.tag =>
                {
                    change.remove.push(element.clone());
                    change.chains.extend(own_chain(&found.data));
                }
                (ElementPurpose::Gone, _) | (ElementPurpose::Absent, None) => {}
                // Whose name is on it does not matter as long as it says the same.
                (ElementPurpose::Policy, Some(_)) if same => {}
                (ElementPurpose::Policy | ElementPurpose::Absent, Some(found))
                    if found.tag != element.tag =>
                {
                    return Err(Error::BridgeTaken {
                        bridge: element::first_name(&element.key),
                        owner: found.tag.clone(),
                    });
                }
                (ElementPurpose::Egress(_), _) => change.egress(socket, plan.family, planned)?,
                (ElementPurpose::Resolver, None) => change.add_shared.push(element.clone()),
                (_, None) => change.add.push(element.clone()),
                (ElementPurpose::Port(port), Some(found)) if found.tag != element.tag => {
                    return Err(Error::PortTaken {
                        port,
                        owner: found.tag.clone(),
                    });
                }
                (_, Some(found)) if same && found.tag == element.tag => {}
                (purpose, Some(found)) => {
                    change.remove.push(element.clone());
                    change.add.push(element.clone());
                    match (&found.data, purpose) {
                        (Data::Jump(chain), ElementPurpose::Port(_)) => {
                            change.chains.push(chain.clone())
                        }
                        (data, ElementPurpose::Policy) => change.chains.extend(own_chain(data)),
                        (Data::Jump(chain), ElementPurpose::Hairpin) if !same => {
                            change.left.push(chain.clone());
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(change)
    }

    /// A subnet that is not there as planned: look at all subnets for those that it meets. Ours
    /// from before give way, another network's do not. Only the first container of a network comes
    /// here.
    fn egress(
        &mut self,
        socket: &mut Socket,
        family: Family,
        planned: &PlannedElement,
    ) -> Result<(), Error> {
        let element = &planned.element;
        for (other, chain) in list::intervals(socket, family, element.set)? {
            if !list::overlap(element, &other) {
                continue;
            }
            if other.tag != element.tag {
                return match planned.purpose {
                    ElementPurpose::Egress(subnet) => Err(Error::SubnetTaken {
                        subnet,
                        owner: other.tag,
                    }),
                    _ => Ok(()),
                };
            }
            if let (Data::Jump(chain), true) = (&chain, chain != element.data) {
                self.chains.push(chain.clone());
            }
            self.remove.push(other);
        }
        self.add_shared.push(element.clone());
        Ok(())
    }
}
