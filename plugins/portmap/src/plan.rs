//! Decisions: configuration and the result of the plugins before in, rules out.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use pontoon_conf::AddResult;
use pontoon_ledger::Key;
use pontoon_netfilter::Published;

use crate::config::Config;
use crate::error::PlanError;

/// The rules of an attachment: its ports lead to the first IPv4 and the first IPv6 address of the
/// container's interface. `None`: nothing is to be published, or the network gives no addresses.
pub(crate) fn published(
    key: &Key,
    config: &Config,
    previous: Option<&AddResult>,
) -> Result<Option<Published>, PlanError> {
    if config.ports.is_empty() {
        return Ok(None);
    }
    let previous = previous.ok_or(PlanError::NoPrevResult)?;
    let address = |v4: bool| {
        previous
            .ips_of(&key.interface)
            .find(|ip| ip.address.is_ipv4() == v4)
            .map(|ip| IpNetwork::from(ip.address))
    };
    let (v4, v6) = (address(true), address(false));
    if v4.is_none() && v6.is_none() {
        return Ok(None);
    }
    // A mapping of the other family cannot be served: skipped, as the reference plugin does.
    let served = |ip: Option<IpAddr>| match ip {
        None => true,
        Some(IpAddr::V4(_)) => v4.is_some(),
        Some(IpAddr::V6(_)) => v6.is_some(),
    };
    let ports: Vec<_> = config
        .ports
        .iter()
        .filter(|port| served(port.host_ip))
        .copied()
        .collect();
    if ports.is_empty() {
        return Ok(None);
    }
    Ok(Some(Published {
        owner: key.owner(),
        v4,
        v6,
        ports,
        beside: Vec::new(),
        snat: config.snat,
        masquerade_all: config.masquerade_all,
        mark: config.mark.clone(),
        conditions_v4: config.conditions_v4.clone(),
        conditions_v6: config.conditions_v6.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use pontoon_conf::{Interface, IpConfig, OperationError as _, code};
    use pontoon_netfilter::{Mark, Port, Protocol};

    use super::*;

    fn key() -> Key {
        Key {
            network: "net".into(),
            container: "c".into(),
            interface: "eth0".into(),
        }
    }

    fn config(host_ips: &[Option<&str>]) -> Config {
        Config {
            backend: None,
            snat: true,
            masquerade_all: false,
            mark: Mark::Bit(13),
            conditions_v4: Vec::new(),
            conditions_v6: Vec::new(),
            ports: host_ips
                .iter()
                .map(|ip| Port {
                    protocol: Protocol::Tcp,
                    host_ip: ip.map(|ip| ip.parse().unwrap()),
                    host_port: 8080,
                    container_port: 80,
                })
                .collect(),
        }
    }

    fn result(addresses: &[&str]) -> AddResult {
        let interface = |name: &str, sandbox: Option<&str>| Interface {
            name: name.into(),
            sandbox: sandbox.map(str::to_owned),
            ..Interface::default()
        };
        AddResult {
            interfaces: vec![
                interface("cni0", None),
                interface("eth0", Some("/run/netns/c")),
            ],
            ips: addresses
                .iter()
                .map(|address| IpConfig {
                    interface: Some(1),
                    address: address.parse().unwrap(),
                    gateway: None,
                })
                .collect(),
            ..AddResult::default()
        }
    }

    #[test]
    fn ports_of_a_family_that_the_container_lacks_are_skipped() {
        let all = config(&[None, Some("::1"), Some("127.0.0.1")]);
        let rules = published(&key(), &all, Some(&result(&["10.1.0.2/24"])))
            .unwrap()
            .unwrap();
        assert_eq!(rules.ports.len(), 2);
        assert_eq!(rules.v4, Some("10.1.0.2/24".parse().unwrap()));
        let six = config(&[Some("::1")]);
        assert_eq!(
            published(&key(), &six, Some(&result(&["10.1.0.2/24"]))).unwrap(),
            None
        );
    }

    #[test]
    fn without_ports_nothing_is_asked_of_the_result() {
        assert_eq!(published(&key(), &config(&[]), None).unwrap(), None);
    }

    #[test]
    fn a_result_without_address_is_passed_over_and_none_is_refused() {
        let rules = published(&key(), &config(&[None]), Some(&result(&[])));
        assert_eq!(rules.unwrap(), None);
        let error = published(&key(), &config(&[None]), None).unwrap_err();
        assert_eq!(error.code(), code::INVALID_CONFIG);
    }
}
