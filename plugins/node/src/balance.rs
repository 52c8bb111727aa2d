//! The services of this host's networks in the kernel: the table as a whole, and the connections that it no longer leads
//! to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pontoon_conf::Cidr;
use pontoon_ledger::record::names::Record;
use pontoon_netfilter::nft::{Nft, ServiceNetwork, TableChange};
use pontoon_netlink::{Conntrack, IpNetwork};

use crate::claims::Own;
use crate::cluster::Cluster;
use crate::names::Endpoints;
use crate::services::{Numbers, ServiceStatus, Services};

/// What was found and done.
#[derive(Default)]
pub(crate) struct Balance {
    /// The services, by network and name.
    pub(crate) services: BTreeMap<String, BTreeMap<String, ServiceStatus>>,
    /// What the resolver is told of them, by network.
    pub(crate) records: BTreeMap<String, Vec<Record>>,
    /// What is not as it should be.
    pub(crate) warnings: BTreeMap<String, String>,
    /// By network; `None` for one that etcd does not have, and that containers use: it may have lost it.
    wanted: BTreeMap<String, Option<ServiceNetwork>>,
}

impl Balance {
    /// What the services of this host's networks should be.
    pub(crate) fn of(
        cluster: &Cluster,
        host: &str,
        networks: &BTreeMap<String, Own>,
        endpoints: &BTreeMap<String, Endpoints>,
        numbers: &mut BTreeMap<String, Numbers>,
    ) -> Self {
        let mut balance = Self::default();
        let none = Endpoints::new();
        for (network, own) in networks {
            let told = endpoints.get(network).unwrap_or(&none);
            let services = Services::of(cluster, network, Some((host, told)));
            balance.warnings.extend(services.warnings());
            let of_network = numbers.entry(network.clone()).or_default();
            *of_network = services.numbers(of_network);
            balance.records.insert(network.clone(), services.records());
            balance.services.insert(network.clone(), services.status());
            if own.on_disk.is_empty() {
                continue;
            }
            let Some(value) = cluster.networks.get(network) else {
                balance.wanted.insert(network.clone(), None);
                continue;
            };
            if value.services.is_empty() {
                continue;
            }
            let plain = |it: &Cidr| IpNetwork::from(it.network());
            let wanted = ServiceNetwork {
                subnets: value.subnets.iter().map(|it| plain(&it.subnet)).collect(),
                ranges: value.services.iter().map(plain).collect(),
                blocks: own.on_disk.iter().map(plain).collect(),
                entrances: services.entrances(),
            };
            balance.wanted.insert(network.clone(), Some(wanted));
        }
        balance
    }
}

/// What the kernel was brought to.
pub(crate) struct Balancer {
    applied: Option<BTreeMap<String, ServiceNetwork>>,
    /// Networks as they were last wanted.
    known: BTreeMap<String, ServiceNetwork>,
    /// How often connections are still to be cut.
    cuts: u8,
}

/// After a change connections are cut twice: one whose first packet was on its way through the older table may be noted
/// behind the first time.
const CUTS: u8 = 2;

impl Default for Balancer {
    /// An agent that was killed may have written the table, and not cut.
    fn default() -> Self {
        Self {
            applied: None,
            known: BTreeMap::new(),
            cuts: 1,
        }
    }
}

impl Balancer {
    /// Brings the kernel to what is wanted, when that has changed or `audit` asks for it. Whether the table was changed.
    ///
    /// # Errors
    /// When the kernel refuses, in words.
    pub(crate) fn apply(&mut self, balance: &Balance, audit: bool) -> Result<TableChange, String> {
        let mut lost = false;
        let mut wanted = BTreeMap::new();
        for (network, of_network) in &balance.wanted {
            let known = of_network.as_ref().or_else(|| self.known.get(network));
            match known {
                Some(known) => drop(wanted.insert(network.clone(), known.clone())),
                None => lost = true,
            }
        }
        if lost && self.applied.is_none() {
            // This agent has not seen what an earlier one has written for a network that etcd has lost.
            return Ok(TableChange::None);
        }
        self.known.clone_from(&wanted);
        let same = self.applied.as_ref() == Some(&wanted);
        if same && !audit && self.cuts == 0 {
            return Ok(TableChange::None);
        }
        let networks: Vec<ServiceNetwork> = wanted.values().cloned().collect();
        let mut change = TableChange::None;
        if !same || audit {
            self.applied = None;
            let balanced = Nft::open().and_then(|mut nft| nft.balance(&networks));
            change = balanced.map_err(|error| error.to_string())?;
            self.applied = Some(wanted);
        }
        if change != TableChange::None {
            self.cuts = CUTS;
        }
        if self.cuts > 0 {
            cut(&networks).map_err(|error| {
                format!("connections to containers that are gone are not cut: {error}")
            })?;
            self.cuts -= 1;
        }
        Ok(change)
    }
}

/// Cuts the connections to addresses of services that a container answers which is none of the service any more. Their
/// next packet goes to another one, or is refused.
fn cut(networks: &[ServiceNetwork]) -> Result<(), pontoon_netlink::Error> {
    let mut targets: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for entrance in networks.iter().flat_map(|network| &network.entrances) {
        let of_address = targets.entry(entrance.address).or_default();
        of_address.extend(entrance.targets.iter().map(|target| target.address));
    }
    let mut conntrack = Conntrack::open()?;
    for range in networks.iter().flat_map(|network| &network.ranges) {
        conntrack.cut_unless(*range, |flow| {
            let answering = targets.get(&flow.destination);
            answering.is_some_and(|answering| answering.contains(&flow.answered_by))
        })?;
    }
    Ok(())
}
