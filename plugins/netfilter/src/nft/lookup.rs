//! What the kernel has of a plan, in as few round trips as possible.

use super::element::{self, Element, Found};
use super::error::Error;
use super::list;
use super::message::{TABLE, ask_chain};
use super::plan::{Plan, PlannedElement};
use super::skeleton::Part;
use super::socket::Socket;

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
    wanted: impl Fn(&PlannedElement) -> bool,
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
    pub(super) fn whole(&self, part: Part) -> bool {
        part.chains()
            .iter()
            .zip(&self.fixed)
            .all(|(chain, uses)| uses.is_some_and(|uses| uses >= chain.references + chain.count))
    }
}
