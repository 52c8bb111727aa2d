//! What may pass: the fixed chains that decide by sets and maps, and the elements of a policy in
//! them. The order of the decisions is told at [`crate::Policy`].

use super::element::{Data, interface_key, link_key, pair_key};
use super::error::Error;
use super::expression::{Meta, Rule, Verdict};
use super::plan::{Plan, Purpose, check_interface};
use super::sets::{
    BRIDGES, ENTERING, FROM_HOST, ICC, INGRESS, INTERNAL, LEAVING, LINKS4, LINKS6, RESTRICTED,
    SEPARATED, TO_HOST, TRUSTED,
};
use super::skeleton::{Chain, Hook};
use super::uapi::{NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING};
use crate::policy::{Ingress, Link, Policy, Separation};
use crate::rules::Owner;

/// Marks a packet that was redirected on its way through a bridge, from netfilter's hooks of the IP
/// families to those of the bridge family, which know nothing of connection tracking. A container
/// cannot set it: the kernel clears marks where a packet changes its namespace.
const REDIRECTED: u32 = 0x1000;

const ISOLATED: &str = "isolated";
const CLOSED: &str = "closed";
const ISOLATED_CLOSED: &str = "isolated-closed";
const NO_HOST_ACCESS: &str = "no-host-access";
const PUBLISHED_ONLY: &str = "published-only";
const NO_REDIRECTS: &str = "no-redirects";

const fn inner(name: &'static str, references: u32, rules: fn() -> Vec<Rule>, count: u32) -> Chain {
    Chain {
        name,
        hook: None,
        references,
        rules: Some(rules),
        count,
    }
}

const fn base(
    name: &'static str,
    number: u32,
    priority: i32,
    rules: fn() -> Vec<Rule>,
    count: u32,
) -> Chain {
    Chain {
        name,
        hook: Some(Hook {
            kind: "filter",
            number,
            priority,
        }),
        references: 0,
        rules: Some(rules),
        count,
    }
}

/// Ordered so that a chain comes before those that jump to it.
pub(super) const POLICY_CHAINS: &[Chain] = &[
    Chain {
        name: super::ADMIN,
        hook: None,
        references: 1,
        rules: None,
        count: 0,
    },
    inner("ingress", 1, ingress, 2),
    inner("redirected", 1, redirected, 3),
    inner(ISOLATED, 0, isolated, 1),
    inner(CLOSED, 0, closed, 3),
    inner(ISOLATED_CLOSED, 0, isolated_closed, 3),
    inner(NO_HOST_ACCESS, 0, no_host_access, 5),
    inner(PUBLISHED_ONLY, 0, published_only, 6),
    inner(NO_REDIRECTS, 0, no_redirects, 2),
    base("forward", NF_INET_FORWARD, 0, forward, 9),
    base("to-host", NF_INET_LOCAL_IN, 0, to_host, 1),
    base("from-host", NF_INET_LOCAL_OUT, 0, from_host, 1),
];

/// Right after DNAT, which stands at -100.
pub(super) const MARKING_CHAINS: &[Chain] =
    &[base("bridged", NF_INET_PRE_ROUTING, -99, bridged, 1)];

pub(super) const SEPARATION_CHAINS: &[Chain] =
    &[base("forward", NF_INET_FORWARD, -200, separation, 1)];

fn forward() -> Vec<Rule> {
    vec![
        Rule::default().verdict(Verdict::Jump(super::ADMIN)),
        Rule::default()
            .meta(Meta::InputName)
            .in_set(RESTRICTED)
            .verdict(Verdict::Jump("ingress")),
        Rule::default().established().verdict(Verdict::Accept),
        Rule::default()
            .was_redirected()
            .verdict(Verdict::Jump("redirected")),
        Rule::default()
            .link_in_set(false, LINKS4)
            .verdict(Verdict::Accept),
        Rule::default()
            .link_in_set(true, LINKS6)
            .verdict(Verdict::Accept),
        Rule::default().names_verdict(ICC),
        Rule::default().name_verdict(Meta::InputName, LEAVING),
        Rule::default().name_verdict(Meta::OutputName, ENTERING),
    ]
}

/// The reference plugin's ingressPolicy: the own bridge first.
fn ingress() -> Vec<Rule> {
    vec![
        Rule::default().names_verdict(INGRESS),
        Rule::default()
            .meta(Meta::OutputName)
            .in_set(RESTRICTED)
            .verdict(Verdict::Drop),
    ]
}

fn redirected() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(INTERNAL)
            .verdict(Verdict::Drop),
        Rule::default()
            .meta(Meta::OutputName)
            .in_set(INTERNAL)
            .verdict(Verdict::Drop),
        Rule::default()
            .meta(Meta::OutputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Accept),
    ]
}

/// From one bridge of ours to another: what goes back into the same one has been decided before.
fn isolated() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(BRIDGES)
            .meta(Meta::OutputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Drop),
    ]
}

fn closed() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Return),
        Rule::default()
            .names_in_set(TRUSTED)
            .verdict(Verdict::Return),
        Rule::default().verdict(Verdict::Drop),
    ]
}

fn isolated_closed() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Drop),
        Rule::default()
            .names_in_set(TRUSTED)
            .verdict(Verdict::Return),
        Rule::default().verdict(Verdict::Drop),
    ]
}

fn to_host() -> Vec<Rule> {
    vec![Rule::default().name_verdict(Meta::InputName, TO_HOST)]
}

fn from_host() -> Vec<Rule> {
    vec![Rule::default().name_verdict(Meta::OutputName, FROM_HOST)]
}

/// What comes from a bridge to the host. What was redirected here, port 53, is for the resolver.
fn no_host_access() -> Vec<Rule> {
    barred(&[])
}

/// What the host sends to a bridge. What was redirected here is for a published port.
fn published_only() -> Vec<Rule> {
    barred(&[Rule::default().was_redirected().verdict(Verdict::Accept)])
}

/// Redirects first: they count as related to the flow that they are about.
fn barred(exceptions: &[Rule]) -> Vec<Rule> {
    // Router solicitation to neighbour advertisement (RFC 4861).
    const DISCOVERY: (u8, u8) = (133, 136);
    let mut rules = no_redirects();
    rules.push(Rule::default().established().verdict(Verdict::Accept));
    rules.extend_from_slice(exceptions);
    rules.push(
        Rule::default()
            .icmp_type(true, DISCOVERY.0, DISCOVERY.1)
            .verdict(Verdict::Accept),
    );
    rules.push(Rule::default().verdict(Verdict::Drop));
    rules
}

fn no_redirects() -> Vec<Rule> {
    vec![
        Rule::default()
            .icmp_type(false, 5, 5)
            .verdict(Verdict::Drop),
        Rule::default()
            .icmp_type(true, 137, 137)
            .verdict(Verdict::Drop),
    ]
}

fn bridged() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(SEPARATED)
            .was_redirected()
            .add_to_mark(REDIRECTED),
    ]
}

/// A frame that was redirected has passed the chain `forward` of the IP families, or will.
fn separation() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(SEPARATED)
            .meta(Meta::OutputName)
            .in_set(SEPARATED)
            .without_mark(REDIRECTED)
            .verdict(Verdict::Drop),
    ]
}

impl Plan {
    /// All that a policy can say of its bridge is planned, to be there or to be gone, so that a
    /// changed policy leaves nothing of the one before.
    pub(super) fn policy(&mut self, policy: &Policy) -> Result<(), Error> {
        let bridge = policy.bridge.as_str();
        check_interface(bridge)?;
        let tag = Owner::network(&policy.network).tag();
        let name = interface_key(bridge);
        let pair = pair_key(bridge, bridge);
        self.element(Purpose::Bridge, BRIDGES, name.clone(), Data::Nothing, &tag);
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
                Purpose::Policy
            } else {
                Purpose::Absent
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
            check_interface(trusted)?;
            let key = pair_key(trusted, bridge);
            self.element(Purpose::Policy, TRUSTED, key, Data::Nothing, &tag);
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
                planned.purpose = Purpose::Gone;
                self.elements.push(planned);
            }
        }
        Ok(())
    }

    pub(super) fn links(&mut self, links: &[Link]) -> Result<(), Error> {
        for link in links {
            check_interface(&link.bridge)?;
            if link.from.is_ipv6() != link.to.is_ipv6() {
                return Err(Error::LinkFamily {
                    from: link.from,
                    to: link.to,
                });
            }
            let set = if link.from.is_ipv6() { LINKS6 } else { LINKS4 };
            let tag = link.owner.tag();
            self.element(Purpose::Link, set, link_key(link), Data::Nothing, &tag);
        }
        self.drop_repeated();
        Ok(())
    }

    /// The bridge, whose redirected packets are marked.
    pub(super) fn marking(&mut self, network: &str, bridge: &str) -> Result<(), Error> {
        check_interface(bridge)?;
        let tag = Owner::network(network).tag();
        let key = interface_key(bridge);
        self.element(Purpose::Bridge, SEPARATED, key, Data::Nothing, &tag);
        Ok(())
    }

    pub(super) fn separation(&mut self, separation: &Separation) -> Result<(), Error> {
        check_interface(&separation.port)?;
        let tag = separation.owner.tag();
        let key = interface_key(&separation.port);
        self.element(Purpose::Spoof, SEPARATED, key, Data::Nothing, &tag);
        Ok(())
    }
}
