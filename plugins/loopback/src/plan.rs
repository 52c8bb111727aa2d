//! Decisions: which addresses `lo` may have, and what ADD answers.

use pontoon_conf::{AddResult, Cidr, Interface, IpConfig};

/// The first address that does not belong on a loopback interface.
pub(crate) fn foreign_address(addresses: &[Cidr]) -> Option<Cidr> {
    addresses
        .iter()
        .copied()
        .find(|address| !address.addr().is_loopback())
}

/// The result of an ADD that is first in its chain.
pub(crate) fn result(sandbox: Option<String>, addresses: Vec<Cidr>) -> AddResult {
    AddResult {
        interfaces: vec![Interface {
            name: "lo".to_owned(),
            mac: Some("00:00:00:00:00:00".to_owned()),
            sandbox,
            ..Interface::default()
        }],
        ips: addresses
            .into_iter()
            .map(|address| IpConfig {
                interface: Some(0),
                address,
                gateway: None,
            })
            .collect(),
        ..AddResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_that_is_not_of_loopback_is_found() {
        let own = addresses(&["127.0.0.1/8", "::1/128", "127.1.2.3/32"]);
        assert_eq!(foreign_address(&own), None);
        let mixed = addresses(&["127.0.0.1/8", "10.0.0.1/24"]);
        assert_eq!(foreign_address(&mixed), Some(mixed[1]));
    }

    #[test]
    fn the_result_lists_each_address_on_lo() {
        let result = result(
            Some("/run/netns/a".to_owned()),
            addresses(&["127.0.0.1/8", "::1/128"]),
        );
        assert_eq!(result.interfaces[0].name, "lo");
        assert!(result.ips.iter().all(|ip| ip.interface == Some(0)));
        assert_eq!(result.ips.len(), 2);
    }
}
