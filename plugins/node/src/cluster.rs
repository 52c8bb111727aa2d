//! What etcd says, as types. It is filled key by key, from a list and then from a watch, and answers who owns a block,
//! who is alive, and which networks there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pontoon_conf::Cidr;
use serde::de::DeserializeOwned;

use crate::key::Key;
use crate::value::{AliveValue, ClaimValue, EndpointValue, InfoValue, NetworkValue, ServiceValue};

/// Everything below the prefix, at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The networks.
    pub(crate) networks: BTreeMap<String, NetworkValue>,
    /// Which network has which VNI.
    pub(crate) vnis: BTreeMap<u32, String>,
    /// How hosts are reached.
    pub(crate) hosts: BTreeMap<String, InfoValue>,
    /// Hosts whose lease has not run out.
    pub(crate) alive: BTreeMap<String, AliveValue>,
    /// Containers with names, by host, network and first address.
    pub(crate) endpoints: BTreeMap<String, BTreeMap<String, BTreeMap<IpAddr, EndpointValue>>>,
    /// Hosts that are being emptied.
    pub(crate) draining: BTreeSet<String>,
    /// Keys that cannot be read, and why.
    pub(crate) unreadable: BTreeMap<String, String>,
    /// Numbers of services, by network and name.
    pub(crate) services: BTreeMap<String, BTreeMap<String, u32>>,
    /// Services of numbers by network and number, each with the revision at which it got it.
    pub(crate) numbers: BTreeMap<String, BTreeMap<u32, (String, i64)>>,
    blocks: BTreeMap<String, BTreeMap<Cidr, Block>>,
}

/// What is said of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The host that asked for it, and the revision of that.
    pub(crate) claim: Option<(String, i64)>,
    /// The hosts that confirm that it is theirs, and the revision at which each began to.
    pub(crate) confirmed: BTreeMap<String, i64>,
}

impl Block {
    /// The host whose block it is: the first one that confirmed its claim. Claims can be written by every host, a
    /// confirmation only by the host itself, and nothing makes it older than it is: so a host that writes over
    /// another's claim gains nothing.
    pub(crate) fn owner(&self) -> Option<&str> {
        let first = self.confirmed.iter().min_by_key(|(_, since)| **since);
        first.map(|(host, _)| host.as_str())
    }

    fn is_empty(&self) -> bool {
        self.claim.is_none() && self.confirmed.is_empty()
    }
}

impl Cluster {
    /// Notes a key and its value, with the revisions at which the key was made and last written.
    pub(crate) fn put(&mut self, path: &str, value: &[u8], created: i64, modified: i64) {
        let Some(key) = Key::parse(path) else {
            return;
        };
        self.unreadable.remove(path);
        match key {
            Key::Network(network) => {
                let value = self.read(path, value);
                set(&mut self.networks, network, value);
            }
            Key::Vni(number) => {
                let network = String::from_utf8_lossy(value).into_owned();
                self.vnis.insert(number, network);
            }
            Key::Drain(host) => {
                self.draining.insert(host);
            }
            Key::Claim(network, block) => {
                let claim: Option<ClaimValue> = self.read(path, value);
                // A claim that cannot be read is one: the block is not free.
                let host = claim.map_or(String::new(), |claim| claim.host);
                self.block(network, block).claim = Some((host, modified));
            }
            Key::Confirmation(host, network, block) => {
                self.block(network, block).confirmed.insert(host, created);
            }
            Key::Info(host) => {
                let value = self.read(path, value);
                set(&mut self.hosts, host, value);
            }
            Key::Alive(host) => {
                let value = self.read(path, value);
                set(&mut self.alive, host, value);
            }
            Key::Endpoint(host, network, address) => match self.read(path, value) {
                Some(value) => {
                    let networks = self.endpoints.entry(host).or_default();
                    networks.entry(network).or_default().insert(address, value);
                }
                None => self.forget_endpoint(&host, &network, address),
            },
            Key::ServiceName(network, name) => {
                let value: Option<ServiceValue> = self.read(path, value);
                let services = self.services.entry(network).or_default();
                set(services, name, value.map(|value| value.number));
            }
            Key::ServiceNumber(network, number) => {
                let name = String::from_utf8_lossy(value).into_owned();
                let numbers = self.numbers.entry(network).or_default();
                numbers.insert(number, (name, modified));
            }
        }
    }

    /// Notes that a key is gone.
    pub(crate) fn delete(&mut self, path: &str) {
        let Some(key) = Key::parse(path) else {
            return;
        };
        self.unreadable.remove(path);
        match key {
            Key::Network(network) => drop(self.networks.remove(&network)),
            Key::Vni(number) => drop(self.vnis.remove(&number)),
            Key::Drain(host) => drop(self.draining.remove(&host)),
            Key::Claim(network, block) => {
                self.block(network.clone(), block).claim = None;
                self.forget_empty(&network, block);
            }
            Key::Confirmation(host, network, block) => {
                self.block(network.clone(), block).confirmed.remove(&host);
                self.forget_empty(&network, block);
            }
            Key::Info(host) => drop(self.hosts.remove(&host)),
            Key::Alive(host) => drop(self.alive.remove(&host)),
            Key::Endpoint(host, network, address) => {
                self.forget_endpoint(&host, &network, address);
            }
            Key::ServiceName(network, name) => {
                take(&mut self.services, &network, |all| {
                    all.remove(&name);
                });
            }
            Key::ServiceNumber(network, number) => {
                take(&mut self.numbers, &network, |all| {
                    all.remove(&number);
                });
            }
        }
    }

    /// All that is said of a network's blocks.
    pub(crate) fn blocks(&self, network: &str) -> impl Iterator<Item = (Cidr, &Block)> {
        let blocks = self.blocks.get(network).into_iter().flatten();
        blocks.map(|(block, said)| (*block, said))
    }

    /// What is said of a block.
    pub(crate) fn said_of(&self, network: &str, block: Cidr) -> Option<&Block> {
        self.blocks.get(network)?.get(&block)
    }

    /// The blocks of a network that are a host's.
    pub(crate) fn blocks_of(&self, network: &str, host: &str) -> Vec<Cidr> {
        let own = self.blocks(network);
        own.filter(|(_, said)| said.owner() == Some(host))
            .map(|(block, _)| block)
            .collect()
    }

    /// The networks about whose blocks something is said.
    pub(crate) fn networks_with_blocks(&self) -> impl Iterator<Item = &str> {
        self.blocks.keys().map(String::as_str)
    }

    /// All hosts that etcd knows.
    pub(crate) fn all_hosts(&self) -> BTreeSet<&str> {
        let owners = self.blocks.values().flat_map(BTreeMap::values);
        let owners = owners.flat_map(|block| block.confirmed.keys());
        let known = self.hosts.keys().chain(self.alive.keys());
        known.chain(owners).map(String::as_str).collect()
    }

    fn block(&mut self, network: String, block: Cidr) -> &mut Block {
        let blocks = self.blocks.entry(network).or_default();
        blocks.entry(block).or_default()
    }

    fn forget_empty(&mut self, network: &str, block: Cidr) {
        let Some(blocks) = self.blocks.get_mut(network) else {
            return;
        };
        if blocks.get(&block).is_some_and(Block::is_empty) {
            blocks.remove(&block);
        }
        if blocks.is_empty() {
            self.blocks.remove(network);
        }
    }

    fn forget_endpoint(&mut self, host: &str, network: &str, address: IpAddr) {
        let Some(networks) = self.endpoints.get_mut(host) else {
            return;
        };
        if let Some(endpoints) = networks.get_mut(network) {
            endpoints.remove(&address);
            if endpoints.is_empty() {
                networks.remove(network);
            }
        }
        if networks.is_empty() {
            self.endpoints.remove(host);
        }
    }

    fn read<T: DeserializeOwned>(&mut self, path: &str, value: &[u8]) -> Option<T> {
        match serde_json::from_slice(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.unreadable.insert(path.to_owned(), error.to_string());
                None
            }
        }
    }
}

/// Takes something of a network out; a network without anything is none.
fn take<K, T>(
    all: &mut BTreeMap<String, BTreeMap<K, T>>,
    network: &str,
    act: impl FnOnce(&mut BTreeMap<K, T>),
) {
    if let Some(of_network) = all.get_mut(network) {
        act(of_network);
        if of_network.is_empty() {
            all.remove(network);
        }
    }
}

fn set<T>(map: &mut BTreeMap<String, T>, name: String, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(name, value)),
        None => drop(map.remove(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: &str = "/pontoon/v1/block/lan/10.5.7.0-24";

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn confirmation(host: &str) -> String {
        format!("/pontoon/v1/host/{host}/block/lan/10.5.7.0-24")
    }

    #[test]
    fn a_claim_counts_when_its_host_confirms_it() {
        let mut cluster = Cluster::default();
        cluster.put(CLAIM, br#"{"host":"a"}"#, 5, 5);
        assert_eq!(cluster.blocks_of("lan", "a"), []);
        cluster.put(&confirmation("a"), b"{}", 5, 5);
        assert_eq!(cluster.blocks_of("lan", "a"), [cidr("10.5.7.0/24")]);
    }

    #[test]
    fn who_writes_over_a_claim_gains_nothing() {
        let mut cluster = Cluster::default();
        cluster.put(CLAIM, br#"{"host":"a"}"#, 5, 5);
        cluster.put(&confirmation("a"), b"{}", 5, 5);
        cluster.put(CLAIM, br#"{"host":"b"}"#, 5, 9);
        cluster.put(&confirmation("b"), b"{}", 9, 9);
        // `a` writes its confirmation again: it is as old as before.
        cluster.put(&confirmation("a"), b"{}", 5, 12);
        let block = cluster.said_of("lan", cidr("10.5.7.0/24")).unwrap();
        assert_eq!(block.owner(), Some("a"));
        assert_eq!(block.confirmed.len(), 2);
        assert_eq!(cluster.blocks_of("lan", "b"), []);
    }

    #[test]
    fn what_is_deleted_leaves_nothing() {
        let mut cluster = Cluster::default();
        for (path, value) in [
            (CLAIM, r#"{"host":"a"}"#),
            (&confirmation("a"), "{}"),
            ("/pontoon/v1/vni/7", "lan"),
            ("/pontoon/v1/drain/a", "{}"),
            ("/pontoon/v1/host/a/alive", r#"{"boot":"x"}"#),
            (
                "/pontoon/v1/net/lan",
                r#"{"subnets":[],"vni":7,"port":4789,"mode":"auto"}"#,
            ),
            ("/pontoon/v1/service/lan/name/web", r#"{"number":1}"#),
            ("/pontoon/v1/service/lan/number/1", "web"),
        ] {
            cluster.put(path, value.as_bytes(), 1, 1);
        }
        assert_eq!(cluster.all_hosts().len(), 1);
        assert_eq!(cluster.networks.len(), 1);
        for path in [
            CLAIM,
            &confirmation("a"),
            "/pontoon/v1/vni/7",
            "/pontoon/v1/drain/a",
            "/pontoon/v1/host/a/alive",
            "/pontoon/v1/net/lan",
            "/pontoon/v1/service/lan/name/web",
            "/pontoon/v1/service/lan/number/1",
            "/pontoon/v1/service/lan/number/2",
            "/pontoon/v1/block/other/10.5.7.0-24",
        ] {
            cluster.delete(path);
        }
        assert_eq!(cluster, Cluster::default());
    }

    #[test]
    fn a_value_that_cannot_be_read_is_told_and_its_block_is_not_free() {
        let mut cluster = Cluster::default();
        cluster.put(CLAIM, b"{", 1, 1);
        assert!(cluster.unreadable.contains_key(CLAIM));
        let block = cluster.said_of("lan", cidr("10.5.7.0/24")).unwrap();
        assert!(block.claim.is_some() && block.owner().is_none());
        cluster.put(CLAIM, br#"{"host":"a"}"#, 1, 2);
        assert_eq!(cluster.unreadable.len(), 0);
    }
}
