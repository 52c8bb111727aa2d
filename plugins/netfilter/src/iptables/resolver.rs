//! The text of the way to the embedded resolver: one rule per gateway and protocol, in a chain that
//! all networks share and that comes before all published ports.
//!
//! ```text
//! PREROUTING, OUTPUT  local destinations -> CNI-PONTOON-DNS
//! CNI-PONTOON-DNS     -d GATEWAY -p udp|tcp --dport 53 DNAT to GATEWAY:PORT
//! ```

use std::net::{IpAddr, SocketAddr};

use super::error::TextError;
use super::resolver_port::ResolverPortRules;
use super::text::{Family, Rule};
use crate::rules::Resolver;

/// The chain that every network shares.
pub(super) const SHARED: &str = "CNI-PONTOON-DNS";
/// Where it is led to from.
pub(super) const HOOKS: [&str; 2] = ["PREROUTING", "OUTPUT"];

/// The rules of one family; `None` when the network has no gateway of it.
pub(super) fn rules(
    family: Family,
    resolver: &Resolver,
) -> Result<Option<ResolverPortRules>, TextError> {
    let (network, port) = (&resolver.network, resolver.port);
    let specs = |gateway: IpAddr, protocol: &str, comment: &str| {
        let bits = family.address_bits();
        let target = SocketAddr::new(gateway, port);
        vec![format!(
            "-d {gateway}/{bits} -p {protocol} -m {protocol} --dport 53 {comment} -j DNAT --to-destination {target}"
        )]
    };
    ResolverPortRules::new(SHARED, family, network, &resolver.gateways, port, specs)
}

/// Everything, for a check.
pub(super) fn all(text: &ResolverPortRules) -> Vec<Rule> {
    jumps().chain(text.rules.iter().cloned()).collect()
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
        let v6 = rules(Family::V6, &resolver).unwrap().unwrap();
        let texts: Vec<String> = v6.rules.iter().map(Rule::append).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(
            texts[0],
            "-A CNI-PONTOON-DNS -d fd00::1/128 -p udp -m udp --dport 53 -m comment --comment \"pontoon lan (dns 21053)\" -j DNAT --to-destination [fd00::1]:21053"
        );
        let v4_only = Resolver {
            gateways: vec!["10.0.0.1".parse().unwrap()],
            ..resolver
        };
        assert_eq!(rules(Family::V6, &v4_only).unwrap(), None);
    }
}
