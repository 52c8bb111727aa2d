//! Decisions: configuration and the result of the plugins before in, a record and files out.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_conf::{AddResult, Route};
use pontoon_dns::record::{Record, Upstream, VERSION};
use pontoon_dns::resolv_conf::{ClientNetwork, ContainerResolver, ResolvConf, ResolvConfInput};
use pontoon_ledger::Key;
use pontoon_netfilter::Resolver;
use pontoon_netlink::IpNetwork;

use crate::config::Config;
use crate::error::PlaceError;

/// Where the container is, as the plugins before say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContainerLocation {
    pub(crate) addresses: Vec<IpAddr>,
    /// Of each address, if the host has it.
    pub(crate) gateways: Vec<IpAddr>,
    /// The subnets of the addresses.
    pub(crate) subnets: Vec<IpNetwork>,
}

/// Whether the network has no way to the outside. `noted` is what the bridge's plugin has noted of
/// it: whether it is internal, and whether it is masqueraded. Without either, a container that has
/// no route beyond its own subnets is on a network like podman's `--internal`.
pub(crate) fn is_internal(
    place: &ContainerLocation,
    previous: &AddResult,
    noted: Option<(bool, bool)>,
) -> bool {
    let (internal, masqueraded) = noted.unwrap_or_default();
    let leads_out = |route: &Route| {
        let target = IpNetwork::from(route.dst);
        !place
            .subnets
            .iter()
            .any(|subnet| subnet.contains(target.ip()) && subnet.prefix() <= target.prefix())
    };
    internal || !masqueraded && !previous.routes.iter().any(leads_out)
}

/// The addresses of the container's interface, and its gateways.
pub(crate) fn place(
    key: &Key,
    previous: Option<&AddResult>,
) -> Result<ContainerLocation, PlaceError> {
    let previous = previous.ok_or(PlaceError::NoPrevResult)?;
    let mut place = ContainerLocation::default();
    for ip in previous.ips_of(&key.interface) {
        place.addresses.push(ip.address.addr());
        place.subnets.push(ip.address.into());
        if let Some(gateway) = ip.gateway
            && !place.gateways.contains(&gateway)
        {
            place.gateways.push(gateway);
        }
    }
    if place.addresses.is_empty() {
        return Err(PlaceError::NoAddress {
            interface: key.interface.clone(),
        });
    }
    Ok(place)
}

/// The record for the resolver. Without gateways it is not served, and names nothing.
pub(crate) fn record(
    key: &Key,
    config: &Config,
    place: &ContainerLocation,
    previous: &AddResult,
    netns: Option<&str>,
    internal: bool,
) -> Record {
    let served = !place.gateways.is_empty();
    let network_servers = || {
        previous
            .dns
            .nameservers
            .iter()
            .filter_map(|text| pontoon_conf::address(text).ok())
            .map(Upstream::from)
            .collect()
    };
    Record {
        version: VERSION,
        network: key.network.clone(),
        container: key.container.clone(),
        interface: key.interface.clone(),
        names: if served {
            config.names.clone()
        } else {
            Vec::new()
        },
        aliases: Vec::new(),
        links: if served {
            config.links.clone()
        } else {
            Vec::new()
        },
        addresses: place.addresses.clone(),
        gateways: place.gateways.clone(),
        domain: config.domain.clone(),
        ttl: config.ttl,
        servers: config.servers.clone(),
        upstreams: if config.upstreams.is_empty() {
            network_servers()
        } else {
            config.upstreams.clone()
        },
        domains: config.domains.clone(),
        upstreams_ca: config.upstreams_ca.clone(),
        resolv_conf: config.resolv_conf.clone(),
        netns: netns.map(PathBuf::from),
        internal,
        subnets: place.subnets.clone(),
        service: config.service.clone(),
    }
}

/// What the container's resolv.conf says, and warnings: that it reaches no server of the host, and
/// what cannot stand in the file.
pub(crate) fn inside(
    record: &Record,
    config: &Config,
    host: (PathBuf, Option<ResolvConf>),
    previous: &AddResult,
    silent: &[IpAddr],
) -> (ContainerResolver, Vec<String>) {
    let has = |v4: bool| {
        record
            .addresses
            .iter()
            .any(|address| address.is_ipv4() == v4)
    };
    let nearest = |runtime: &[String], network: &[String]| -> Vec<String> {
        if runtime.is_empty() { network } else { runtime }.to_vec()
    };
    let servers = if record.servers.is_empty() {
        let plain = |server: &Upstream| server.tls.is_none().then(|| server.at.ip());
        record.upstreams.iter().filter_map(plain).collect()
    } else {
        record.servers.clone()
    };
    let wanted = ResolvConfInput {
        host,
        audience: ClientNetwork {
            v4: has(true),
            v6: has(false),
            on_host: false,
            ours: &record.gateways,
            silent,
        },
        resolver: record.gateways.clone(),
        domain: &record.domain,
        servers,
        search: nearest(&config.searches, &previous.dns.search),
        options: nearest(&config.options, &previous.dns.options),
    };
    let (inside, warning) = wanted.inside();
    let warnings = wanted.unfit().into_iter().chain(warning).collect();
    (inside, warnings)
}

/// What is said of a host's file that names no server to be asked. `read` is why it cannot be read.
pub(crate) fn without_servers(
    record: &Record,
    host: &(PathBuf, Option<ResolvConf>),
    read: Option<&io::Error>,
) -> Option<String> {
    let (path, conf) = host;
    let path = path.display();
    if let Some(error) = read {
        return Some(format!(
            "resolvConf {path} cannot be read ({error}): its servers, search domains and options are missing until it is there"
        ));
    }
    let own = !record.servers.is_empty() || !record.upstreams.is_empty();
    if own || record.gateways.is_empty() || record.internal {
        return None;
    }
    // The resolver asks from the host, where loopback servers are reached too.
    let audience = ClientNetwork {
        v4: true,
        v6: true,
        on_host: true,
        ours: &record.gateways,
        silent: &[],
    };
    let (usable, _) = conf.as_ref()?.usable(&audience);
    usable.is_empty().then(|| {
        format!("{path} names no server that can be asked: only names of the network are resolved")
    })
}

/// The way to the resolver.
pub(crate) fn redirect(record: &Record, port: u16) -> Resolver {
    Resolver {
        network: record.network.clone(),
        gateways: record.gateways.clone(),
        port,
    }
}

/// The name of a namespace that `ip netns` knows, of which `/etc/netns` may say more.
pub(crate) fn netns_name(path: &str) -> Option<&str> {
    let path = Path::new(path);
    let known = ["/run/netns", "/var/run/netns"].map(Path::new);
    let parent = path.parent()?;
    known
        .contains(&parent)
        .then(|| path.file_name()?.to_str())
        .flatten()
}

#[cfg(test)]
mod tests {
    use pontoon_conf::{Interface, IpConfig};

    use super::*;

    fn key() -> Key {
        Key {
            network: "net".into(),
            container: "c".into(),
            interface: "eth0".into(),
        }
    }

    fn result() -> AddResult {
        let interface = |name: &str, sandbox: Option<&str>| Interface {
            name: name.into(),
            sandbox: sandbox.map(str::to_owned),
            ..Interface::default()
        };
        let ip = |index, address: &str, gateway: &str| IpConfig {
            interface: Some(index),
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
        };
        AddResult {
            interfaces: vec![
                interface("br0", None),
                interface("eth0", Some("/run/netns/c")),
                interface("eth1", Some("/run/netns/c")),
            ],
            ips: vec![
                ip(1, "10.1.0.2/24", "10.1.0.1"),
                ip(1, "fd01::2/64", "fd01::1"),
                ip(2, "10.2.0.2/24", "10.2.0.1"),
            ],
            ..AddResult::default()
        }
    }

    #[test]
    fn only_the_interface_in_question_counts() {
        let place = place(&key(), Some(&result())).unwrap();
        let texts = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&place.addresses), ["10.1.0.2", "fd01::2"]);
        assert_eq!(texts(&place.gateways), ["10.1.0.1", "fd01::1"]);
    }

    #[test]
    fn without_an_address_there_is_nothing_to_name() {
        assert!(place(&key(), None).is_err());
        assert!(place(&key(), Some(&AddResult::default())).is_err());
    }

    #[test]
    fn named_namespaces() {
        assert_eq!(netns_name("/run/netns/c1"), Some("c1"));
        assert_eq!(netns_name("/var/run/netns/c1"), Some("c1"));
        assert_eq!(netns_name("/proc/7/ns/net"), None);
        assert_eq!(netns_name("/run/netns"), None);
        assert_eq!(netns_name(""), None);
    }
}
