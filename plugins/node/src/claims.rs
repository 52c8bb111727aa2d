//! Which keys of a network's blocks this host writes: a function of what etcd says, what lies on the disk, and how many
//! addresses are in use.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_conf::Cidr;
use pontoon_ledger::overlay::OverlaySubnet;

use crate::choose::{choose, overlap};
use crate::cluster::{Block, Cluster};

/// Of a host's addresses, the part in use at which it asks for another block: three quarters.
const FULL: (u64, u64) = (3, 4);

/// What this host knows of its part of a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    /// This host's id.
    pub(crate) host: String,
    /// Where it begins to look for a free block, see [`crate::choose::seed`].
    pub(crate) seed: u64,
    /// The blocks in its file.
    pub(crate) on_disk: BTreeSet<Cidr>,
    /// Addresses in use, by block.
    pub(crate) used: BTreeMap<Cidr, u64>,
    /// Blocks without addresses in use that have not been in its file for long enough: no ADD takes one from them.
    pub(crate) retired: BTreeSet<Cidr>,
    /// Whether the host has a configuration of the network, and is not being emptied.
    pub(crate) wanted: bool,
}

/// A change of the keys of one block. Each is one transaction, which changes nothing when etcd says something else than
/// what was decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Asks for a block: the claim and its confirmation. `over` is the revision of a claim by this host, or 0 when
    /// there must be none.
    Claim { block: Cidr, over: i64 },
    /// Writes this host's claim again: another host wrote over it, or it is gone. `over` as above.
    Mend { block: Cidr, over: i64 },
    /// Gives a block back: the confirmation, and the claim when it is this host's.
    Release { block: Cidr },
}

/// What is done about a network's blocks. `subnets` is empty for a network that etcd does not have.
pub(crate) fn decide(
    cluster: &Cluster,
    network: &str,
    subnets: &[OverlaySubnet],
    own: &Own,
) -> Vec<Act> {
    let mut acts = Vec::new();
    let held = cluster.blocks_of(network, &own.host);
    for (block, said) in cluster.blocks(network) {
        let confirmed = said.confirmed.contains_key(&own.host);
        match (&said.claim, said.owner() == Some(own.host.as_str())) {
            // Another host was first.
            (_, false) if confirmed => acts.push(Act::Release { block }),
            (Some((host, _)), true) if *host == own.host => {}
            (claim, true) => {
                let over = claim.as_ref().map_or(0, |(_, modified)| *modified);
                acts.push(Act::Mend { block, over });
            }
            (_, false) => {}
        }
    }
    let idle = |block: &Cidr| own.used.get(block).copied() == Some(0);
    let given_back = own.retired.iter().filter(|block| idle(block));
    acts.extend(
        given_back
            .filter(|block| held.contains(block))
            .map(|block| Act::Release { block: *block }),
    );
    // Blocks of the disk that etcd does not know, or no longer, are asked for again.
    for block in &own.on_disk {
        let said = cluster.said_of(network, *block);
        if let Some(over) = may_be_claimed(said, &own.host)
            && !held.contains(block)
            && inside(*block, subnets)
        {
            let block = *block;
            acts.push(Act::Claim { block, over });
        }
    }
    if own.wanted {
        let asked: BTreeSet<Cidr> = acts.iter().filter_map(asked).collect();
        for subnet in subnets {
            let is_own = |block: &&Cidr| inside(**block, std::slice::from_ref(subnet));
            let mine: BTreeSet<Cidr> = held.iter().chain(&asked).filter(is_own).copied().collect();
            if is_enough(&mine, &own.used) {
                continue;
            }
            let taken = cluster.blocks(network).map(|(block, _)| block);
            let value = cluster.networks.get(network);
            let services = value
                .iter()
                .flat_map(|value| value.services.iter().copied());
            let taken: BTreeSet<Cidr> = taken.chain(mine).chain(services).collect();
            if let Some(block) = choose(*subnet, &taken, own.seed) {
                acts.push(Act::Claim { block, over: 0 });
            }
        }
    }
    acts
}

/// The blocks of the disk that are another host's, and whose.
pub(crate) fn lost<'c>(
    cluster: &'c Cluster,
    network: &str,
    own: &'c Own,
) -> impl Iterator<Item = (Cidr, &'c str)> {
    let network = network.to_owned();
    own.on_disk.iter().filter_map(move |block| {
        let said = cluster.said_of(&network, *block)?;
        let owner = said.owner().filter(|owner| *owner != own.host)?;
        Some((*block, owner))
    })
}

/// Addresses for containers in a block: without those of the network, the gateway and, in IPv4, the broadcast.
pub(crate) fn room(block: Cidr) -> u64 {
    let bits = if block.is_ipv4() { 32 } else { 128 } - u32::from(block.prefix());
    let all = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    all.saturating_sub(if block.is_ipv4() { 3 } else { 2 })
}

/// The revision of the claim to write over, 0 for none; `None` when the block is another host's.
fn may_be_claimed(said: Option<&Block>, host: &str) -> Option<i64> {
    let Some(said) = said else { return Some(0) };
    if said.owner().is_some_and(|owner| owner != host) {
        return None;
    }
    match &said.claim {
        None => Some(0),
        Some((claimed, modified)) => (claimed == host).then_some(*modified),
    }
}

/// Whether a block is this host's, or nothing keeps this host from claiming it again.
pub(crate) fn is_or_may_be(cluster: &Cluster, network: &str, block: Cidr, host: &str) -> bool {
    let said = cluster.said_of(network, block);
    let owner = said.and_then(Block::owner);
    owner == Some(host) || may_be_claimed(said, host).is_some()
}

fn asked(act: &Act) -> Option<Cidr> {
    match act {
        Act::Claim { block, .. } => Some(*block),
        Act::Mend { .. } | Act::Release { .. } => None,
    }
}

pub(crate) fn inside(block: Cidr, subnets: &[OverlaySubnet]) -> bool {
    subnets.iter().any(|it| {
        it.subnet.is_ipv4() == block.is_ipv4()
            && it.subnet.prefix() <= block.prefix()
            && overlap(it.subnet, block)
    })
}

fn is_enough(mine: &BTreeSet<Cidr>, used: &BTreeMap<Cidr, u64>) -> bool {
    let all = mine.iter().map(|block| room(*block));
    let all = all.fold(0, u64::saturating_add);
    let used: u64 = mine.iter().filter_map(|block| used.get(block)).sum();
    !mine.is_empty() && used.saturating_mul(FULL.1) < all.saturating_mul(FULL.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn subnets() -> Vec<OverlaySubnet> {
        vec![OverlaySubnet {
            subnet: cidr("10.5.0.0/16"),
            block_prefix: 24,
        }]
    }

    fn own() -> Own {
        Own {
            host: "a".to_owned(),
            seed: 7,
            wanted: true,
            ..Own::default()
        }
    }

    /// A cluster in which these hosts have claimed and confirmed these blocks, each a revision after the one before.
    fn cluster(owners: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::default();
        for (number, (host, block)) in owners.iter().enumerate() {
            let (dashed, revision) = (block.replace('/', "-"), number as i64 + 1);
            let claim = format!("{{\"host\":\"{host}\"}}");
            cluster.put(
                &format!("/pontoon/v1/block/lan/{dashed}"),
                claim.as_bytes(),
                revision,
                revision,
            );
            cluster.put(
                &format!("/pontoon/v1/host/{host}/block/lan/{dashed}"),
                b"{}",
                revision,
                revision,
            );
        }
        cluster
    }

    fn claim(block: &str) -> Act {
        Act::Claim {
            block: cidr(block),
            over: 0,
        }
    }

    #[track_caller]
    fn check(cluster: &Cluster, own: &Own, expected: &[Act]) {
        assert_eq!(decide(cluster, "lan", &subnets(), own), expected);
    }

    #[test]
    fn a_host_without_a_block_asks_for_the_first_free_one() {
        check(&cluster(&[]), &own(), &[claim("10.5.7.0/24")]);
        let others = cluster(&[("b", "10.5.7.0/24"), ("c", "10.5.8.0/24")]);
        check(&others, &own(), &[claim("10.5.9.0/24")]);
        check(&cluster(&[("a", "10.5.7.0/24")]), &own(), &[]);
    }

    #[test]
    fn the_next_block_is_claimed_at_three_quarters() {
        let mut own = own();
        let cluster = cluster(&[("a", "10.5.7.0/24")]);
        // 253 addresses: 189 are less than three quarters, 190 are not.
        own.used.insert(cidr("10.5.7.0/24"), 189);
        check(&cluster, &own, &[]);
        own.used.insert(cidr("10.5.7.0/24"), 190);
        check(&cluster, &own, &[claim("10.5.8.0/24")]);
    }

    #[test]
    fn what_is_on_disk_is_claimed_again_when_etcd_has_forgotten() {
        let mut own = own();
        own.on_disk.insert(cidr("10.5.3.0/24"));
        check(&cluster(&[]), &own, &[claim("10.5.3.0/24")]);
        // A block of a subnet that the network no longer has.
        own.on_disk.insert(cidr("10.6.3.0/24"));
        check(&cluster(&[]), &own, &[claim("10.5.3.0/24")]);
    }

    #[test]
    fn what_another_host_has_meanwhile_is_lost_and_another_block_asked_for() {
        let mut own = own();
        own.on_disk.insert(cidr("10.5.3.0/24"));
        let cluster = cluster(&[("b", "10.5.3.0/24")]);
        check(&cluster, &own, &[claim("10.5.7.0/24")]);
        let lost: Vec<_> = lost(&cluster, "lan", &own).collect();
        assert_eq!(lost, [(cidr("10.5.3.0/24"), "b")]);
    }

    #[test]
    fn two_hosts_that_confirm_one_block_the_second_gives_it_back() {
        let cluster = cluster(&[("b", "10.5.3.0/24"), ("a", "10.5.3.0/24")]);
        let release = Act::Release {
            block: cidr("10.5.3.0/24"),
        };
        check(&cluster, &own(), &[release, claim("10.5.7.0/24")]);
        // `b` was first and writes its claim, over which `a` wrote, again.
        let mut first = own();
        first.host = "b".to_owned();
        let mend = Act::Mend {
            block: cidr("10.5.3.0/24"),
            over: 2,
        };
        check(&cluster, &first, &[mend]);
    }

    #[test]
    fn a_claim_without_confirmation_is_not_free() {
        let mut cluster = cluster(&[]);
        cluster.put(
            "/pontoon/v1/block/lan/10.5.7.0-24",
            br#"{"host":"b"}"#,
            1,
            1,
        );
        check(&cluster, &own(), &[claim("10.5.8.0/24")]);
        // Its own it confirms, over the claim that is there.
        cluster.put(
            "/pontoon/v1/block/lan/10.5.3.0-24",
            br#"{"host":"a"}"#,
            2,
            4,
        );
        let mut own = own();
        own.on_disk.insert(cidr("10.5.3.0/24"));
        let confirm = Act::Claim {
            block: cidr("10.5.3.0/24"),
            over: 4,
        };
        check(&cluster, &own, &[confirm]);
    }

    #[test]
    fn a_block_is_given_back_only_when_no_add_can_use_it() {
        let mut own = own();
        own.wanted = false;
        let cluster = cluster(&[("a", "10.5.7.0/24")]);
        check(&cluster, &own, &[]);
        own.retired.insert(cidr("10.5.7.0/24"));
        own.used.insert(cidr("10.5.7.0/24"), 1);
        check(&cluster, &own, &[]);
        // Where it is not known what is in use, everything may be.
        own.used.clear();
        check(&cluster, &own, &[]);
        own.used.insert(cidr("10.5.7.0/24"), 0);
        let release = Act::Release {
            block: cidr("10.5.7.0/24"),
        };
        check(&cluster, &own, &[release]);
    }

    #[test]
    fn rooms() {
        assert_eq!(room(cidr("10.5.7.0/24")), 253);
        assert_eq!(room(cidr("10.5.7.0/31")), 0);
        assert_eq!(room(cidr("fd00::/64")), u64::MAX - 2);
    }
}
