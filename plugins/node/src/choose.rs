//! Which block of a subnet a host asks for.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pontoon_conf::Cidr;
use pontoon_ledger::overlay::OverlaySubnet;

/// Where a host begins to look for a free block: hosts that start together ask for different ones.
pub(crate) fn seed(host: &str, network: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (host, network).hash(&mut hasher);
    hasher.finish()
}

/// The number of blocks in a subnet; at most `u64::MAX`.
pub(crate) fn count(subnet: OverlaySubnet) -> u64 {
    let bits = subnet.block_prefix.saturating_sub(subnet.subnet.prefix());
    1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
}

/// The first block from a place that depends on `seed` that overlaps none of those that are taken; `None` when there
/// is none.
pub(crate) fn choose(subnet: OverlaySubnet, taken: &BTreeSet<Cidr>, seed: u64) -> Option<Cidr> {
    let count = count(subnet);
    // Where none overlaps two of them, one more than those that are taken is enough.
    let tried = (taken.len() as u64).saturating_add(1).min(count);
    let larger = taken.iter().any(|it| it.prefix() < subnet.block_prefix);
    let tried = if larger { count } else { tried };
    (0..tried)
        .map(|turn| (seed % count + turn) % count)
        .filter_map(|number| nth(subnet, number))
        .find(|block| !taken.iter().any(|other| overlap(*block, *other)))
}

/// The last block of a subnet.
pub(crate) fn last(subnet: OverlaySubnet) -> Option<Cidr> {
    nth(subnet, count(subnet) - 1)
}

/// The block of this number.
fn nth(subnet: OverlaySubnet, number: u64) -> Option<Cidr> {
    let base = subnet.subnet.network().addr();
    let prefix = subnet.block_prefix;
    let address = match base {
        IpAddr::V4(base) => {
            let offset = u128::from(number).checked_shl(32_u32.checked_sub(prefix.into())?)?;
            let offset = u32::try_from(offset).ok()?;
            IpAddr::V4(Ipv4Addr::from(u32::from(base).checked_add(offset)?))
        }
        IpAddr::V6(base) => {
            let offset = u128::from(number).checked_shl(128_u32.checked_sub(prefix.into())?)?;
            IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(offset)?))
        }
    };
    Cidr::new(address, prefix).ok()
}

/// The address of this number in a range, from 0; `None` beyond its end.
pub(crate) fn address(range: Cidr, number: u32) -> Option<IpAddr> {
    let first = range.network().addr();
    let address = match first {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).checked_add(number)?)),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(
            u128::from(first).checked_add(number.into())?,
        )),
    };
    range.contains(address).then_some(address)
}

/// Whether two networks have an address in common.
pub(crate) fn overlap(one: Cidr, other: Cidr) -> bool {
    one.contains(other.network().addr()) || other.contains(one.network().addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str, block_prefix: u8) -> OverlaySubnet {
        OverlaySubnet {
            subnet: text.parse().unwrap(),
            block_prefix,
        }
    }

    fn taken(blocks: &[&str]) -> BTreeSet<Cidr> {
        blocks.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(of: OverlaySubnet, seed: u64, blocks: &[&str], expected: Option<&str>) {
        let found = choose(of, &taken(blocks), seed).map(|block| block.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn blocks_are_parts_of_the_subnet() {
        check(subnet("10.5.0.0/16", 24), 0, &[], Some("10.5.0.0/24"));
        check(subnet("10.5.0.0/16", 24), 7, &[], Some("10.5.7.0/24"));
        check(subnet("10.5.0.0/16", 24), 256, &[], Some("10.5.0.0/24"));
        check(subnet("fd00:5::/48", 64), 3, &[], Some("fd00:5:0:3::/64"));
        check(subnet("10.5.0.0/24", 24), 9, &[], Some("10.5.0.0/24"));
        check(
            subnet("fd00::/8", 128),
            u64::MAX - 1,
            &[],
            Some("fd00::ffff:ffff:ffff:fffe/128"),
        );
    }

    #[test]
    fn what_is_taken_is_passed_over_and_the_end_is_followed_by_the_beginning() {
        let of = subnet("10.5.0.0/22", 24);
        check(of, 3, &["10.5.3.0/24"], Some("10.5.0.0/24"));
        check(of, 3, &["10.5.3.0/24", "10.5.0.0/24"], Some("10.5.1.0/24"));
        let all = ["10.5.0.0/24", "10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"];
        check(of, 1, &all, None);
        check(of, 1, &["10.5.0.0/23"], Some("10.5.2.0/24"));
        check(of, 0, &["10.5.0.64/26"], Some("10.5.1.0/24"));
        check(of, 0, &["10.5.0.0/16"], None);
    }

    #[test]
    fn hosts_begin_at_different_places() {
        let places: BTreeSet<u64> = (0..50)
            .map(|host| seed(&format!("h{host}"), "lan") % 256)
            .collect();
        assert!(places.len() > 35, "{places:?}");
    }
}
