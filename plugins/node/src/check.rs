//! What `pontoon doctor` asks the agent: facts that only etcd's members and the files for TLS tell. The agent judges
//! nothing here.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use pontoon_conf::Cidr;
use serde::Serialize;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::certificate::{self, CertificateEnd};
use crate::cluster::Cluster;
use crate::etcd;
use crate::key::PREFIX;
use crate::shared::Shared;

/// For how long a member may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The quota of a member that is told none, in bytes (etcd: `DefaultQuotaBytes`).
const DEFAULT_QUOTA: i64 = 2 * 1024 * 1024 * 1024;
/// The first revision that a key can have.
const FIRST_REVISION: i64 = 2;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// The members that this host is told of.
    pub(crate) members: Vec<Member>,
    /// Blocks that more than one host confirms.
    pub(crate) disputed: Vec<Disputed>,
    /// The certificates that this host shows, or checks members by.
    pub(crate) certificates: Vec<CertificateEnd>,
}

/// A member of etcd.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Member {
    pub(crate) endpoint: String,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The size of its data, in bytes.
    pub(crate) bytes: i64,
    /// More than this it does not take, in bytes: as it tells (from etcd 3.6 on), as the configuration says, or etcd's
    /// default.
    pub(crate) quota: i64,
    /// What it says is wrong.
    pub(crate) problems: Vec<String>,
    /// The revision now, and whether it still answers for the first one.
    pub(crate) revision: i64,
    pub(crate) has_first_revision: bool,
}

/// A block that more than one host confirms.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Disputed {
    pub(crate) network: String,
    pub(crate) block: Cidr,
    /// The one that confirmed first.
    pub(crate) owner: String,
    pub(crate) others: Vec<String>,
}

/// Asks all members at once.
pub(crate) async fn of(shared: &Rc<Shared>) -> Check {
    let endpoints = shared.settings.etcd.endpoints.iter().cloned();
    let asked: Vec<_> = endpoints
        .map(|endpoint| {
            let shared = Rc::clone(shared);
            spawn_local(async move { member(&shared, endpoint).await })
        })
        .collect();
    let mut members = Vec::new();
    for one in asked {
        members.extend(one.await.ok());
    }
    let tls = &shared.settings.etcd;
    let files: Vec<PathBuf> = [&tls.ca, &tls.certificate]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    Check {
        members,
        disputed: shared.with_cluster(disputed).unwrap_or_default(),
        certificates: files
            .iter()
            .flat_map(|file| certificate::ends(file))
            .collect(),
    }
}

async fn member(shared: &Shared, endpoint: String) -> Member {
    let mut found = Member {
        endpoint,
        ..Member::default()
    };
    match timeout(PATIENCE, ask(shared, &mut found)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => found.error = Some(error),
        Err(_) => found.error = Some(format!("no answer within {} ms", PATIENCE.as_millis())),
    }
    found
}

async fn ask(shared: &Shared, found: &mut Member) -> Result<(), String> {
    let settings = &shared.settings.etcd;
    let mut client = etcd::connect(settings, &found.endpoint)
        .await
        .map_err(|error| error.to_string())?;
    let asked = etcd::answered("ask a member for its status", client.status()).await;
    let status = asked.map_err(|error| error.to_string())?;
    found.bytes = status.db_size();
    found.quota = match (status.db_size_quota(), settings.quota) {
        (told, _) if told > 0 => told,
        (_, Some(quota)) => quota,
        (_, None) => DEFAULT_QUOTA,
    };
    found.problems = status.errors().to_vec();
    found.revision = status.header().map_or(0, |header| header.revision());
    // A revision that is compacted is refused.
    let first = etcd_client::GetOptions::new()
        .with_prefix()
        .with_limit(1)
        .with_serializable()
        .with_revision(FIRST_REVISION);
    let answer = client.get(PREFIX, Some(first)).await;
    found.has_first_revision = found.revision >= FIRST_REVISION && answer.is_ok();
    Ok(())
}

fn disputed(cluster: &Cluster) -> Vec<Disputed> {
    let networks = cluster.networks_with_blocks();
    let all = networks.flat_map(|network| {
        let blocks = cluster.blocks(network);
        blocks.filter_map(move |(block, said)| {
            let owner = said.owner()?;
            let others: Vec<String> = said
                .confirmed
                .keys()
                .filter(|host| *host != owner)
                .cloned()
                .collect();
            (!others.is_empty()).then(|| Disputed {
                network: network.to_owned(),
                block,
                owner: owner.to_owned(),
                others,
            })
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_two_hosts_confirm_is_disputed() {
        let mut cluster = Cluster::default();
        for (host, revision) in [("b", 4), ("a", 5)] {
            let key = format!("/pontoon/v1/host/{host}/block/lan/10.5.1.0-24");
            assert_eq!(disputed(&cluster), []);
            cluster.put(&key, b"{}", revision, revision);
        }
        let expected = Disputed {
            network: "lan".to_owned(),
            block: "10.5.1.0/24".parse().unwrap(),
            owner: "b".to_owned(),
            others: vec!["a".to_owned()],
        };
        assert_eq!(disputed(&cluster), [expected]);
    }
}
