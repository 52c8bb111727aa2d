//! The text of the way into the host for questions to the embedded resolver, where the host's INPUT
//! chain drops: one rule per gateway and protocol, in a chain that all networks share.
//!
//! ```text
//! INPUT              -> CNI-PONTOON-NAMES
//! CNI-PONTOON-NAMES  -d GATEWAY -i BRIDGE -p udp|tcp --dport PORT ACCEPT
//!                    -s CONTAINER -d GATEWAY -p udp|tcp --dport PORT ACCEPT    where there is no bridge
//! ```
//!
//! The jump stands at the head, but behind that of networks without access to the host: what those close
//! stays closed.

use std::net::IpAddr;

use super::error::TextError;
use super::resolver_port::ResolverPortRules;
use super::text::{Family, Rule};
use crate::interface::interface;
use crate::rules::Opening;

/// The chain that every network shares.
pub(super) const SHARED: &str = "CNI-PONTOON-NAMES";

/// The rules of one family; `None` when the network has no gateway or no source of it.
pub(super) fn rules(
    family: Family,
    opening: &Opening,
) -> Result<Option<ResolverPortRules>, TextError> {
    let by = match &opening.interface {
        Some(bridge) => format!("-i {} ", interface(bridge)?),
        None => String::new(),
    };
    // By the bridge come the network's own containers alone.
    let sources: Vec<String> = match &opening.interface {
        Some(_) => vec![String::new()],
        None => opening
            .sources
            .iter()
            .filter(|source| Family::of(source.ip()) == family)
            .map(|source| format!("-s {}/{} ", source.network(), source.prefix()))
            .collect(),
    };
    let (network, port, bits) = (&opening.network, opening.port, family.address_bits());
    let specs = |gateway: IpAddr, protocol: &str, comment: &str| {
        let spec = |source: &String| {
            format!(
                "{source}-d {gateway}/{bits} {by}-p {protocol} -m {protocol} --dport {port} {comment} -j ACCEPT"
            )
        };
        sources.iter().map(spec).collect()
    };
    ResolverPortRules::new(SHARED, family, network, &opening.gateways, port, specs)
}

/// Everything, for a check.
pub(super) fn all(text: &ResolverPortRules) -> Vec<Rule> {
    std::iter::once(jump())
        .chain(text.rules.iter().cloned())
        .collect()
}

/// What leads to the shared chain.
pub(super) fn jump() -> Rule {
    Rule::new("INPUT", format!("-j {SHARED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_per_source_gateway_and_protocol() {
        let opening = Opening {
            network: "lan".into(),
            interface: Some("lan0".into()),
            sources: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            port: 21053,
        };
        let v6 = rules(Family::V6, &opening).unwrap().unwrap();
        let texts: Vec<String> = v6.rules.iter().map(Rule::append).collect();
        assert_eq!(texts.len(), 2);
        assert_eq!(
            texts[1],
            "-A CNI-PONTOON-NAMES -d fd00::1/128 -i lan0 -p tcp -m tcp --dport 21053 -m comment --comment \"pontoon lan (dns 21053)\" -j ACCEPT"
        );
        let routed = Opening {
            interface: None,
            sources: vec!["10.0.0.0/24".parse().unwrap()],
            ..opening
        };
        assert_eq!(rules(Family::V6, &routed).unwrap(), None);
        let v4 = rules(Family::V4, &routed).unwrap().unwrap();
        assert!(
            v4.rules[0]
                .spec
                .starts_with("-s 10.0.0.0/24 -d 10.0.0.1/32 -p udp")
        );
    }
}
