//! Records of the plugin dns. The record of an attachment tells the resolver about a container on a
//! network; the daemon reads all of them at its start and follows the folder from then on.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use pontoon_netfilter::{BackendKind, Opening, Protocol, Resolver};
use pontoon_netlink::IpNetwork;
use serde::{Deserialize, Serialize};

pub use super::upstream::{Upstream, UpstreamError};
use super::{AttachmentRecord, PerNetworkRecord, is_list};
use crate::{AttachmentSummary, RecordError, Sandbox, file};

/// The version of the format. A file of another one is passed over with a warning.
pub const VERSION: u32 = 1;
/// Largest file that is read, in bytes.
pub const LARGEST: u64 = 256 * 1024;

/// What the resolver knows of one container on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Network name.
    pub network: String,
    /// Container id.
    pub container: String,
    /// Interface name in the container.
    pub interface: String,
    /// The container's own names; the first one is what its addresses are called (PTR).
    pub names: Vec<String>,
    /// Names that several containers may share.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Names that this container alone has for others.
    #[serde(default)]
    pub links: Vec<Link>,
    /// The container's addresses on this network.
    pub addresses: Vec<IpAddr>,
    /// Where the container reaches the resolver: addresses of the network's bridge.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The network's domain.
    pub domain: String,
    /// For how long answers may be kept, in seconds.
    pub ttl: u32,
    /// Servers of the container's own, asked instead of all others, from its namespace.
    #[serde(default)]
    pub servers: Vec<IpAddr>,
    /// Servers of the network, asked instead of the host's.
    #[serde(default)]
    pub upstreams: Vec<Upstream>,
    /// Servers of the network for names below a domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
    /// File of the certificate authorities that servers over TLS are checked against; the host's own by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstreams_ca: Option<PathBuf>,
    /// The host's resolv.conf, which names the servers that questions are forwarded to by default.
    pub resolv_conf: PathBuf,
    /// Path of the container's network namespace.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The network has no way to the outside, so that its names must not have one either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Subnets of the addresses: servers in them may be asked even where names of the outside may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNetwork>,
    /// The service that the container is one of: the agent of a host among several reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
}

/// A service, as one of its containers tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name on the network.
    pub name: String,
    /// The ports that it has; without any, whatever is sent to its address is for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// What its name means.
    #[serde(default)]
    pub mode: ServiceMode,
    /// Connections of one client go to one container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub affinity: bool,
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Protocol,
    /// The port of the service's address.
    pub port: u16,
    /// The port of the container.
    pub target: u16,
}

/// What the name of a service means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMode {
    /// An address of the service's own, whose connections spread over its containers.
    #[default]
    Vip,
    /// The addresses of all its containers.
    Dnsrr,
}

/// A name that one container has for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// A name of the other container.
    pub target: String,
    /// What the linking container calls it.
    pub alias: String,
}

/// Servers that answer for a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub servers: Vec<Upstream>,
}

impl Record {
    /// Reads a record from the bytes of its file.
    ///
    /// # Errors
    /// When they are no record of this version. `path` is only named.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        super::Record::parse(bytes, path)
    }

    /// Reads a record; `None` when there is no such file.
    ///
    /// # Errors
    /// When there is one and it is no record.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        file::read(path)
    }
}

/// The names of other hosts' containers on a network: file `dns/remote/NETWORK`. The agent of a host among several writes
/// it, and the resolver reads it beside the records of this host.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteNames {
    /// A record for each container: without gateways, servers, links and namespace. Its container is called
    /// `HOST/CONTAINER`, which no container of this host is.
    pub records: Vec<Record>,
}

impl RemoteNames {
    /// Largest file that is read, in bytes: 100,000 containers with names of 500 bytes.
    pub const LARGEST_FILE: u64 = 64 << 20;

    /// What a container of another host is called in these records.
    #[must_use]
    pub fn container(host: &str, container: &str) -> String {
        format!("{host}/{container}")
    }

    /// What the record of a service's own address is called: no host has an empty name. The name of the service means
    /// this record alone, whatever containers call themselves.
    #[must_use]
    pub fn service(name: &str) -> String {
        format!("/{name}")
    }

    /// The service whose own address a record is of.
    #[must_use]
    pub fn service_of(container: &str) -> Option<&str> {
        container.strip_prefix('/')
    }

    /// Whether a container is another host's, by what it is called.
    #[must_use]
    pub fn is_remote(container: &str) -> bool {
        container.contains('/')
    }

    /// Reads the bytes of its file.
    ///
    /// # Errors
    /// When they are no such list of this version. `path` is only named.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        super::Record::parse(bytes, path)
    }
}

impl super::Record for RemoteNames {
    const WHAT: &'static str = "list of the names of other hosts' containers";
    const LARGEST: u64 = Self::LARGEST_FILE;
}

impl PerNetworkRecord for RemoteNames {
    const FOLDER: &'static str = "dns/remote";
}

#[cfg(test)]
impl Record {
    /// A record with one name and one address, for tests.
    pub(crate) fn sample(network: &str, container: &str, address: IpAddr) -> Self {
        Self {
            version: VERSION,
            network: network.into(),
            container: container.into(),
            interface: "eth0".into(),
            names: vec![container.into()],
            aliases: Vec::new(),
            links: Vec::new(),
            addresses: vec![address],
            gateways: Vec::new(),
            domain: "dns.pontoon".into(),
            ttl: 5,
            servers: Vec::new(),
            upstreams: Vec::new(),
            domains: Vec::new(),
            upstreams_ca: None,
            resolv_conf: "/etc/resolv.conf".into(),
            netns: None,
            internal: false,
            subnets: Vec::new(),
            service: None,
        }
    }
}

/// dns's record of an attachment: what the resolver reads, and what DEL, CHECK and GC need beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// What the resolver reads.
    #[serde(flatten)]
    pub record: Record,
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Name of the namespace whose files in `/etc/netns` Pontoon has made.
    pub etc_netns: Option<String>,
    /// The backend that leads port 53 to the resolver, where one does.
    pub backend: Option<BackendKind>,
}

/// How a network's questions reach the resolver: the rules that dns has made, the newest last.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverRecord {
    /// The redirections of port 53, by backend.
    pub resolvers: Vec<(BackendKind, Resolver)>,
}

/// The rules that let a network's questions into the host, by backend.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpeningsRecord {
    /// One for each backend whose INPUT chain drops.
    pub openings: Vec<(BackendKind, Opening)>,
}

impl super::Record for Record {
    const WHAT: &'static str = "record of plugin dns";
    const VERSION: u32 = VERSION;
    const LARGEST: u64 = LARGEST;

    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

impl super::Record for DnsRecord {
    const WHAT: &'static str = "record of plugin dns";
    const VERSION: u32 = VERSION;
    const LARGEST: u64 = LARGEST;

    /// The resolver's part has the version.
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

impl AttachmentRecord for DnsRecord {
    const PLUGIN: &'static str = "dns";
    const FOLDER: &'static str = "dns/records";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn about(&self) -> AttachmentSummary {
        AttachmentSummary {
            names: self.record.names.clone(),
            ..AttachmentSummary::of(&self.sandbox)
        }
    }
}

impl super::Record for ResolverRecord {
    const WHAT: &'static str = "record of a network of plugin dns";

    fn decode(text: &[u8]) -> serde_json::Result<Self> {
        if is_list(text) {
            // As the first release wrote it.
            return serde_json::from_slice(text).map(|resolvers| Self { resolvers });
        }
        serde_json::from_slice(text)
    }
}

impl PerNetworkRecord for ResolverRecord {
    const FOLDER: &'static str = "dns/network";
}

impl super::Record for OpeningsRecord {
    const WHAT: &'static str = "record of the INPUT rules of a network";

    fn decode(text: &[u8]) -> serde_json::Result<Self> {
        if is_list(text) {
            // As the first release wrote it.
            return serde_json::from_slice(text).map(|openings| Self { openings });
        }
        serde_json::from_slice(text)
    }
}

impl PerNetworkRecord for OpeningsRecord {
    const FOLDER: &'static str = "dns/policy";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(network: &str, container: &str, address: &str) -> Record {
        Record::sample(network, container, address.parse().unwrap())
    }

    #[test]
    fn a_record_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c:eth0");
        assert!(Record::read(&path).unwrap().is_none());
        let mut wanted = record("net", "c", "10.0.0.2");
        wanted.internal = true;
        wanted.subnets = vec!["10.0.0.0/24".parse().unwrap()];
        wanted.links.push(Link {
            target: "db".into(),
            alias: "database".into(),
        });
        std::fs::write(&path, serde_json::to_vec(&wanted).unwrap()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(wanted));
    }

    #[test]
    fn servers_of_an_older_record_are_addresses_and_stay_so() {
        let mut old = serde_json::to_value(record("net", "c", "10.0.0.2")).unwrap();
        old["upstreams"] = serde_json::json!(["192.0.2.1", "2001:db8::1"]);
        old["domains"] = serde_json::json!([{ "name": "corp.example", "servers": ["192.0.2.2"] }]);
        let text = serde_json::to_vec(&old).unwrap();
        let mut record = Record::parse(&text, Path::new("x")).unwrap();
        let addresses: Vec<IpAddr> = record.upstreams.iter().map(|one| one.at.ip()).collect();
        assert_eq!(
            addresses,
            ["192.0.2.1", "2001:db8::1"].map(|one| one.parse::<IpAddr>().unwrap())
        );
        assert_eq!(
            serde_json::to_value(&record).unwrap(),
            old,
            "an older program can read it"
        );
        record
            .upstreams
            .push("tls://192.0.2.3#dns.example".parse().unwrap());
        record.upstreams_ca = Some("/etc/ca.pem".into());
        let text = serde_json::to_vec(&record).unwrap();
        assert_eq!(Record::parse(&text, Path::new("x")).unwrap(), record);
        old["upstreams"] = serde_json::json!(["tls://192.0.2.3"]);
        let text = serde_json::to_vec(&old).unwrap();
        assert!(
            Record::parse(&text, Path::new("x")).is_err(),
            "never asked in plain text instead"
        );
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let path = Path::new("x");
        let good = serde_json::to_value(record("net", "c", "10.0.0.2")).unwrap();
        let mut newer = good.clone();
        newer["version"] = 2.into();
        let newer = serde_json::to_vec(&newer).unwrap();
        assert!(matches!(
            Record::parse(&newer, path),
            Err(RecordError::Version { version: 2, .. })
        ));
        let mut more = good;
        more["somethingNew"] = 1.into();
        assert!(Record::parse(&serde_json::to_vec(&more).unwrap(), path).is_ok());
        for bytes in [&b""[..], b"{", b"[]", b"{\"version\":1}"] {
            assert!(matches!(
                Record::parse(bytes, path),
                Err(RecordError::Parse { .. })
            ));
        }
    }
}
