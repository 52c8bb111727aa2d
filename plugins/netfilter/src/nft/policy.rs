//! What a policy, its links and its separations mean in elements of the fixed chains' sets and maps.

use super::element::{Data, interface_key, link_key, pair_key};
use super::error::Error;
use super::plan::{ElementPurpose, Plan};
use super::policy_chains::{
    CLOSED, ISOLATED, ISOLATED_CLOSED, NO_HOST_ACCESS, NO_REDIRECTS, PUBLISHED_ONLY,
};
use super::sets::{
    BRIDGES, ENTERING, FROM_HOST, ICC, INGRESS, INTERNAL, LEAVING, LINKS4, LINKS6, RESTRICTED,
    SEPARATED, TO_HOST, TRUSTED,
};
use crate::interface::interface;
use crate::owner::Owner;
use crate::policy::{Ingress, Link, Policy, PortIsolation};

impl Plan {
    /// All that a policy can say of its bridge is planned, to be there or to be gone, so that a
    /// changed policy leaves nothing of the one before.
    pub(super) fn policy(&mut self, policy: &Policy) -> Result<(), Error> {
        let bridge = policy.bridge.as_str();
        interface(bridge)?;
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

    /// What a policy from before says and the planned one does not is to go.
    pub(super) fn retract(&mut self, former: &Policy) -> Result<(), Error> {
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
