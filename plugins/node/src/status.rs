//! What the agent says of itself: as JSON, as text, and in Prometheus's format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use pontoon_conf::Cidr;
use serde::{Deserialize, Serialize};

use crate::claims::room;
use crate::plan::peers;
use crate::services::ServiceStatus;
use crate::shared::{Link, Shared};

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// This host's id.
    pub(crate) host: String,
    /// The agent's version.
    pub(crate) version: String,
    /// For how long it has run, in seconds.
    pub(crate) running_seconds: u64,
    /// This host's addresses for the tunnels.
    pub(crate) addresses: Vec<String>,
    /// The connection to etcd.
    pub(crate) etcd: EtcdStatus,
    /// The networks of this host.
    pub(crate) networks: BTreeMap<String, NetworkStatus>,
    /// The hosts that etcd knows, and whether each one is alive.
    pub(crate) hosts: BTreeMap<String, bool>,
    /// What is not as it should be, by what it is about.
    pub(crate) warnings: BTreeMap<String, String>,
    /// What is counted.
    pub(crate) counts: BTreeMap<String, u64>,
}

/// The connection to etcd.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EtcdStatus {
    /// Whether there is one.
    pub(crate) connected: bool,
    /// With whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// For how long it has been so, in seconds.
    pub(crate) seconds: u64,
    /// Whether etcd has said anything since the agent's start: what is known may be old.
    pub(crate) heard: bool,
}

/// A network on this host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NetworkStatus {
    /// This host's blocks, and how many of their addresses are in use.
    pub(crate) blocks: BTreeMap<String, u64>,
    /// Addresses for containers in all of them.
    pub(crate) room: u64,
    /// Other hosts with blocks.
    pub(crate) peers: usize,
    /// Whether etcd has the network.
    pub(crate) in_etcd: bool,
    /// The services of the network, by name.
    #[serde(default)]
    pub(crate) services: BTreeMap<String, ServiceStatus>,
}

impl Status {
    /// Reads everything.
    pub(crate) fn of(shared: &Shared) -> Self {
        let underlay = shared.underlay.get();
        let addresses = [true, false].map(|v4| underlay.family(v4));
        let cluster = shared.cluster.borrow();
        let cluster = cluster.as_ref();
        let services = shared.services.borrow();
        let network = |name: &String, on_disk: Vec<Cidr>, used: &BTreeMap<Cidr, u64>| {
            let host = &shared.settings.host;
            NetworkStatus {
                room: on_disk
                    .iter()
                    .fold(0, |sum: u64, block| sum.saturating_add(room(*block))),
                blocks: on_disk
                    .iter()
                    .map(|block| (block.to_string(), used.get(block).copied().unwrap_or(0)))
                    .collect(),
                peers: cluster.map_or(0, |cluster| peers(cluster, name, host).peers.len()),
                in_etcd: cluster.is_some_and(|cluster| cluster.networks.contains_key(name)),
                services: services.get(name).cloned().unwrap_or_default(),
            }
        };
        let own = shared.own.borrow();
        let networks = own.iter().map(|(name, own)| {
            let blocks = own.on_disk.iter().copied().collect();
            (name.clone(), network(name, blocks, &own.used))
        });
        let hosts = cluster.into_iter().flat_map(|cluster| {
            let hosts = cluster.all_hosts().into_iter();
            hosts.map(|host| (host.to_owned(), cluster.alive.contains_key(host)))
        });
        let seconds = |since: Instant| since.elapsed().as_secs();
        let (endpoint, error, since) = match &*shared.link.borrow() {
            Link::Up { endpoint, since } => (Some(endpoint.clone()), None, *since),
            Link::Down { error, since } => (None, Some(error.clone()), *since),
        };
        let counts = shared.counts.get();
        let counts = [
            ("etcd_sessions_ended", counts.sessions_ended),
            ("etcd_events", counts.events),
            ("block_transactions_done", counts.claims),
            ("block_transactions_lost", counts.claims_lost),
            ("kernel_audits", counts.audits),
            ("kernel_added", counts.added),
            ("kernel_changed", counts.changed),
            ("kernel_removed", counts.removed),
        ];
        Self {
            host: shared.settings.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running_seconds: seconds(shared.started),
            addresses: addresses
                .into_iter()
                .flatten()
                .map(|it| it.to_string())
                .collect(),
            etcd: EtcdStatus {
                connected: endpoint.is_some(),
                endpoint,
                error,
                seconds: seconds(since),
                heard: cluster.is_some(),
            },
            networks: networks.collect(),
            hosts: hosts.collect(),
            warnings: shared.warnings.borrow().clone(),
            counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
        }
    }

    /// Whether nothing is to be said.
    pub(crate) fn is_well(&self) -> bool {
        self.etcd.connected && self.warnings.is_empty()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let addresses = match self.addresses.is_empty() {
            true => "no address".to_owned(),
            false => self.addresses.join(" "),
        };
        let _ = writeln!(text, "host      {} at {addresses}", self.host);
        let etcd = &self.etcd;
        let how = match (&etcd.endpoint, &etcd.error) {
            (Some(endpoint), _) => format!("{endpoint}, for {} s", etcd.seconds),
            (None, error) => {
                let error = error.as_deref().unwrap_or("not connected");
                format!("away for {} s: {error}", etcd.seconds)
            }
        };
        let _ = writeln!(text, "etcd      {how}");
        let alive = self.hosts.values().filter(|alive| **alive).count();
        let dead: Vec<&str> = self
            .hosts
            .iter()
            .filter(|(_, alive)| !**alive)
            .map(|(host, _)| host.as_str())
            .collect();
        let dead = match dead.is_empty() {
            true => String::new(),
            false => format!(", dead: {}", dead.join(" ")),
        };
        let _ = writeln!(text, "hosts     {alive} alive{dead}");
        for (name, network) in &self.networks {
            let blocks: Vec<String> = network
                .blocks
                .iter()
                .map(|(block, used)| format!("{block} ({used} in use)"))
                .collect();
            let blocks = match blocks.is_empty() {
                true => "no block".to_owned(),
                false => blocks.join(" "),
            };
            let _ = writeln!(text, "network   {name}: {blocks}, {} peers", network.peers);
            for (service, of) in &network.services {
                let _ = writeln!(
                    text,
                    "service   {service} of {name}: {}, ports {}, containers {}",
                    of.told_addresses(),
                    of.told_ports(),
                    of.told_backends()
                );
            }
        }
        for (about, warning) in &self.warnings {
            let _ = writeln!(text, "warning   {about}: {warning}");
        }
        text
    }

    /// Prometheus's text format.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP pontoon_node_{name} {help}");
            let _ = writeln!(text, "# TYPE pontoon_node_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "pontoon_node_{name}{labels} {value}");
            }
        };
        let plain = |value: u64| [(String::new(), value)];
        family(
            "etcd_connected",
            "gauge",
            "1 while there is a connection to etcd",
            &plain(self.etcd.connected.into()),
        );
        let hosts = |alive: bool| self.hosts.values().filter(|it| **it == alive).count() as u64;
        let states = [("alive", true), ("dead", false)]
            .map(|(word, alive)| (format!("{{state=\"{word}\"}}"), hosts(alive)));
        family("hosts", "gauge", "hosts that etcd knows", &states);
        family(
            "warnings",
            "gauge",
            "things that are not as they should be",
            &plain(self.warnings.len() as u64),
        );
        let of_networks = |value: fn(&NetworkStatus) -> u64| -> Vec<(String, u64)> {
            let networks = self.networks.iter();
            networks
                .map(|(name, network)| (format!("{{network=\"{name}\"}}"), value(network)))
                .collect()
        };
        family(
            "blocks",
            "gauge",
            "blocks of this host",
            &of_networks(|network| network.blocks.len() as u64),
        );
        family(
            "addresses_used",
            "gauge",
            "addresses of this host's blocks with a lease",
            &of_networks(|network| network.blocks.values().sum()),
        );
        family(
            "addresses_room",
            "gauge",
            "addresses for containers in this host's blocks",
            &of_networks(|network| network.room),
        );
        family(
            "peers",
            "gauge",
            "other hosts with blocks",
            &of_networks(|network| network.peers as u64),
        );
        family(
            "services",
            "gauge",
            "services of the network",
            &of_networks(|network| network.services.len() as u64),
        );
        for (name, value) in &self.counts {
            family(
                &format!("{name}_total"),
                "counter",
                "see plugins/node/README.md",
                &plain(*value),
            );
        }
        text
    }
}
