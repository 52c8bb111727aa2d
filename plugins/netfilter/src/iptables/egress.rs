//! The text of a network's rules: how its traffic leaves the host. Per network and subnet, never
//! per container, so that a container costs nothing.
//!
//! ```text
//! POSTROUTING  -> CNI-PONTOON
//! CNI-PONTOON  -o BRIDGE return       one per network, all before the first of:
//!              -s SUBNET -> CNI-PT-x  one per subnet
//! CNI-PT-x     -d SUBNET return; multicast return; SNAT ...; MASQUERADE
//! ```

use super::error::TextError;
use super::policy::KnownText;
use super::text::{Family, Rule, comment, digest_of, name};
use crate::digest::sha512_hex;
use crate::interface::interface;
use crate::owner::Owner;
use crate::rules::{Egress, NetworkRules};

/// The chain that every network shares.
pub(super) const SHARED: &str = "CNI-PONTOON";
/// Prefix of the chain of one subnet.
pub(super) const CHAIN_PREFIX: &str = "CNI-PT-";

/// What a network needs in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NetworkText {
    /// The comment without the digest: who owns the rules.
    pub(super) tag: String,
    /// The comment of the rules in the shared chain. It ends in a digest of all the network's
    /// rules, so that a look at the comments tells whether they are the wanted ones.
    pub(super) mark: String,
    /// Keeps traffic between our bridges as it is. Goes to the head of the shared chain.
    pub(super) bridge: Rule,
    /// One per subnet, at the end of the shared chain.
    pub(super) jumps: Vec<Rule>,
    /// The subnets' chains, in the order of `jumps`.
    pub(super) chains: Vec<Subnet>,
    /// What tells the policies of others that the bridge is ours.
    pub(super) known: KnownText,
}

/// The chain of one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) chain: String,
    pub(super) rules: Vec<Rule>,
}

impl NetworkText {
    /// The rules for one family; `None` when the network has no subnet of it. A network without
    /// any egress still keeps the sender's address of what comes from our other bridges.
    pub(super) fn new(family: Family, network: &NetworkRules) -> Result<Option<Self>, TextError> {
        name("network name", &network.network)?;
        let bridge = interface(&network.bridge)?;
        let tag = Owner::network(&network.network).tag();
        let mine: Vec<&Egress> = network
            .egress
            .iter()
            .filter(|e| Family::of(e.subnet.ip()) == family)
            .collect();
        if mine.is_empty() && !network.egress.is_empty() {
            return Ok(None);
        }
        let chains = mine
            .iter()
            .map(|egress| subnet(family, &network.network, &tag, egress))
            .collect::<Result<Vec<_>, _>>()?;
        let mark = format!("{tag} ({})", digest(bridge, &chains));
        let jumps = mine
            .iter()
            .zip(&chains)
            .map(|(egress, subnet)| {
                let source = network_of(egress);
                Rule::new(
                    SHARED,
                    format!("-s {source} {} -j {}", comment(&mark), subnet.chain),
                )
            })
            .collect();
        let bridge = Rule::new(SHARED, format!("-o {bridge} {} -j RETURN", comment(&mark)));
        Ok(Some(Self {
            tag,
            mark,
            bridge,
            jumps,
            chains,
            known: KnownText::new(network)?,
        }))
    }

    /// Whether a comment in the shared chain is this network's, in whatever version.
    pub(super) fn owns(&self, comment: &str) -> bool {
        owns(&self.tag, comment)
    }

    /// Every rule, for a check.
    pub(super) fn all(&self) -> Vec<&Rule> {
        let subnets = self.chains.iter().flat_map(|subnet| &subnet.rules);
        std::iter::once(&self.bridge)
            .chain(&self.jumps)
            .chain(subnets)
            .collect()
    }

    /// Removes exactly these rules; fails when one of them is not there.
    pub(super) fn withdraw(&self) -> Vec<String> {
        let mut lines = vec![self.bridge.delete()];
        lines.extend(self.jumps.iter().map(Rule::delete));
        for subnet in &self.chains {
            lines.push(format!("-F {}", subnet.chain));
            lines.push(format!("-X {}", subnet.chain));
        }
        lines
    }
}

/// Whether a comment is `tag`, or `tag` with a digest behind it.
pub(super) fn owns(tag: &str, comment: &str) -> bool {
    comment == tag
        || comment
            .strip_prefix(tag)
            .is_some_and(|rest| rest.len() == 11 && rest.starts_with(" (") && rest.ends_with(')'))
}

/// The tag of a comment that has a digest behind it.
pub(super) fn untagged(comment: &str) -> Option<&str> {
    let tag = comment.get(..comment.len().checked_sub(11)?)?;
    owns(tag, comment).then_some(tag)
}

/// The jump that every network shares. Appended: rules that translate more specifically go first.
pub(super) fn shared_jump() -> Rule {
    Rule::new(
        "POSTROUTING",
        format!("{} -j {SHARED}", comment("pontoon egress")),
    )
}

fn subnet(family: Family, network: &str, tag: &str, egress: &Egress) -> Result<Subnet, TextError> {
    let source = network_of(egress);
    let chain = chain_name(network, &source);
    let multicast = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    let comment = comment(tag);
    let rule = |spec: String| Rule::new(chain.clone(), spec);
    let mut rules = vec![
        rule(format!("-d {source} {comment} -j RETURN")),
        rule(format!("-d {multicast} {comment} -j RETURN")),
    ];
    let mut everywhere = false;
    for snat in &egress.snat {
        if Family::of(snat.source) != family {
            return Err(TextError::SnatFamily {
                address: snat.source,
                subnet: source,
            });
        }
        let out = match &snat.out {
            Some(out) => format!("-o {} ", interface(out)?),
            None => String::new(),
        };
        rules.push(rule(format!(
            "{out}{comment} -j SNAT --to-source {}",
            snat.source
        )));
        if snat.out.is_none() {
            // What follows a rule for every interface is never reached.
            everywhere = true;
            break;
        }
    }
    if !everywhere {
        rules.push(rule(format!("{comment} -j MASQUERADE")));
    }
    Ok(Subnet { chain, rules })
}

/// The subnet as iptables prints it: without host bits.
fn network_of(egress: &Egress) -> String {
    format!("{}/{}", egress.subnet.network(), egress.subnet.prefix())
}

fn chain_name(network: &str, subnet: &str) -> String {
    format!("{CHAIN_PREFIX}{}", sha512_hex(&[network, subnet], 21))
}

fn digest(bridge: &str, chains: &[Subnet]) -> String {
    let rules = chains.iter().flat_map(|subnet| &subnet.rules);
    digest_of(bridge, rules)
}

#[cfg(test)]
#[path = "egress_tests.rs"]
mod tests;
