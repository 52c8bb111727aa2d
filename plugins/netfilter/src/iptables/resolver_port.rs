//! A network's rules about the port of its embedded resolver: one per gateway and protocol, in a chain
//! that all networks share. What the rules do there, `resolver` and `opening` say.

use std::net::IpAddr;

use super::error::TextError;
use super::listing::Listing;
use super::text::{Family, Rule, comment, name};
use crate::owner::Owner;

/// A network's rules of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolverPortRules {
    /// The shared chain.
    chain: &'static str,
    /// The comment without the port.
    tag: String,
    /// The comment of the rules: network and port, since not every iptables compares targets.
    pub(super) mark: String,
    pub(super) rules: Vec<Rule>,
}

impl ResolverPortRules {
    /// `specs` writes the rules of one gateway, given with its full prefix, for one protocol; the
    /// comment is the last argument. `None` when no rule is written for this family.
    pub(super) fn new(
        chain: &'static str,
        family: Family,
        network: &str,
        gateways: &[IpAddr],
        port: u16,
        specs: impl Fn(IpAddr, &str, &str) -> Vec<String>,
    ) -> Result<Option<Self>, TextError> {
        name("network name", network)?;
        let tag = Owner::network(network).tag();
        let mark = format!("{tag} (dns {port})");
        let comment = comment(&mark);
        let mut rules = Vec::new();
        for gateway in gateways.iter().filter(|ip| Family::of(**ip) == family) {
            for protocol in ["udp", "tcp"] {
                let specs = specs(*gateway, protocol, &comment);
                rules.extend(specs.into_iter().map(|spec| Rule::new(chain, spec)));
            }
        }
        Ok((!rules.is_empty()).then_some(Self {
            chain,
            tag,
            mark,
            rules,
        }))
    }

    /// The network's rules in the shared chain, whatever their port.
    pub(super) fn owned<'a>(&'a self, listing: &'a Listing) -> impl Iterator<Item = &'a Rule> {
        listing
            .chain(self.chain)
            .filter(|listed| listed.has_comment(|comment| self.owns(comment)))
            .map(|listed| &listed.rule)
    }

    fn owns(&self, comment: &str) -> bool {
        comment
            .strip_prefix(&self.tag)
            .is_some_and(|rest| rest.starts_with(" (dns ") && rest.ends_with(')'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owns_its_network_at_any_port() {
        let gateways = ["10.0.0.1".parse().unwrap()];
        let spec = |_, protocol: &str, comment: &str| vec![format!("-p {protocol} {comment}")];
        let rules =
            ResolverPortRules::new("NAMES", Family::V4, "lan", &gateways, 21053, spec).unwrap();
        let rules = rules.unwrap();
        assert_eq!(rules.rules.len(), 2);
        assert!(rules.owns("pontoon lan (dns 1)"));
        assert!(!rules.owns("pontoon lan") && !rules.owns("pontoon lan2 (dns 1)"));
    }
}
