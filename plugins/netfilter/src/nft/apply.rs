//! Bringing a plan into the kernel: look at what is shared, add the rest exclusively, and only
//! when that is refused look at each element.

use nix::errno::Errno;

use super::element::{self, Data, Element, Found};
use super::error::Error;
use super::message::{Batch, Family, ask_chain, table};
use super::plan::{Plan, Planned, PlannedChain, Purpose, Users};
use super::skeleton::{self, Part};
use super::socket::Socket;
use super::uapi::{NFT_MSG_DELCHAIN, NFT_MSG_NEWSETELEM, NFTA_CHAIN_NAME};
use super::{TABLE, TRIES, list, withdraw};

/// What the kernel says about the chains of a plan.
pub(super) struct Chains {
    /// References and rules of each fixed chain; `None` when it is missing.
    pub(super) fixed: Vec<Option<u32>>,
    /// The same of the plan's chains.
    pub(super) own: Vec<Option<u32>>,
}

/// Asks for all chains, and for elements that `wanted` selects, in as few round trips as possible.
pub(super) fn look(
    socket: &mut Socket,
    plan: &Plan,
    wanted: impl Fn(&Planned) -> bool,
) -> Result<(Chains, Vec<Option<Found>>), Error> {
    let fixed = plan.part.chains();
    let names: Vec<&str> = fixed
        .iter()
        .map(|chain| chain.name)
        .chain(plan.chains.iter().map(|chain| chain.name.as_str()))
        .collect();
    let elements: Vec<(usize, &Element)> = plan
        .elements
        .iter()
        .enumerate()
        .filter_map(|(index, planned)| wanted(planned).then_some((index, &planned.element)))
        .collect();
    let answers = socket.ask(names.len() + elements.len(), |frames, index| {
        match names.get(index) {
            Some(name) => ask_chain(frames, plan.family, TABLE, name),
            None => {
                if let Some((_, element)) = elements.get(index - names.len()) {
                    element::question(frames, plan.family, element.set, &element.key);
                }
            }
        }
    })?;
    let (chains, found) = answers.split_at(names.len());
    let mut uses = chains.iter().map(|answer| list::uses(answer.as_ref()?));
    let fixed = uses.by_ref().take(fixed.len()).collect();
    let own = uses.collect();
    let mut all = vec![None; plan.elements.len()];
    for ((index, _), answer) in elements.iter().zip(found) {
        all[*index] = answer
            .as_ref()
            .and_then(|reply| element::read(reply).into_iter().next());
    }
    Ok((Chains { fixed, own }, all))
}

impl Chains {
    /// Every fixed chain has at least its rules; an admin's own additions do not disturb.
    fn whole(&self, part: Part) -> bool {
        part.chains()
            .iter()
            .zip(&self.fixed)
            .all(|(chain, uses)| uses.is_some_and(|uses| uses >= chain.references + chain.count))
    }
}

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
        (Some(uses), Users::Network) => Ok(uses < rules + 1),
        (Some(uses), Users::Attachment) => Ok(uses < rules),
        (Some(uses), Users::Containers) => Ok(uses < rules
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
                made |= chain.users == Users::Network;
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
            // Somebody was faster, or the element is there already: see whose it is.
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
    skeleton::new_chain(batch, family, &chain.name, None, Some(&chain.comment));
    let rules = chain.rules.to_vec();
    skeleton::refill(batch, family, &chain.name, rules, None);
    if exists {
        batch.mark_deleting();
    }
}

/// Removes a chain with its rules; refused with EBUSY while an element leads to it.
pub(super) fn remove_chain(batch: &mut Batch, family: Family, chain: &str) {
    batch.push(
        NFT_MSG_DELCHAIN,
        family,
        0,
        format!("chain {chain}"),
        |out| {
            table(out);
            out.cstr(NFTA_CHAIN_NAME, chain);
        },
    );
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
                (Purpose::Egress(_) | Purpose::Bridge, Some(_)) if same => {}
                (Purpose::Bridge, _) => change.add_shared.push(element.clone()),
                (Purpose::Absent | Purpose::Gone, Some(found)) if found.tag == element.tag => {
                    change.remove.push(element.clone());
                }
                (Purpose::Gone, _) | (Purpose::Absent, None) => {}
                // Whose name is on it does not matter as long as it says the same.
                (Purpose::Policy, Some(_)) if same => {}
                (Purpose::Policy | Purpose::Absent, Some(found)) if found.tag != element.tag => {
                    return Err(Error::BridgeTaken {
                        bridge: element::first_name(&element.key),
                        owner: found.tag.clone(),
                    });
                }
                (Purpose::Egress(_), _) => change.egress(socket, plan.family, planned)?,
                (Purpose::Resolver, None) => change.add_shared.push(element.clone()),
                (_, None) => change.add.push(element.clone()),
                (Purpose::Port(port), Some(found)) if found.tag != element.tag => {
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
                        (Data::Jump(chain), Purpose::Port(_)) => change.chains.push(chain.clone()),
                        (Data::Jump(chain), Purpose::Hairpin) if !same => {
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
        planned: &Planned,
    ) -> Result<(), Error> {
        let element = &planned.element;
        for (other, chain) in list::intervals(socket, family, element.set)? {
            if !list::overlap(element, &other) {
                continue;
            }
            if other.tag != element.tag {
                return match planned.purpose {
                    Purpose::Egress(subnet) => Err(Error::SubnetTaken {
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
