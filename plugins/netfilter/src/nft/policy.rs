//! What a policy, its links and its separations mean in elements of the fixed chains' sets and maps.

use super::element::{Data, interface_key, link_key, pair_key};
use super::error::Error;
use super::expression::{Compare, Meta, Rule, Verdict};
use super::plan::{ChainUsers, ElementPurpose, Plan, PlannedChain, hash};
use super::policy_chains::{
    CLOSED, ISOLATED, ISOLATED_CLOSED, NO_HOST_ACCESS, NO_REDIRECTS, PUBLISHED_ONLY, closed,
    isolated, isolated_closed,
};
use super::sets::{
    BRIDGES, ENTERING, FROM_HOST, ICC, INGRESS, INTERNAL, LEAVING, LINKS4, LINKS6, RESTRICTED,
    SEPARATED, TO_HOST, TRUSTED,
};
use crate::interface::interface;
use crate::owner::Owner;
use crate::policy::{Ingress, Link, Policy, PortIsolation, Reach};

impl Plan {
    /// All that a policy can say of its bridge is planned, to be there or to be gone, so that a
    /// changed policy leaves nothing of the one before.
    pub(super) fn policy(&mut self, policy: &Policy) -> Result<(), Error> {
        let bridge = policy.bridge.as_str();
        interface(bridge)?;
        for uplink in policy.reach.iter().flat_map(|reach| &reach.uplinks) {
            interface(uplink)?;
        }
        let tag = Owner::network(&policy.network).tag();
        let name = interface_key(bridge);
        let pair = pair_key(bridge, bridge);
        self.element(
            ElementPurpose::Bridge,
            BRIDGES,
            name.clone(),
            Data::Nothing,
            &tag,
        );
        let jump = |chain: &str| Data::Jump(chain.to_owned());
        let restricted = (policy.ingress != Ingress::Open).then_some(Data::Nothing);
        let ingress = match policy.ingress {
            Ingress::Open => None,
            Ingress::SameBridge => Some(Data::Return),
            Ingress::Isolated => Some(Data::Drop),
        };
        let icc = if policy.icc { Data::Accept } else { Data::Drop };
        let leaving = match (policy.internal, policy.isolated) {
            (true, _) => Some(Data::Drop),
            (false, true) => Some(jump(ISOLATED)),
            (false, false) => None,
        };
        let entering = match (policy.internal, policy.isolated, policy.closed) {
            (true, _, _) => Some(Data::Drop),
            (false, true, true) => Some(jump(ISOLATED_CLOSED)),
            (false, true, false) => Some(jump(ISOLATED)),
            (false, false, true) => Some(jump(CLOSED)),
            (false, false, false) => None,
        };
        let to_host = (!policy.host_access).then(|| jump(NO_HOST_ACCESS));
        let from_host = match (policy.host_access, policy.icc) {
            (false, _) => Some(jump(PUBLISHED_ONLY)),
            (true, false) => Some(jump(NO_REDIRECTS)),
            (true, true) => None,
        };
        let mut beyond =
            |word: &str, key: Meta, now: Option<Data>, tail: Vec<Rule>| match &policy.reach {
                Some(reach) if now.is_some() || !policy.icc => {
                    Some(self.beyond(word, policy, reach, key, tail))
                }
                _ => now,
            };
        let stop = || vec![Rule::default().verdict(Verdict::Drop)];
        let tail = match (policy.internal, policy.isolated) {
            (true, _) => stop(),
            (false, true) => isolated(),
            (false, false) => Vec::new(),
        };
        let leaving = beyond("leaving", Meta::OutputName, leaving, tail);
        let tail = match (policy.internal, policy.isolated, policy.closed) {
            (true, _, _) => stop(),
            (false, true, true) => isolated_closed(),
            (false, true, false) => isolated(),
            (false, false, true) => closed(),
            (false, false, false) => Vec::new(),
        };
        let entering = beyond("entering", Meta::InputName, entering, tail);
        let device = policy
            .reach
            .as_ref()
            .and_then(|reach| reach.device.as_deref());
        if let Some(device) = device {
            interface(device)?;
            for (set, data) in [(TO_HOST, &to_host), (FROM_HOST, &from_host)] {
                let purpose = match data {
                    Some(_) => ElementPurpose::Policy,
                    None => ElementPurpose::Absent,
                };
                let data = data.clone().unwrap_or(Data::Nothing);
                self.element(purpose, set, interface_key(device), data, &tag);
            }
        }
        for (set, key, data) in [
            (RESTRICTED, &name, restricted),
            (INGRESS, &pair, ingress),
            (INTERNAL, &name, policy.internal.then_some(Data::Nothing)),
            (ICC, &pair, Some(icc)),
            (LEAVING, &name, leaving),
            (ENTERING, &name, entering),
            (TO_HOST, &name, to_host),
            (FROM_HOST, &name, from_host),
        ] {
            let purpose = if data.is_some() {
                ElementPurpose::Policy
            } else {
                ElementPurpose::Absent
            };
            self.element(
                purpose,
                set,
                key.clone(),
                data.unwrap_or(Data::Nothing),
                &tag,
            );
        }
        for trusted in &policy.trusted {
            interface(trusted)?;
            let key = pair_key(trusted, bridge);
            self.element(ElementPurpose::Policy, TRUSTED, key, Data::Nothing, &tag);
        }
        self.drop_repeated();
        Ok(())
    }

    /// The chain of a network that goes on over other hosts: what goes between the bridge and them is decided by `icc`,
    /// the rest as without them.
    fn beyond(
        &mut self,
        word: &str,
        policy: &Policy,
        reach: &Reach,
        key: Meta,
        tail: Vec<Rule>,
    ) -> Data {
        let name = format!("{word}-{}", hash(&format!("{policy:?}")));
        let decision = match policy.icc {
            true => Verdict::Accept,
            false => Verdict::Drop,
        };
        // What comes in has its source there, what goes out its destination.
        let source = matches!(key, Meta::InputName);
        let mut rules: Vec<Rule> = reach
            .ways()
            .map(|(interface, subnet)| {
                Rule::default()
                    .named(key, Compare::Equal, interface)
                    .address(source, Compare::Equal, subnet)
                    .verdict(decision)
            })
            .collect();
        rules.extend(tail);
        self.chains.push(PlannedChain {
            name: name.clone(),
            rules,
            comment: Owner::network(&policy.network).tag(),
            users: ChainUsers::Network,
        });
        Data::Jump(name)
    }

    /// What a policy from before says and the planned one does not is to go.
    pub(super) fn retract(&mut self, former: &Policy) -> Result<(), Error> {
        // Its chains go with the elements that lead to them.
        let mut old = Self::new(self.part);
        old.policy(former)?;
        for mut planned in old.elements {
            let kept = self.elements.iter().any(|new| {
                (new.element.set, &new.element.key) == (planned.element.set, &planned.element.key)
            });
            if !kept {
                planned.purpose = ElementPurpose::Gone;
                self.elements.push(planned);
            }
        }
        Ok(())
    }

    pub(super) fn links(&mut self, links: &[Link]) -> Result<(), Error> {
        for link in links {
            interface(&link.bridge)?;
            if link.from.is_ipv6() != link.to.is_ipv6() {
                return Err(Error::LinkFamily {
                    from: link.from,
                    to: link.to,
                });
            }
            let set = if link.from.is_ipv6() { LINKS6 } else { LINKS4 };
            let tag = link.owner.tag();
            self.element(
                ElementPurpose::Link,
                set,
                link_key(link),
                Data::Nothing,
                &tag,
            );
        }
        self.drop_repeated();
        Ok(())
    }

    /// The bridge, whose redirected packets are marked.
    pub(super) fn marking(&mut self, network: &str, bridge: &str) -> Result<(), Error> {
        interface(bridge)?;
        let tag = Owner::network(network).tag();
        let key = interface_key(bridge);
        self.element(ElementPurpose::Bridge, SEPARATED, key, Data::Nothing, &tag);
        Ok(())
    }

    pub(super) fn separation(&mut self, separation: &PortIsolation) -> Result<(), Error> {
        interface(&separation.port)?;
        let tag = separation.owner.tag();
        let key = interface_key(&separation.port);
        self.element(ElementPurpose::Spoof, SEPARATED, key, Data::Nothing, &tag);
        Ok(())
    }
}
