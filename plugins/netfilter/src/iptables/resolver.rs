//! The text of the way to the embedded resolver: one rule per gateway and protocol, in a chain that
//! all networks share and that comes before all published ports.
//!
//! ```text
//! PREROUTING, OUTPUT  local destinations -> CNI-PONTOON-DNS
//! CNI-PONTOON-DNS     -d GATEWAY -p udp|tcp --dport 53 DNAT to GATEWAY:PORT
//! ```

use std::net::IpAddr;

use super::error::TextError;
use super::text::{Family, Rule, comment, name};
use crate::rules::{Owner, Resolver};

/// The chain that every network shares.
pub(super) const SHARED: &str = "CNI-PONTOON-DNS";
/// Where it is led to from.
pub(super) const HOOKS: [&str; 2] = ["PREROUTING", "OUTPUT"];

/// A network's rules of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolverText {
    /// The comment without the port.
    tag: String,
    /// The comment of the rules: network and port, since not every iptables compares targets.
    pub(super) mark: String,
    pub(super) rules: Vec<Rule>,
}

impl ResolverText {
    /// `None` when the network has no gateway of this family.
    pub(super) fn new(family: Family, resolver: &Resolver) -> Result<Option<Self>, TextError> {
        name("network name", &resolver.network)?;
        let tag = Owner::network(&resolver.network).tag();
        let port = resolver.port;
        let mark = format!("{tag} (dns {port})");
        let mut rules = Vec::new();
        for gateway in &resolver.gateways {
            if Family::of(*gateway) != family {
                continue;
            }
            let (destination, target) = match gateway {
                IpAddr::V4(ip) => (format!("{ip}/32"), format!("{ip}:{port}")),
                IpAddr::V6(ip) => (format!("{ip}/128"), format!("[{ip}]:{port}")),
            };
            for protocol in ["udp", "tcp"] {
                let comment = comment(&mark);
                rules.push(Rule::new(
                    SHARED,
                    format!(
                        "-d {destination} -p {protocol} -m {protocol} --dport 53 {comment} -j DNAT --to-destination {target}"
                    ),
                ));
            }
        }
        Ok((!rules.is_empty()).then_some(Self { tag, mark, rules }))
    }

    /// Whether a comment in the shared chain is this network's, whatever the port.
    pub(super) fn owns(&self, comment: &str) -> bool {
        comment
            .strip_prefix(&self.tag)
            .is_some_and(|rest| rest.starts_with(" (dns ") && rest.ends_with(')'))
    }

    /// Everything, for a check.
    pub(super) fn all(&self) -> Vec<Rule> {
        jumps().chain(self.rules.iter().cloned()).collect()
    }
}

/// What leads to the shared chain.
pub(super) fn jumps() -> impl Iterator<Item = Rule> {
    HOOKS
        .into_iter()
        .map(|hook| Rule::new(hook, format!("-m addrtype --dst-type LOCAL -j {SHARED}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_per_gateway_and_protocol() {
        let resolver = Resolver {
            network: "lan".into(),
            gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            port: 21053,
        };
        let v6 = ResolverText::new(Family::V6, &resolver).unwrap().unwrap();
        let texts: Vec<String> = v6.rules.iter().map(Rule::append).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(
            texts[0],
            "-A CNI-PONTOON-DNS -d fd00::1/128 -p udp -m udp --dport 53 -m comment --comment \"pontoon lan (dns 21053)\" -j DNAT --to-destination [fd00::1]:21053"
        );
        assert!(v6.owns("pontoon lan (dns 1)"));
        assert!(!v6.owns("pontoon lan") && !v6.owns("pontoon lan2 (dns 1)"));
        let v4_only = Resolver {
            gateways: vec!["10.0.0.1".parse().unwrap()],
            ..resolver
        };
        assert_eq!(ResolverText::new(Family::V6, &v4_only).unwrap(), None);
    }
}
