//! Decisions: configuration and the result of the plugins before in, what is to be held out.

use std::net::IpAddr;

use pontoon_conf::{AddResult, KnownAs};
use pontoon_ledger::{FirewallRecord, Key, LinkRequest};
use pontoon_netfilter::{Ingress, Link, Member, Policy};

use crate::error::PolicyError;

/// Where the attachment is, as the result of the plugins before tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachmentLocation {
    /// The first interface on the host's side: the bridge, where there is one.
    pub(crate) bridge: Option<String>,
    /// The second one: the host's end of the veth pair.
    pub(crate) port: Option<String>,
    /// The container's addresses, each once.
    pub(crate) addresses: Vec<IpAddr>,
}

pub(crate) fn place(previous: &AddResult) -> AttachmentLocation {
    let mut outer = previous
        .interfaces
        .iter()
        .filter(|interface| interface.sandbox.as_deref().is_none_or(str::is_empty))
        .map(|interface| interface.name.clone());
    let (bridge, port) = (outer.next(), outer.next());
    let mut addresses = Vec::new();
    for ip in &previous.ips {
        if !addresses.contains(&ip.address.addr()) {
            addresses.push(ip.address.addr());
        }
    }
    AttachmentLocation {
        bridge,
        port,
        addresses,
    }
}

/// The policy of the network on its bridge; none when everything is open and there is no bridge.
pub(crate) fn policy(
    request: &Policy,
    bridge: Option<&str>,
) -> Result<Option<Policy>, PolicyError> {
    if let Some(bridge) = bridge {
        if request.trusted.iter().any(|name| name == bridge) {
            return Err(PolicyError::TrustedOwn {
                bridge: bridge.to_owned(),
            });
        }
        return Ok(Some(Policy {
            bridge: bridge.to_owned(),
            ..request.clone()
        }));
    }
    let open = request.icc
        && !request.isolated
        && !request.closed
        && !request.internal
        && request.host_access
        && request.ingress == Ingress::Open;
    if open {
        return Ok(None);
    }
    Err(PolicyError::NoBridge)
}

/// The names of the container itself that it wishes to reach.
pub(crate) fn own<'a>(links: &'a [LinkRequest], names: &[KnownAs]) -> Vec<&'a KnownAs> {
    let wished = links.iter().map(|link| &link.container);
    wished.filter(|name| names.contains(name)).collect()
}

/// The links from one attachment to another one that bears the name.
pub(crate) fn links(
    bridge: &str,
    from: (&Key, &[IpAddr]),
    request: &LinkRequest,
    to: &[IpAddr],
) -> Vec<Link> {
    let (key, sources) = from;
    let mut links = Vec::new();
    for source in sources {
        for target in to
            .iter()
            .filter(|target| target.is_ipv4() == source.is_ipv4())
        {
            links.extend(request.ports.iter().map(|&(protocol, port)| Link {
                owner: key.owner(),
                bridge: bridge.to_owned(),
                from: *source,
                to: *target,
                protocol,
                port,
            }));
        }
    }
    links
}

/// What passes by its own addresses: only who is on no bridge, since a bridge has the policy.
pub(crate) fn member(key: &Key, record: &FirewallRecord) -> Option<Member> {
    record.bridge.is_none().then(|| Member {
        owner: key.owner(),
        addresses: record.addresses.clone(),
        admin_chain: match &record.admin_chain {
            Some(name) => name.clone(),
            None => Policy::open("", "").admin_chain,
        },
    })
}

#[cfg(test)]
mod tests {
    use pontoon_conf::{Interface, IpConfig};
    use pontoon_netfilter::Protocol;

    use super::*;

    fn result(interfaces: &[(&str, bool)], addresses: &[&str]) -> AddResult {
        AddResult {
            interfaces: interfaces
                .iter()
                .map(|(name, inside)| Interface {
                    name: (*name).into(),
                    sandbox: inside.then(|| "/run/netns/c".into()),
                    ..Interface::default()
                })
                .collect(),
            ips: addresses
                .iter()
                .map(|address| IpConfig {
                    interface: None,
                    address: address.parse().unwrap(),
                    gateway: None,
                })
                .collect(),
            ..AddResult::default()
        }
    }

    #[test]
    fn the_first_outer_interface_is_the_bridge() {
        let found = place(&result(
            &[("cni0", false), ("veth1", false), ("eth0", true)],
            &["10.0.0.2/24", "fd00::2/64", "10.0.0.2/24"],
        ));
        assert_eq!(found.bridge.as_deref(), Some("cni0"));
        assert_eq!(found.port.as_deref(), Some("veth1"));
        assert_eq!(found.addresses.len(), 2);
        let none = place(&result(&[], &[]));
        assert_eq!((none.bridge, none.port), (None, None));
    }

    #[test]
    fn only_an_open_network_needs_no_bridge() {
        let open = Policy::open("net", "");
        assert_eq!(policy(&open, None).unwrap(), None);
        let held = policy(&open, Some("cni0")).unwrap().unwrap();
        assert_eq!(held, Policy::open("net", "cni0"));
        assert!(policy(&Policy::docker("net", ""), None).is_err());
        let own = Policy {
            trusted: vec!["cni0".into()],
            ..Policy::docker("net", "")
        };
        assert!(policy(&own, Some("cni0")).is_err());
    }

    #[test]
    fn links_stay_in_their_family() {
        let key = Key {
            network: "net".into(),
            container: "c".into(),
            interface: "eth0".into(),
        };
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let request = LinkRequest {
            container: "db".parse().unwrap(),
            ports: vec![(Protocol::Tcp, 1), (Protocol::Udp, 2)],
        };
        let from = addresses(&["10.0.0.2", "fd00::2"]);
        let made = links("cni0", (&key, &from), &request, &addresses(&["10.0.0.3"]));
        assert_eq!(made.len(), 2);
        assert!(made.iter().all(|link| link.from == from[0]));
        assert_eq!(own(&[request], &["db".parse().unwrap()]).len(), 1);
    }
}
