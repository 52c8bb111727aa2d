//! What the files of a network should say: a function of what etcd says, what they say now, and what is in use.

use std::collections::BTreeSet;

use pontoon_conf::Cidr;
use pontoon_ledger::overlay::{OverlayNetwork, OverlayPeer, OverlayPeers, Underlay};

use crate::claims::{Own, inside, is_or_may_be};
use crate::cluster::Cluster;

/// What is known of one network on this host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Here {
    /// The network.
    pub(crate) network: String,
    /// A file configures it.
    pub(crate) configured: bool,
    /// Containers are on it.
    pub(crate) in_use: bool,
    /// The host is being emptied.
    pub(crate) draining: bool,
    /// This host's end of the tunnel.
    pub(crate) underlay: Underlay,
    /// What its file says, where there is one.
    pub(crate) file: Option<OverlayNetwork>,
}

/// What is done about a network's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// There is nothing, and nothing is to be made.
    Nothing,
    /// They stay as they are, with this host's end of the tunnel as it is now.
    Keep,
    /// They say this.
    Write(OverlayNetwork, OverlayPeers),
    /// They and the tunnel go.
    Remove,
}

/// Decides. `cluster` is `None` as long as etcd has said nothing.
pub(crate) fn plan(cluster: Option<&Cluster>, here: &Here, own: &Own) -> Plan {
    let kept = match here.file {
        Some(_) => Plan::Keep,
        None => Plan::Nothing,
    };
    let Some(cluster) = cluster else {
        return kept;
    };
    let idle = match here.file {
        Some(_) => Plan::Remove,
        None => Plan::Nothing,
    };
    let Some(value) = cluster.networks.get(&here.network) else {
        // etcd may have lost it: what containers use is not taken from them.
        return if here.in_use { kept } else { idle };
    };
    let held = cluster.blocks_of(&here.network, &own.host);
    if !here.configured && !here.in_use {
        return idle;
    }
    if here.underlay.tunnel().is_none() {
        return kept;
    }
    Plan::Write(
        OverlayNetwork {
            network: here.network.clone(),
            subnets: value.subnets.clone(),
            vni: value.vni,
            port: value.port,
            mode: value.mode,
            host: own.host.clone(),
            underlay: here.underlay,
            blocks: blocks(here, own, &held, |block| {
                is_or_may_be(cluster, &here.network, block, &own.host)
                    && inside(block, &value.subnets)
            }),
            services: value.services.clone(),
        },
        peers(cluster, &here.network, &own.host),
    )
}

/// The blocks in the file: those that are used first, in the order in which they came. A host that is emptied, or has
/// no configuration of the network, keeps those that are in use. A block that etcd has forgotten stays in the file, by
/// which it is claimed again, until it is another host's.
fn blocks(here: &Here, own: &Own, held: &[Cidr], is_or_may_be: impl Fn(Cidr) -> bool) -> Vec<Cidr> {
    let before = here.file.iter().flat_map(|file| &file.blocks);
    let mut blocks: Vec<Cidr> = before.copied().filter(|it| is_or_may_be(*it)).collect();
    let more: Vec<&Cidr> = held.iter().filter(|it| !blocks.contains(it)).collect();
    blocks.extend(more);
    if here.draining || !here.configured {
        blocks.retain(|block| own.used.get(block).is_none_or(|used| *used > 0));
    }
    blocks
}

/// The other hosts with blocks of a network. Those that are dead are among them: they may be back at any moment.
pub(crate) fn peers(cluster: &Cluster, network: &str, host: &str) -> OverlayPeers {
    let owners = cluster.blocks(network).filter_map(|(_, said)| said.owner());
    let owners: BTreeSet<&str> = owners.filter(|owner| *owner != host).collect();
    let peer = |owner: &str| {
        let info = cluster.hosts.get(owner)?;
        info.underlay.tunnel()?;
        Some(OverlayPeer {
            host: owner.to_owned(),
            underlay: info.underlay,
            mac: info.mac,
            blocks: cluster.blocks_of(network, owner),
            direct: None,
            public_key: info.public_key.clone(),
        })
    };
    OverlayPeers {
        peers: owners.into_iter().filter_map(peer).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"{"subnets":[{"subnet":"10.5.0.0/16","block_prefix":24}],"vni":7,"port":4789,"mode":"vxlan"}"#;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    /// `a` and `b` have a block each of `lan`.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let mut put = |key: &str, value: &str, revision| {
            let key = format!("/pontoon/v1/{key}");
            cluster.put(&key, value.as_bytes(), revision, revision);
        };
        put("net/lan", NETWORK, 1);
        for (revision, host, block) in [(2, "a", "10.5.1.0-24"), (3, "b", "10.5.2.0-24")] {
            put(
                &format!("block/lan/{block}"),
                &format!("{{\"host\":\"{host}\"}}"),
                revision,
            );
            put(&format!("host/{host}/block/lan/{block}"), "{}", revision);
            let info = format!(
                "{{\"underlay\":{{\"v4\":\"198.18.60.{revision}\"}},\"mac\":\"02:70:00:00:00:01\",\"version\":\"1\"}}"
            );
            put(&format!("host/{host}/info"), &info, revision);
        }
        cluster
    }

    fn own() -> Own {
        Own {
            host: "a".to_owned(),
            ..Own::default()
        }
    }

    fn here() -> Here {
        Here {
            network: "lan".to_owned(),
            configured: true,
            underlay: Underlay::of("198.18.60.9".parse().unwrap()),
            ..Here::default()
        }
    }

    fn written(plan: Plan) -> (OverlayNetwork, OverlayPeers) {
        match plan {
            Plan::Write(network, peers) => (network, peers),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_say_what_etcd_says() {
        let (network, peers) = written(plan(Some(&cluster()), &here(), &own()));
        assert_eq!(network.blocks, [cidr("10.5.1.0/24")]);
        assert_eq!((network.vni, network.host.as_str()), (7, "a"));
        assert_eq!(network.problem(), None);
        assert_eq!(peers.peers.len(), 1);
        assert_eq!(peers.peers[0].host, "b");
        assert_eq!(peers.peers[0].blocks, [cidr("10.5.2.0/24")]);
    }

    #[test]
    fn a_dead_host_stays_a_peer_and_one_that_is_forgotten_does_not() {
        let mut cluster = cluster();
        cluster.delete("/pontoon/v1/host/b/alive");
        assert_eq!(peers(&cluster, "lan", "a").peers.len(), 1);
        cluster.delete("/pontoon/v1/host/b/block/lan/10.5.2.0-24");
        assert_eq!(peers(&cluster, "lan", "a").peers.len(), 0);
    }

    #[test]
    fn without_etcd_everything_stays() {
        assert_eq!(plan(None, &here(), &own()), Plan::Nothing);
        let (file, _) = written(plan(Some(&cluster()), &here(), &own()));
        let mut here = here();
        here.file = Some(file);
        here.configured = false;
        assert_eq!(plan(None, &here, &own()), Plan::Keep);
    }

    #[test]
    fn a_network_that_etcd_does_not_have_goes_when_no_container_is_on_it() {
        let (file, _) = written(plan(Some(&cluster()), &here(), &own()));
        let mut here = here();
        let empty = Cluster::default();
        assert_eq!(plan(Some(&empty), &here, &own()), Plan::Nothing);
        here.file = Some(file);
        here.in_use = true;
        assert_eq!(plan(Some(&empty), &here, &own()), Plan::Keep);
        here.in_use = false;
        assert_eq!(plan(Some(&empty), &here, &own()), Plan::Remove);
    }

    #[test]
    fn without_a_configuration_a_network_stays_as_long_as_it_is_used() {
        let (file, _) = written(plan(Some(&cluster()), &here(), &own()));
        let (mut here, mut own) = (here(), own());
        here.file = Some(file);
        here.configured = false;
        here.in_use = true;
        own.used.insert(cidr("10.5.1.0/24"), 1);
        let (network, _) = written(plan(Some(&cluster()), &here, &own));
        assert_eq!(network.blocks, [cidr("10.5.1.0/24")]);
        here.in_use = false;
        assert_eq!(plan(Some(&cluster()), &here, &own), Plan::Remove);
    }

    #[test]
    fn a_host_that_is_emptied_has_no_block_for_new_containers() {
        let (mut here, mut own) = (here(), own());
        here.draining = true;
        own.used.insert(cidr("10.5.1.0/24"), 0);
        let (network, peers) = written(plan(Some(&cluster()), &here, &own));
        assert_eq!((network.blocks.len(), peers.peers.len()), (0, 1));
        own.used.insert(cidr("10.5.1.0/24"), 1);
        let (network, _) = written(plan(Some(&cluster()), &here, &own));
        assert_eq!(network.blocks.len(), 1);
    }

    #[test]
    fn a_block_that_etcd_has_forgotten_stays_until_it_is_another_host_s() {
        let mut cluster = cluster();
        let mut here = here();
        let (file, _) = written(plan(Some(&cluster), &here, &own()));
        here.file = Some(file);
        cluster.delete("/pontoon/v1/block/lan/10.5.1.0-24");
        cluster.delete("/pontoon/v1/host/a/block/lan/10.5.1.0-24");
        let (network, _) = written(plan(Some(&cluster), &here, &own()));
        assert_eq!(network.blocks, [cidr("10.5.1.0/24")]);
        cluster.put(
            "/pontoon/v1/block/lan/10.5.1.0-24",
            br#"{"host":"b"}"#,
            9,
            9,
        );
        let (network, _) = written(plan(Some(&cluster), &here, &own()));
        assert_eq!(network.blocks, []);
    }

    #[test]
    fn blocks_keep_their_order() {
        let mut cluster = cluster();
        for (revision, block) in [(8, "10.5.0.0-24"), (9, "10.5.9.0-24")] {
            let key = format!("/pontoon/v1/host/a/block/lan/{block}");
            cluster.put(&key, b"{}", revision, revision);
        }
        let mut here = here();
        let (mut file, _) = written(plan(Some(&cluster), &here, &own()));
        file.blocks = vec![
            cidr("10.5.9.0/24"),
            cidr("10.5.1.0/24"),
            cidr("10.6.7.0/24"),
        ];
        here.file = Some(file);
        let (network, _) = written(plan(Some(&cluster), &here, &own()));
        let expected = ["10.5.9.0/24", "10.5.1.0/24", "10.5.0.0/24"].map(cidr);
        assert_eq!(network.blocks, expected);
    }
}
