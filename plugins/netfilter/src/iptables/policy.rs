//! The text of a network's policy, in the filter table: made once per network, never per container.
//!
//! ```text
//! FORWARD                 -> CNI-FORWARD               at the head; of DOCKER-USER too, when it is there
//! CNI-FORWARD             -> CNI-ADMIN                 the admin's own, first of all
//!                         -> CNI-PONTOON
//! CNI-PONTOON             -> CNI-ISOLATION-STAGE-1     ingressPolicy, as the reference has it
//!                         -> CNI-PONTOON-INTERNAL      -i BRIDGE ! -o BRIDGE, nothing new: drop
//!                         -> CNI-PONTOON-IN            -o BRIDGE -> CNI-PN-x
//!                         -> CNI-PONTOON-OUT           -i BRIDGE [-> CNI-PONTOON-TO] -> CNI-PONTOON-LEAVE
//!                         -> CNI-PONTOON-CLOSED        -o BRIDGE [-i TRUSTED accept] drop
//! CNI-PN-x                replies, published ports, links, the bridge itself; what isolation forbids
//! CNI-PL-BRIDGE           one accept per link
//! CNI-PONTOON-FROM, -TO   -i BRIDGE drop, -o BRIDGE drop: every bridge of Pontoon
//! CNI-PONTOON-LEAVE       accepts, where Docker does not object
//! INPUT, OUTPUT           -> CNI-PONTOON-HOST          only when a network asks for it
//! ```
//!
//! Two bridges meet in two chains of one line per network, so N networks cost N lines each, not a
//! line for every pair. What leaves by OUT is decided there, so what reaches CLOSED comes from
//! elsewhere.

use ipnetwork::IpNetwork;

use super::error::TextError;
use super::hostport::BaseRule;
use super::text::{Family, Rule, Table, chain, comment, digest_of, name};
use crate::digest::sha512_hex;
use crate::interface::interface;
use crate::owner::Owner;
use crate::policy::{Ingress, Link, Member, Policy, Reach};
use crate::rules::NetworkRules;

/// The reference's chain, jumped to from FORWARD.
pub(super) const FORWARD: &str = "CNI-FORWARD";
/// The reference's comments on it, and on the jump to the admin's chain.
pub(super) const FORWARD_COMMENT: &str = "CNI firewall plugin rules";
pub(super) const ADMIN_COMMENT: &str = "CNI firewall plugin admin overrides";
/// The reference's comment on what all networks with an `ingressPolicy` share.
const INGRESS_COMMENT: &str = "CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)";
pub(super) const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
pub(super) const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";
/// The comment on what all networks share.
pub(super) const SHARED_COMMENT: &str = "pontoon policy";
/// Where our decisions begin.
pub(super) const ROOT: &str = "CNI-PONTOON";
pub(super) const INTERNAL: &str = "CNI-PONTOON-INTERNAL";
pub(super) const IN: &str = "CNI-PONTOON-IN";
pub(super) const OUT: &str = "CNI-PONTOON-OUT";
pub(super) const CLOSED: &str = "CNI-PONTOON-CLOSED";
pub(super) const FROM: &str = "CNI-PONTOON-FROM";
pub(super) const TO: &str = "CNI-PONTOON-TO";
pub(super) const LEAVE: &str = "CNI-PONTOON-LEAVE";
pub(super) const HOST: &str = "CNI-PONTOON-HOST";
pub(super) const BAR: &str = "CNI-PONTOON-BAR";
/// Prefixes of a network's own chain and of the chain of a bridge's links.
pub(super) const NETWORK_PREFIX: &str = "CNI-PN-";
pub(super) const LINKS_PREFIX: &str = "CNI-PL-";
/// Docker's chains: for the admin, of published ports, and of every bridge it has (up to 27).
pub(super) const DOCKER_USER: &str = "DOCKER-USER";
pub(super) const DOCKER: &str = "DOCKER";
pub(super) const DOCKER_STAGE_2: &str = "DOCKER-ISOLATION-STAGE-2";

/// The chains that [`ROOT`] leads to, in this order.
pub(super) const STAGES: [&str; 5] = [STAGE_1, INTERNAL, IN, OUT, CLOSED];
/// Where rules of networks stand beside those of other networks.
pub(super) const SHARED: [&str; 9] = [STAGE_1, STAGE_2, INTERNAL, IN, OUT, CLOSED, FROM, TO, HOST];
/// The chains that every host with a policy has.
pub(super) const OURS: [&str; 8] = [ROOT, INTERNAL, IN, OUT, CLOSED, FROM, TO, LEAVE];

const REPLIES: &str = "-m conntrack --ctstate RELATED,ESTABLISHED";

/// What a network's policy is in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyText {
    /// The comment without the digest: who owns the rules.
    pub(super) tag: String,
    /// The comment of the rules in shared chains: with a digest of all the network's rules.
    pub(super) mark: String,
    /// The admin's chain.
    pub(super) admin: String,
    /// The network's own chain and its rules.
    pub(super) chain: String,
    pub(super) own: Vec<Rule>,
    /// Rules in chains that other networks use too.
    pub(super) shared: Vec<BaseRule>,
    /// The chain of the bridge's links, and whether the network needs it.
    pub(super) links: String,
    pub(super) linked: bool,
}

/// One link in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkText {
    pub(super) chain: String,
    /// The owner's comment.
    pub(super) tag: String,
    pub(super) rule: Rule,
}

impl PolicyText {
    pub(super) fn new(family: Family, policy: &Policy) -> Result<Self, TextError> {
        name("network name", &policy.network)?;
        let bridge = interface(&policy.bridge)?;
        for trusted in &policy.trusted {
            interface(trusted)?;
        }
        for way in policy
            .reach
            .iter()
            .flat_map(|reach| reach.device.iter().chain(&reach.uplinks))
        {
            interface(way)?;
        }
        let admin = admin(&policy.admin_chain)?;
        let tag = Owner::network(&policy.network).tag();
        let chain = format!("{NETWORK_PREFIX}{}", sha512_hex(&[&policy.network], 21));
        let links = links_chain(bridge);
        let own = own(family, policy, &chain, &links, &tag);
        let unmarked = shared(family, policy, &chain, &tag);
        let rules = own.iter().chain(unmarked.iter().map(|shared| &shared.rule));
        let mark = format!("{tag} ({})", digest_of(admin, rules));
        Ok(Self {
            shared: shared(family, policy, &chain, &mark),
            admin: admin.to_owned(),
            linked: !policy.icc,
            links,
            tag,
            mark,
            chain,
            own,
        })
    }

    /// Whether the host itself is concerned.
    pub(super) fn host(&self) -> bool {
        self.shared.iter().any(|shared| shared.rule.chain == HOST)
    }

    /// How many rules the network has in a shared chain.
    pub(super) fn count(&self, chain: &str) -> usize {
        let there = |shared: &&BaseRule| shared.rule.chain == chain;
        self.shared.iter().filter(there).count()
    }

    /// Removes exactly these rules; fails when one of them is not there, or a link is.
    pub(super) fn withdraw(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.shared.iter().map(|s| s.rule.delete()).collect();
        lines.push(format!("-F {}", self.chain));
        lines.push(format!("-X {}", self.chain));
        if self.linked {
            lines.push(format!("-X {}", self.links));
        }
        lines
    }

    /// Every rule that must be there, for a check.
    pub(super) fn all(&self, family: Family) -> Vec<Rule> {
        let mut rules = vec![forward_jump(), admin_jump(&self.admin), root_jump()];
        rules.extend(stages());
        rules.extend(leave(std::iter::empty()));
        if self.host() {
            rules.extend(host_jumps());
            rules.extend(bar(family));
        }
        rules.extend(self.shared.iter().map(|shared| shared.rule.clone()));
        rules.extend(self.own.iter().cloned());
        rules
    }
}

impl LinkText {
    /// `None`: of the other family.
    pub(super) fn new(family: Family, link: &Link) -> Result<Option<Self>, TextError> {
        let owner = &link.owner;
        name("network name", &owner.network)?;
        name("container id", &owner.container)?;
        name("interface name", &owner.interface)?;
        let bridge = interface(&link.bridge)?;
        if Family::of(link.from) != family {
            return Ok(None);
        }
        if Family::of(link.to) != family {
            return Err(TextError::LinkFamily {
                from: link.from,
                to: link.to,
            });
        }
        let bits = bits(family);
        let tag = owner.tag();
        let chain = links_chain(bridge);
        let spec = format!(
            "-s {}/{bits} -d {}/{bits} -i {bridge} -p {p} -m {p} --dport {} {} -j ACCEPT",
            link.from,
            link.to,
            link.port,
            comment(&tag),
            p = link.protocol,
        );
        Ok(Some(Self {
            rule: Rule::new(chain.clone(), spec),
            chain,
            tag,
        }))
    }
}

/// What an attachment without a bridge has in one family, as the reference has it for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberText {
    /// The owner's comment.
    pub(super) tag: String,
    /// The admin's chain.
    pub(super) admin: String,
    pub(super) rules: Vec<Rule>,
}

impl MemberText {
    /// `None`: it has no address of this family.
    pub(super) fn new(family: Family, member: &Member) -> Result<Option<Self>, TextError> {
        let owner = &member.owner;
        name("network name", &owner.network)?;
        name("container id", &owner.container)?;
        name("interface name", &owner.interface)?;
        let admin = admin(&member.admin_chain)?.to_owned();
        let tag = owner.tag();
        let text = comment(&tag);
        let bits = bits(family);
        let mine = member
            .addresses
            .iter()
            .filter(|a| Family::of(**a) == family);
        let rules: Vec<Rule> = mine
            .flat_map(|address| {
                [
                    format!("-d {address}/{bits} {REPLIES} {text} -j ACCEPT"),
                    format!("-s {address}/{bits} {text} -j ACCEPT"),
                ]
            })
            .map(|spec| Rule::new(FORWARD, spec))
            .collect();
        Ok((!rules.is_empty()).then_some(Self { tag, admin, rules }))
    }
}

/// What makes a bridge without a policy known as one of Pontoon's: rules for the way out are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownText {
    /// The network's comment.
    pub(super) tag: String,
    pub(super) rules: Vec<BaseRule>,
}

impl KnownText {
    pub(super) fn new(network: &NetworkRules) -> Result<Self, TextError> {
        name("network name", &network.network)?;
        let bridge = interface(&network.bridge)?;
        let tag = Owner::network(&network.network).tag();
        Ok(Self::of(bridge, &tag))
    }

    pub(super) fn of(bridge: &str, tag: &str) -> Self {
        let text = comment(tag);
        let put = |first, chain: &str, spec| BaseRule {
            table: Table::Filter,
            rule: Rule::new(chain, spec),
            first,
        };
        Self {
            tag: tag.to_owned(),
            rules: vec![
                put(false, FROM, format!("-i {bridge} {text} -j DROP")),
                put(false, TO, format!("-o {bridge} {text} -j DROP")),
                put(true, CLOSED, format!("-i {bridge} {text} -j RETURN")),
            ],
        }
    }
}

fn bits(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// An interface's name has 15 characters at most.
fn links_chain(bridge: &str) -> String {
    format!("{LINKS_PREFIX}{bridge}")
}

/// The admin's chain must not be one of those that lead to it.
fn admin(value: &str) -> Result<&str, TextError> {
    const BUILT_IN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];
    let name = chain(value)?;
    let leads = BUILT_IN.contains(&name)
        || [FORWARD, DOCKER_USER, STAGE_1, STAGE_2].contains(&name)
        || [ROOT, NETWORK_PREFIX, LINKS_PREFIX]
            .iter()
            .any(|ours| name.starts_with(ours));
    if leads {
        return Err(TextError::AdminChain {
            value: value.to_owned(),
        });
    }
    Ok(name)
}

/// What goes to the bridge, in the network's own chain.
fn own(family: Family, policy: &Policy, chain: &str, links: &str, tag: &str) -> Vec<Rule> {
    let (bridge, tag) = (&policy.bridge, comment(tag));
    let published = if policy.internal { "DROP" } else { "ACCEPT" };
    let mut specs = vec![
        format!("{REPLIES} {tag} -j ACCEPT"),
        format!("-m conntrack --ctstate DNAT {tag} -j {published}"),
    ];
    let decision = if policy.icc { "ACCEPT" } else { "DROP" };
    for (interface, subnet) in ways(family, policy) {
        specs.push(format!("-s {subnet} -i {interface} {tag} -j {decision}"));
    }
    if policy.icc {
        specs.push(format!("-i {bridge} {tag} -j ACCEPT"));
    } else {
        if family == Family::V6 {
            // Where bridged packets come here at all, a link's ends must find each other.
            for kind in [135, 136] {
                specs.push(format!(
                    "-i {bridge} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} {tag} -j ACCEPT"
                ));
            }
        }
        specs.push(format!("-i {bridge} {tag} -j {links}"));
        specs.push(format!("-i {bridge} {tag} -j DROP"));
    }
    if policy.internal {
        specs.push(format!("{tag} -j DROP"));
    } else if policy.isolated {
        specs.push(format!("{tag} -j {FROM}"));
    }
    specs
        .into_iter()
        .map(|spec| Rule::new(chain, spec))
        .collect()
}

/// The interfaces to the network's other hosts, each with the subnet of this family.
fn ways(family: Family, policy: &Policy) -> impl Iterator<Item = (&str, IpNetwork)> {
    let ways = policy.reach.iter().flat_map(Reach::ways);
    ways.filter(move |(_, subnet)| Family::of(subnet.ip()) == family)
}

/// What the network has in the chains that it shares with others.
fn shared(family: Family, policy: &Policy, own: &str, mark: &str) -> Vec<BaseRule> {
    let (bridge, mark) = (&policy.bridge, comment(mark));
    let mut rules = Vec::new();
    let mut put = |first: bool, chain: &str, spec: String| {
        rules.push(BaseRule {
            table: Table::Filter,
            rule: Rule::new(chain, spec),
            first,
        });
    };
    let ingress = match policy.ingress {
        Ingress::Open => None,
        Ingress::SameBridge => Some("same-bridge"),
        Ingress::Isolated => Some("isolated"),
    };
    if let Some(word) = ingress {
        // At the head: the reference ends these chains with a return.
        let text = comment(&format!(
            "CNI firewall plugin rules (ingressPolicy: {word})"
        ));
        let spec = format!("-i {bridge} ! -o {bridge} {text} {mark} -j {STAGE_2}");
        put(true, STAGE_1, spec);
        if policy.ingress == Ingress::Isolated {
            let spec = format!("-i {bridge} -o {bridge} {text} {mark} -j DROP");
            put(true, STAGE_1, spec);
        }
        let text = comment(INGRESS_COMMENT);
        put(true, STAGE_2, format!("-o {bridge} {text} {mark} -j DROP"));
    }
    if policy.internal {
        for (interface, subnet) in ways(family, policy) {
            let spec = format!("-d {subnet} -i {bridge} -o {interface} {mark} -j RETURN");
            put(false, INTERNAL, spec);
        }
        let new = "-m conntrack ! --ctstate RELATED,ESTABLISHED";
        let spec = format!("-i {bridge} ! -o {bridge} {new} {mark} -j DROP");
        put(false, INTERNAL, spec);
    }
    put(false, IN, format!("-o {bridge} {mark} -j {own}"));
    for (interface, subnet) in ways(family, policy) {
        let decision = if policy.icc { LEAVE } else { "DROP" };
        let spec = format!("-d {subnet} -i {bridge} -o {interface} {mark} -j {decision}");
        put(false, OUT, spec);
    }
    if policy.isolated {
        put(false, OUT, format!("-i {bridge} {mark} -j {TO}"));
    }
    put(false, OUT, format!("-i {bridge} {mark} -j {LEAVE}"));
    put(false, FROM, format!("-i {bridge} {mark} -j DROP"));
    put(false, TO, format!("-o {bridge} {mark} -j DROP"));
    if policy.closed && !policy.internal {
        for trusted in &policy.trusted {
            let spec = format!("-i {trusted} -o {bridge} {mark} -j ACCEPT");
            put(false, CLOSED, spec);
        }
        put(false, CLOSED, format!("-o {bridge} {mark} -j DROP"));
    }
    if !policy.icc {
        let redirect = match family {
            Family::V4 => "-p icmp -m icmp --icmp-type 5",
            Family::V6 => "-p ipv6-icmp -m icmp6 --icmpv6-type 137",
        };
        put(true, HOST, format!("-o {bridge} {redirect} {mark} -j DROP"));
    }
    if !policy.host_access {
        put(false, HOST, format!("-i {bridge} {mark} -j {BAR}"));
        // Redirected on the way out of the host: to a published port. What was redirected on the way
        // into it, port 53, is for the resolver.
        let published = "-m conntrack --ctstate DNAT";
        let spec = format!("-o {bridge} {published} {mark} -j RETURN");
        put(false, HOST, spec);
        put(false, HOST, format!("-o {bridge} {mark} -j {BAR}"));
        if let Some(device) = policy
            .reach
            .as_ref()
            .and_then(|reach| reach.device.as_ref())
        {
            put(false, HOST, format!("-i {device} {mark} -j {BAR}"));
            put(false, HOST, format!("-o {device} {mark} -j {BAR}"));
        }
    }
    rules
}

/// The jump from FORWARD, word for word the reference's.
pub(super) fn forward_jump() -> Rule {
    Rule::new(
        "FORWARD",
        format!("{} -j {FORWARD}", comment(FORWARD_COMMENT)),
    )
}

/// The jump from Docker's chain for the admin, which Docker keeps before its own.
pub(super) fn docker_jump() -> Rule {
    Rule::new(
        DOCKER_USER,
        format!("{} -j {FORWARD}", comment(SHARED_COMMENT)),
    )
}

pub(super) fn admin_jump(admin: &str) -> Rule {
    Rule::new(FORWARD, format!("{} -j {admin}", comment(ADMIN_COMMENT)))
}

pub(super) fn root_jump() -> Rule {
    Rule::new(FORWARD, format!("{} -j {ROOT}", comment(SHARED_COMMENT)))
}

/// The rules of [`ROOT`].
pub(super) fn stages() -> Vec<Rule> {
    STAGES
        .iter()
        .map(|stage| Rule::new(ROOT, format!("{} -j {stage}", comment(SHARED_COMMENT))))
        .collect()
}

/// The rules of [`LEAVE`]: what is there of Docker's chains decides first. `DOCKER` accepts what
/// Docker has published; from version 28 on it also drops the rest that goes to Docker's bridges,
/// before that the second stage of its isolation does.
pub(super) fn leave<'a>(docker: impl Iterator<Item = &'a str>) -> Vec<Rule> {
    let text = comment(SHARED_COMMENT);
    let mut rules = vec![Rule::new(LEAVE, format!("{REPLIES} {text} -j ACCEPT"))];
    rules.extend(docker.map(|chain| Rule::new(LEAVE, format!("{text} -j {chain}"))));
    rules.push(Rule::new(LEAVE, format!("{text} -j ACCEPT")));
    rules
}

/// The jumps that a network without access to the host needs.
pub(super) fn host_jumps() -> Vec<Rule> {
    ["INPUT", "OUTPUT"]
        .iter()
        .map(|hook| Rule::new(*hook, format!("{} -j {HOST}", comment(SHARED_COMMENT))))
        .collect()
}

/// The rules of [`BAR`]: neighbours must find each other even where nothing else passes.
pub(super) fn bar(family: Family) -> Vec<Rule> {
    let text = comment(SHARED_COMMENT);
    let mut specs = vec![format!(
        "-m conntrack --ctstate RELATED,ESTABLISHED {text} -j RETURN"
    )];
    if family == Family::V6 {
        for kind in 133..=136 {
            specs.push(format!(
                "-p ipv6-icmp -m icmp6 --icmpv6-type {kind} {text} -j RETURN"
            ));
        }
    }
    specs.push(format!("{text} -j DROP"));
    specs.into_iter().map(|spec| Rule::new(BAR, spec)).collect()
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
