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
use crate::services::{ServiceStatus, Services};

/// What was found and done.
#[derive(Default)]
pub(crate) struct Balance {
    /// The services, by network and name.
    pub(crate) services: BTreeMap<String, BTreeMap<String, ServiceStatus>>,
    /// What the resolver is told of them, by network.
    pub(crate) records: BTreeMap<String, Vec<Record>>,
    /// What is not as it should be.
    pub(crate) warnings: BTreeMap<String, String>,
    wanted: Vec<ServiceNetwork>,
}

impl Balance {
    /// What the services of this host's networks should be.
    pub(crate) fn of(
        cluster: &Cluster,
        host: &str,
        networks: &BTreeMap<String, Own>,
        endpoints: &BTreeMap<String, Endpoints>,
    ) -> Self {
        let mut balance = Self::default();
        let none = Endpoints::new();
        for (network, own) in networks {
            let told = endpoints.get(network).unwrap_or(&none);
            let services = Services::of(cluster, network, Some((host, told)));
            balance.warnings.extend(services.warnings());
            balance.records.insert(network.clone(), services.records());
            balance.services.insert(network.clone(), services.status());
            let Some(value) = cluster.networks.get(network) else {
                continue;
            };
            if value.services.is_empty() || own.on_disk.is_empty() {
                continue;
            }
            let plain = |it: &Cidr| IpNetwork::from(it.network());
            balance.wanted.push(ServiceNetwork {
                subnets: value.subnets.iter().map(|it| plain(&it.subnet)).collect(),
                ranges: value.services.iter().map(plain).collect(),
                blocks: own.on_disk.iter().map(plain).collect(),
                entrances: services.entrances(),
            });
        }
        balance
    }
}

/// What the kernel was brought to.
#[derive(Default)]
pub(crate) struct Balancer {
    applied: Option<Vec<ServiceNetwork>>,
}

impl Balancer {
    /// Brings the kernel to what is wanted, when that has changed or `audit` asks for it. Whether the table was changed.
    ///
    /// # Errors
    /// When the kernel refuses, in words.
    pub(crate) fn apply(&mut self, balance: &Balance, audit: bool) -> Result<TableChange, String> {
        let same = self.applied.as_ref() == Some(&balance.wanted);
        if same && !audit {
            return Ok(TableChange::None);
        }
        let balanced = Nft::open().and_then(|mut nft| nft.balance(&balance.wanted));
        let change = balanced.map_err(|error| {
            self.applied = None;
            error.to_string()
        })?;
        if change != TableChange::None {
            cut(&balance.wanted).map_err(|error| {
                // The next audit is not enough: the table is as it should be then.
                self.applied = None;
                format!("connections to containers that are gone are not cut: {error}")
            })?;
        }
        self.applied = Some(balance.wanted.clone());
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
