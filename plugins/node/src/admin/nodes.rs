//! `pontoon nodes`, `pontoon node`: the hosts.

use std::collections::BTreeMap;

use etcd_client::{Client, Compare, CompareOp, DeleteOptions, Txn, TxnOp};
use pontoon_conf::Cidr;
use serde::Serialize;

use super::{AdminError, judge, pretty, print, table};
use crate::cluster::Cluster;
use crate::etcd::{answered, connect_to_any};
use crate::key::{self, Key};
use crate::settings::Settings;
use crate::value::ClaimValue;

/// A host, as etcd knows it.
#[derive(Debug, Serialize)]
struct Node {
    host: String,
    alive: bool,
    draining: bool,
    addresses: Vec<String>,
    version: Option<String>,
    /// Its blocks, by network.
    blocks: BTreeMap<String, Vec<Cidr>>,
}

fn nodes(cluster: &Cluster) -> Vec<Node> {
    let node = |host: &str| {
        let info = cluster.hosts.get(host);
        let addresses = info.into_iter().flat_map(|info| {
            let families = [true, false].map(|v4| info.underlay.family(v4));
            families.into_iter().flatten()
        });
        let networks = cluster.networks_with_blocks();
        let blocks = networks.map(|network| (network.to_owned(), cluster.blocks_of(network, host)));
        Node {
            host: host.to_owned(),
            alive: cluster.alive.contains_key(host),
            draining: cluster.draining.contains(host),
            addresses: addresses.map(|address| address.to_string()).collect(),
            version: info.map(|info| info.version.clone()),
            blocks: blocks.filter(|(_, blocks)| !blocks.is_empty()).collect(),
        }
    };
    cluster.all_hosts().into_iter().map(node).collect()
}

/// `nodes`.
pub(super) async fn list(settings: &Settings, json: bool) -> Result<(), AdminError> {
    let (_, cluster, _) = connect_to_any(&settings.etcd).await?;
    let nodes = nodes(&cluster);
    if json {
        return print(&pretty(&nodes));
    }
    let heading = ["HOST", "STATE", "ADDRESSES", "VERSION", "BLOCKS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for node in nodes {
        let state = match (node.alive, node.draining) {
            (true, false) => "alive",
            (true, true) => "alive, draining",
            (false, false) => "dead",
            (false, true) => "dead, draining",
        };
        let blocks = node.blocks.iter().map(|(network, blocks)| {
            let blocks: Vec<String> = blocks.iter().map(Cidr::to_string).collect();
            format!("{network}: {}", blocks.join(" "))
        });
        rows.push(vec![
            node.host,
            state.to_owned(),
            node.addresses.join(" "),
            node.version.unwrap_or_default(),
            blocks.collect::<Vec<_>>().join(", "),
        ]);
    }
    print(&table(&rows))
}

fn known(cluster: &Cluster, host: &str) -> Result<(), AdminError> {
    match cluster.all_hosts().contains(host) || cluster.draining.contains(host) {
        true => Ok(()),
        false => Err(AdminError::NotFound(format!(
            "etcd knows no host {host}: see `pontoon nodes`"
        ))),
    }
}

/// `node drain`.
pub(super) async fn drain(settings: &Settings, host: &str, undo: bool) -> Result<(), AdminError> {
    let (mut client, cluster, _) = connect_to_any(&settings.etcd).await?;
    known(&cluster, host)?;
    let key = Key::Drain(host.to_owned()).path();
    let what = "drain the host";
    let text = match undo {
        true => {
            answered(what, client.delete(key, None)).await?;
            format!("host {host} takes containers again\n")
        }
        false => {
            answered(what, client.put(key, "{}", None)).await?;
            format!("host {host} takes no more containers; those that are there go on\n")
        }
    };
    print(&text)
}

/// `node forget`. First what makes it a host goes, all at once and only while it is not alive, then its claims.
pub(super) async fn forget(settings: &Settings, host: &str) -> Result<(), AdminError> {
    let (mut client, cluster, _) = connect_to_any(&settings.etcd).await?;
    known(&cluster, host)?;
    judge::forgetting(&cluster, host).map_err(AdminError::Refused)?;
    let all = DeleteOptions::new().with_prefix();
    let dead = Compare::version(Key::Alive(host.to_owned()).path(), CompareOp::Equal, 0);
    let txn = Txn::new().when([dead]).and_then([
        TxnOp::delete(key::of_host(host), Some(all)),
        TxnOp::delete(Key::Drain(host.to_owned()).path(), None),
    ]);
    if !answered("forget the host", client.txn(txn))
        .await?
        .succeeded()
    {
        return Err(AdminError::Refused(format!(
            "host {host} has come back meanwhile: nothing is forgotten"
        )));
    }
    let mut count = 0;
    for network in cluster.networks_with_blocks() {
        for (block, said) in cluster.blocks(network) {
            let is_its = said
                .claim
                .as_ref()
                .is_some_and(|(claimed, _)| claimed == host);
            if is_its && remove_claim(&mut client, host, network, block).await? {
                count += 1;
            }
        }
    }
    print(&format!(
        "host {host} is forgotten, and {count} blocks are free\n"
    ))
}

/// Removes a claim, while it is this host's.
async fn remove_claim(
    client: &mut Client,
    host: &str,
    network: &str,
    block: Cidr,
) -> Result<bool, AdminError> {
    let key = Key::Claim(network.to_owned(), block).path();
    let claim = ClaimValue {
        host: host.to_owned(),
    };
    let claim = serde_json::to_vec(&claim).unwrap_or_default();
    let same = Compare::value(key.clone(), CompareOp::Equal, claim);
    let txn = Txn::new().when([same]).and_then([TxnOp::delete(key, None)]);
    Ok(answered("free a block", client.txn(txn)).await?.succeeded())
}
