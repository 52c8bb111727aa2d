//! Services: what the containers of all hosts and etcd say of them, and what follows for the kernel and the resolver. No
//! socket and no file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pontoon_conf::Cidr;
use pontoon_ledger::record::names::{Record, RemoteNames, Service, ServiceMode, ServicePort};
use pontoon_netfilter::nft::{Entrance, EntranceTarget};
use serde::{Deserialize, Serialize};

use crate::choose::address;
use crate::cluster::Cluster;
use crate::names::{self, Endpoints};
use crate::value::EndpointValue;

/// The first number that a service gets: the first address of a range is that of a network.
const FIRST: u32 = 1;

/// A service of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    /// What its name means.
    pub(crate) mode: ServiceMode,
    /// Connections of one client go to one container.
    pub(crate) affinity: bool,
    /// Its own addresses, where it has some.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its ports; whatever is sent to its addresses when there is none.
    pub(crate) ports: Vec<String>,
    /// Its containers on hosts that are alive.
    pub(crate) backends: Vec<BackendStatus>,
}

/// A container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendStatus {
    /// Its host.
    pub(crate) host: String,
    /// Its id.
    pub(crate) container: String,
    /// Its addresses on the network.
    pub(crate) addresses: Vec<IpAddr>,
}

impl ServiceStatus {
    /// For people: the addresses, or what its name means instead.
    pub(crate) fn told_addresses(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        match self.mode {
            ServiceMode::Vip => addresses.join(" "),
            ServiceMode::Dnsrr => "its containers'".to_owned(),
        }
    }

    /// For people: the ports.
    pub(crate) fn told_ports(&self) -> String {
        match self.ports.is_empty() {
            true => "all".to_owned(),
            false => self.ports.join(" "),
        }
    }

    /// For people: the hosts, and on each the containers' addresses.
    pub(crate) fn told_backends(&self) -> String {
        let mut hosts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for backend in &self.backends {
            let first = backend.addresses.first().map(IpAddr::to_string);
            hosts.entry(&backend.host).or_default().extend(first);
        }
        let hosts = hosts
            .iter()
            .map(|(host, addresses)| format!("{host}: {}", addresses.join(" ")));
        hosts.collect::<Vec<_>>().join(", ")
    }
}

/// A container of a service, and what it says of the service.
struct Backend<'a> {
    host: &'a str,
    endpoint: &'a EndpointValue,
    service: &'a Service,
}

/// The services of one network.
pub(crate) struct Services<'a> {
    network: &'a str,
    /// By name, each container in the order of hosts and addresses.
    backends: BTreeMap<&'a str, Vec<Backend<'a>>>,
    cluster: &'a Cluster,
}

/// Numbers of a network's services, by name.
pub(crate) type Numbers = BTreeMap<String, u32>;

/// A service gets a number: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// The network.
    pub(crate) network: String,
    /// The service.
    pub(crate) name: String,
    /// Its number.
    pub(crate) number: u32,
    /// The service without containers that had it, and the revision at which it got it.
    pub(crate) instead_of: Option<(String, i64)>,
}

impl<'a> Services<'a> {
    /// Those of the containers on hosts that are alive. What `own` says of its host comes before what etcd says of it.
    pub(crate) fn of(
        cluster: &'a Cluster,
        network: &'a str,
        own: Option<(&'a str, &'a Endpoints)>,
    ) -> Self {
        let host = own.map(|(host, _)| host);
        let others = cluster.endpoints.iter().filter(|(other, _)| {
            host != Some(other.as_str()) && cluster.alive.contains_key(other.as_str())
        });
        let others =
            others.filter_map(|(other, networks)| Some((other.as_str(), networks.get(network)?)));
        // By host: then every host has the same order.
        let hosts: BTreeMap<&str, &Endpoints> = others.chain(own).collect();
        let mut backends: BTreeMap<&str, Vec<Backend<'_>>> = BTreeMap::new();
        for (host, endpoints) in hosts {
            for endpoint in endpoints.values() {
                if let Some(service) = &endpoint.service {
                    let of_service = backends.entry(&service.name).or_default();
                    of_service.push(Backend {
                        host,
                        endpoint,
                        service,
                    });
                }
            }
        }
        Self {
            network,
            backends,
            cluster,
        }
    }

    fn ranges(&self) -> &'a [Cidr] {
        let value = self.cluster.networks.get(self.network);
        value.map_or(&[], |value| &value.services)
    }

    /// The number of a service, when both of its keys say so.
    fn number(&self, name: &str) -> Option<u32> {
        let number = *self.cluster.services.get(self.network)?.get(name)?;
        let (of, _) = self.cluster.numbers.get(self.network)?.get(&number)?;
        (of == name).then_some(number)
    }

    /// The addresses of a service that has a number, of each range one.
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let Some(number) = self.number(name) else {
            return Vec::new();
        };
        let ranges = self.ranges().iter();
        ranges.filter_map(|range| address(*range, number)).collect()
    }

    /// What leads to the containers of all services.
    pub(crate) fn entrances(&self) -> Vec<Entrance> {
        let mut entrances = Vec::new();
        for (name, backends) in &self.backends {
            let Some(first) = backends.first().map(|it| it.service) else {
                continue;
            };
            if first.mode == ServiceMode::Dnsrr {
                continue;
            }
            for address in self.addresses(name) {
                let mut ports: BTreeMap<Option<(_, u16)>, BTreeSet<EntranceTarget>> =
                    BTreeMap::new();
                for backend in backends {
                    let of_family = |it: &&IpAddr| it.is_ipv4() == address.is_ipv4();
                    let Some(to) = backend.endpoint.addresses.iter().find(of_family) else {
                        continue;
                    };
                    let mut lead = |port, to_port| {
                        let targets = ports.entry(port).or_default();
                        targets.insert(EntranceTarget {
                            address: *to,
                            port: to_port,
                        });
                    };
                    for port in &backend.service.ports {
                        lead(Some((port.protocol, port.port)), port.target);
                    }
                    if backend.service.ports.is_empty() {
                        lead(None, 0);
                    }
                }
                entrances.extend(ports.into_iter().map(|(port, targets)| Entrance {
                    address,
                    port,
                    by_source: first.affinity,
                    targets: targets.into_iter().collect(),
                }));
            }
        }
        entrances
    }

    /// What the resolver is told: the name of each service, and `tasks.` before it for its containers.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (name, backends) in &self.backends {
            let Some(first) = backends.first() else {
                continue;
            };
            let record = |value: &EndpointValue, container: &str, interface: &str| Record {
                container: RemoteNames::service(container),
                interface: interface.to_owned(),
                names: Vec::new(),
                aliases: Vec::new(),
                ..names::record(self.network, "", value)
            };
            let addresses = self.addresses(name);
            if first.service.mode == ServiceMode::Vip && !addresses.is_empty() {
                records.push(Record {
                    names: vec![(*name).to_owned()],
                    addresses,
                    ..record(first.endpoint, name, "vip")
                });
            }
            let tasks = format!("tasks.{name}");
            for backend in backends {
                let Some(address) = backend.endpoint.addresses.first() else {
                    continue;
                };
                let mut lists = vec![tasks.as_str()];
                if first.service.mode == ServiceMode::Dnsrr {
                    lists.push(name);
                }
                for list in lists {
                    records.push(Record {
                        aliases: vec![list.to_owned()],
                        ..record(backend.endpoint, list, &address.to_string())
                    });
                }
            }
        }
        records
    }

    /// The service that gets a number next, of those that this host has containers of. One at a time: what comes of it is
    /// seen before the next one. `before` are the numbers that services had: etcd may have lost them.
    pub(crate) fn numbering(&self, host: &str, before: &Numbers) -> Option<Numbering> {
        let ranges = self.ranges();
        if ranges.is_empty() {
            return None;
        }
        let (name, _) = self.backends.iter().find(|(name, backends)| {
            let own = backends.iter().any(|backend| backend.host == host);
            let vip = backends
                .first()
                .is_some_and(|it| it.service.mode == ServiceMode::Vip);
            let keys = self.cluster.services.get(self.network);
            own && vip && !keys.is_some_and(|keys| keys.contains_key(**name))
        })?;
        let none = BTreeMap::new();
        let taken = self.cluster.numbers.get(self.network).unwrap_or(&none);
        // The last address is that of a broadcast.
        let exists = |number: u32| {
            ranges
                .iter()
                .all(|range| address(*range, number + 1).is_some())
        };
        let had = before.get(*name).copied();
        let mut numbers = had
            .filter(|number| exists(*number))
            .into_iter()
            .chain((FIRST..).take_while(|number| exists(*number)));
        let (number, instead_of) = match numbers.find(|number| !taken.contains_key(number)) {
            Some(number) => (number, None),
            None => {
                let mut unused: Vec<_> = taken.iter().collect();
                unused.retain(|(number, (of, _))| exists(**number) && !self.is_used(of));
                let (number, of) = unused.into_iter().min_by_key(|(_, (_, since))| *since)?;
                (*number, Some(of.clone()))
            }
        };
        Some(Numbering {
            network: self.network.to_owned(),
            name: (*name).to_owned(),
            number,
            instead_of,
        })
    }

    /// The numbers that are known: etcd's, and those from before of services that have containers.
    pub(crate) fn numbers(&self, before: &Numbers) -> Numbers {
        let mut numbers = before.clone();
        numbers.retain(|name, _| self.backends.contains_key(name.as_str()));
        let now = self.cluster.services.get(self.network);
        numbers.extend(
            now.into_iter()
                .flatten()
                .map(|(name, number)| (name.clone(), *number)),
        );
        numbers
    }

    /// Whether a container says that it is of a service, its host dead or alive.
    fn is_used(&self, name: &str) -> bool {
        let told = self.cluster.endpoints.values();
        let told = told.filter_map(|networks| networks.get(self.network));
        let mut told = told.flat_map(Endpoints::values);
        let is_of = |it: &EndpointValue| it.service.as_ref().is_some_and(|it| it.name == name);
        self.backends.contains_key(name) || told.any(is_of)
    }

    /// What is not as it should be: what it is about, and what it is.
    pub(crate) fn warnings(&self) -> BTreeMap<String, String> {
        let mut warnings = BTreeMap::new();
        for (name, backends) in &self.backends {
            let about = format!("service {name} of network {}", self.network);
            let Some(first) = backends.first() else {
                continue;
            };
            let other = backends.iter().find(|it| {
                (it.service.mode, it.service.affinity)
                    != (first.service.mode, first.service.affinity)
            });
            if let Some(other) = other {
                let text = format!(
                    "container {} on {} and container {} on {} differ in mode or affinity: what the first one says counts",
                    first.endpoint.container, first.host, other.endpoint.container, other.host
                );
                warnings.insert(about, text);
                continue;
            }
            if first.service.mode == ServiceMode::Dnsrr || self.number(name).is_some() {
                continue;
            }
            let keys = self.cluster.services.get(self.network);
            let text = if self.ranges().is_empty() {
                "the network has no range for addresses of services: make one with `pontoon network create --services`, or \
                 use mode \"dnsrr\""
            } else if keys.is_some_and(|keys| keys.contains_key(*name)) {
                "its two keys in etcd contradict each other: delete both"
            } else if self.numbering(first.host, &Numbers::new()).is_none() {
                "no address is free, and every service that has one has containers"
            } else {
                // It gets one as soon as etcd answers.
                continue;
            };
            warnings.insert(about, text.to_owned());
        }
        warnings
    }

    /// All of it, by name.
    pub(crate) fn status(&self) -> BTreeMap<String, ServiceStatus> {
        let services = self.backends.iter().filter_map(|(name, backends)| {
            let first = backends.first()?.service;
            let ports: BTreeSet<ServicePort> = backends
                .iter()
                .flat_map(|it| it.service.ports.iter().copied())
                .collect();
            let told = |port: &ServicePort| format!("{}/{}", port.port, port.protocol);
            let mut ports: Vec<String> = ports.iter().map(told).collect();
            ports.dedup();
            let status = ServiceStatus {
                mode: first.mode,
                affinity: first.affinity,
                addresses: match first.mode {
                    ServiceMode::Vip => self.addresses(name),
                    ServiceMode::Dnsrr => Vec::new(),
                },
                ports,
                backends: backends
                    .iter()
                    .map(|backend| BackendStatus {
                        host: backend.host.to_owned(),
                        container: backend.endpoint.container.clone(),
                        addresses: backend.endpoint.addresses.clone(),
                    })
                    .collect(),
            };
            Some(((*name).to_owned(), status))
        });
        services.collect()
    }
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
