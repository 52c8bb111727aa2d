//! The fixed chains that decide what may pass, by sets and maps. The order of the decisions is told at
//! [`crate::Policy`].

use super::chain::{Chain, Hook};
use super::element::Data;
use super::expression::{Meta, Rule, Verdict};
use super::sets::{
    BRIDGES, ENTERING, FROM_HOST, ICC, INGRESS, INTERNAL, LEAVING, LINKS4, LINKS6, RESTRICTED,
    SEPARATED, TO_HOST, TRUSTED,
};
use super::uapi::{NF_INET_FORWARD, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING};

/// The chain of `inet pontoon` that belongs to the admin: made empty, jumped to before all others,
/// never emptied, and never removed while there is a rule in it.
pub(super) const ADMIN: &str = "admin";

/// Marks a packet that was redirected on its way through a bridge, from netfilter's hooks of the IP
/// families to those of the bridge family, which know nothing of connection tracking. A container
/// cannot set it: the kernel clears marks where a packet changes its namespace.
const REDIRECTED: u32 = 0x1000;

pub(super) const ISOLATED: &str = "isolated";
pub(super) const CLOSED: &str = "closed";
pub(super) const ISOLATED_CLOSED: &str = "isolated-closed";
pub(super) const NO_HOST_ACCESS: &str = "no-host-access";
pub(super) const PUBLISHED_ONLY: &str = "published-only";
pub(super) const NO_REDIRECTS: &str = "no-redirects";

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
        name: ADMIN,
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
        Rule::default().verdict(Verdict::Jump(ADMIN)),
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

/// The chain that an element of a policy leads to, when no other element does: not a fixed one.
pub(super) fn own_chain(data: &Data) -> Option<String> {
    match data {
        Data::Jump(chain) if !POLICY_CHAINS.iter().any(|fixed| fixed.name == chain) => {
            Some(chain.clone())
        }
        _ => None,
    }
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

/// From one of Pontoon's bridges to another: what goes back into the same one has been decided before.
pub(super) fn isolated() -> Vec<Rule> {
    vec![
        Rule::default()
            .meta(Meta::InputName)
            .in_set(BRIDGES)
            .meta(Meta::OutputName)
            .in_set(BRIDGES)
            .verdict(Verdict::Drop),
    ]
}

pub(super) fn closed() -> Vec<Rule> {
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

pub(super) fn isolated_closed() -> Vec<Rule> {
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
