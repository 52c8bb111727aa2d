//! Names over hosts: what this host tells of its containers, and what the resolver is told of the others'.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use pontoon_ledger::record::names::{Record, RemoteNames, VERSION};
use pontoon_ledger::{AttachmentRecord, DnsRecord, State};

use crate::cluster::Cluster;
use crate::key::Key;
use crate::value::EndpointValue;

/// Containers with names, by their first address.
pub(crate) type Endpoints = BTreeMap<IpAddr, EndpointValue>;

/// A change within the clock's tick (4 ms or less) after the last look has the same time as that.
const TICK_MS: u128 = 100;

/// What this host tells of a container; `None` when it has no address, or neither a name nor a service.
pub(crate) fn told_of(record: Record) -> Option<(IpAddr, EndpointValue)> {
    let first = *record.addresses.first()?;
    let nameless = record.names.is_empty() && record.aliases.is_empty();
    if nameless && record.service.is_none() {
        return None;
    }
    let value = EndpointValue {
        container: record.container,
        interface: record.interface,
        names: record.names,
        aliases: record.aliases,
        addresses: record.addresses,
        domain: record.domain,
        ttl: record.ttl,
        service: record.service,
    };
    Some((first, value))
}

/// What has to be written so that etcd says of this host's containers what is wanted: keys, and their values or `None`
/// for those that go.
pub(crate) fn changes(
    host: &str,
    told: &BTreeMap<String, Endpoints>,
    wanted: &BTreeMap<String, Endpoints>,
) -> Vec<(String, Option<Vec<u8>>)> {
    let key = |network: &str, address: &IpAddr| {
        Key::Endpoint(host.to_owned(), network.to_owned(), *address).path()
    };
    let mut changes = Vec::new();
    for (network, endpoints) in wanted {
        let told = told.get(network);
        for (address, value) in endpoints {
            if told.and_then(|told| told.get(address)) != Some(value) {
                let text = serde_json::to_vec(value).unwrap_or_default();
                changes.push((key(network, address), Some(text)));
            }
        }
    }
    for (network, endpoints) in told {
        let wanted = wanted.get(network);
        let gone = endpoints
            .keys()
            .filter(|address| wanted.is_none_or(|wanted| !wanted.contains_key(*address)));
        changes.extend(gone.map(|address| (key(network, address), None)));
    }
    changes
}

/// What the resolver is told of a network: the containers of all other hosts that are alive.
pub(crate) fn of_others(cluster: &Cluster, network: &str, host: &str) -> RemoteNames {
    let others = cluster
        .endpoints
        .iter()
        .filter(|(other, _)| other.as_str() != host && cluster.alive.contains_key(other.as_str()));
    let records = others.flat_map(|(other, networks)| {
        let endpoints = networks.get(network).into_iter().flatten();
        endpoints.map(|(_, value)| record(network, other, value))
    });
    RemoteNames {
        records: records.collect(),
    }
}

pub(crate) fn record(network: &str, host: &str, value: &EndpointValue) -> Record {
    Record {
        version: VERSION,
        network: network.to_owned(),
        container: RemoteNames::container(host, &value.container),
        interface: value.interface.clone(),
        names: value.names.clone(),
        aliases: value.aliases.clone(),
        links: Vec::new(),
        addresses: value.addresses.clone(),
        gateways: Vec::new(),
        domain: value.domain.clone(),
        ttl: value.ttl,
        servers: Vec::new(),
        upstreams: Vec::new(),
        domains: Vec::new(),
        upstreams_ca: None,
        resolv_conf: PathBuf::new(),
        netns: None,
        internal: false,
        subnets: Vec::new(),
        service: None,
    }
}

/// The records of this host's containers with names, read again when their folder has changed.
#[derive(Debug, Default)]
pub(crate) struct Names {
    read: BTreeMap<String, (SystemTime, Endpoints)>,
}

impl Names {
    /// What this host tells of a network's containers.
    ///
    /// # Errors
    /// When the folder, or a record, cannot be read: what is not known must not count as gone.
    pub(crate) fn of(&mut self, state: &State, network: &str) -> Result<Endpoints, String> {
        let records = state.records(DnsRecord::FOLDER);
        let folder = records.dir().join(network);
        let changed = match folder.metadata().and_then(|found| found.modified()) {
            Ok(changed) => changed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.read.remove(network);
                return Ok(Endpoints::new());
            }
            Err(error) => return Err(format!("cannot look at {}: {error}", folder.display())),
        };
        if let Some((when, endpoints)) = self.read.get(network) {
            let settled = changed.elapsed().is_ok_and(|age| age.as_millis() > TICK_MS);
            if *when == changed && settled {
                return Ok(endpoints.clone());
            }
        }
        let mut endpoints = Endpoints::new();
        let keys = records.attachments(network);
        for key in keys.map_err(|error| error.to_string())? {
            let path = folder.join(key.file_name());
            // One that is gone meanwhile is no error.
            let record = Record::read(&path).map_err(|error| error.to_string())?;
            endpoints.extend(record.and_then(told_of));
        }
        let known = (changed, endpoints.clone());
        self.read.insert(network.to_owned(), known);
        Ok(endpoints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: &str = r#"{"container":"c1","interface":"eth0","names":["web"],"aliases":["www"],
        "addresses":["10.5.2.2"],"domain":"dns.pontoon","ttl":5}"#;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for host in ["a", "b"] {
            let key = format!("/pontoon/v1/host/{host}/ep/lan/10.5.2.2");
            cluster.put(&key, ENDPOINT.as_bytes(), 1, 1);
            let key = format!("/pontoon/v1/host/{host}/alive");
            cluster.put(&key, br#"{"boot":"x"}"#, 1, 1);
        }
        cluster
    }

    #[test]
    fn the_containers_of_other_hosts_that_are_alive_have_names() {
        let mut cluster = cluster();
        let names = of_others(&cluster, "lan", "a");
        assert_eq!(names.records.len(), 1);
        let record = &names.records[0];
        assert_eq!(record.container, "b/c1");
        assert!(RemoteNames::is_remote(&record.container));
        assert_eq!(record.names, ["web"]);
        assert_eq!(of_others(&cluster, "other", "a"), RemoteNames::default());
        cluster.delete("/pontoon/v1/host/b/alive");
        assert_eq!(of_others(&cluster, "lan", "a"), RemoteNames::default());
        cluster.put("/pontoon/v1/host/b/alive", br#"{"boot":"y"}"#, 2, 2);
        assert_eq!(of_others(&cluster, "lan", "a").records.len(), 1);
        cluster.delete("/pontoon/v1/host/b/ep/lan/10.5.2.2");
        assert_eq!(of_others(&cluster, "lan", "a"), RemoteNames::default());
    }

    #[test]
    fn only_differences_are_written() {
        let told = cluster().endpoints["a"].clone();
        assert_eq!(changes("a", &told, &told), []);
        let none = BTreeMap::new();
        let key = "/pontoon/v1/host/a/ep/lan/10.5.2.2".to_owned();
        assert_eq!(changes("a", &told, &none), [(key.clone(), None)]);
        let written = changes("a", &none, &told);
        assert_eq!((written.len(), &written[0].0), (1, &key));
        assert!(written[0].1.is_some());
        let mut other = told.clone();
        for value in other.values_mut().flat_map(BTreeMap::values_mut) {
            value.ttl = 9;
        }
        assert_eq!(changes("a", &told, &other).len(), 1);
    }

    #[test]
    fn only_what_has_a_name_and_an_address_is_told() {
        let mut names = of_others(&cluster(), "lan", "a");
        let record = names.records.remove(0);
        let (address, value) = told_of(record.clone()).unwrap();
        assert_eq!(address.to_string(), "10.5.2.2");
        assert_eq!(value.aliases, ["www"]);
        let nameless = Record {
            names: Vec::new(),
            aliases: Vec::new(),
            ..record.clone()
        };
        assert!(told_of(nameless).is_none());
        let nowhere = Record {
            addresses: Vec::new(),
            ..record
        };
        assert!(told_of(nowhere).is_none());
    }

    #[test]
    fn records_are_read_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut names) = (State::at(dir.path()), Names::default());
        assert_eq!(names.of(&state, "lan").unwrap(), Endpoints::new());
        let folder = dir.path().join("dns/records/lan");
        std::fs::create_dir_all(&folder).unwrap();
        let text = |address: &str| {
            format!(
                "{{\"version\":1,\"network\":\"lan\",\"container\":\"c\",\"interface\":\"eth0\",\"names\":[\"web\"],\
                 \"addresses\":[\"{address}\"],\"domain\":\"d\",\"ttl\":5,\"resolvConf\":\"/x\"}}"
            )
        };
        std::fs::write(folder.join("c:eth0"), text("10.5.1.2")).unwrap();
        assert_eq!(names.of(&state, "lan").unwrap().len(), 1);
        std::fs::write(folder.join("d:eth0"), text("10.5.1.3")).unwrap();
        assert_eq!(names.of(&state, "lan").unwrap().len(), 2);
        std::fs::write(folder.join("e:eth0"), "{").unwrap();
        assert!(names.of(&state, "lan").is_err());
    }
}
