//! `"subnet": "auto"`: a subnet out of Docker's default pools.

pub(crate) mod facts;

use std::net::{IpAddr, Ipv4Addr};

use crate::span::Span;

/// A stretch of addresses that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetPool {
    base: Ipv4Addr,
    prefix: u8,
    /// Prefix length of the subnets.
    size: u8,
}

impl SubnetPool {
    /// A pool `base/prefix` of subnets `/size`.
    #[must_use]
    pub const fn new(base: Ipv4Addr, prefix: u8, size: u8) -> SubnetPool {
        SubnetPool { base, prefix, size }
    }

    fn subnets(self) -> impl Iterator<Item = Ipv4Addr> {
        let count = 1_u32 << self.size.saturating_sub(self.prefix).min(31);
        let step = 1_u32 << (32 - u32::from(self.size)).min(31);
        (0..count).map(move |number| Ipv4Addr::from(u32::from(self.base) + number * step))
    }
}

/// Docker's default pools for networks of one host.
pub const DEFAULT_POOLS: [SubnetPool; 7] = [
    SubnetPool::new(Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    SubnetPool::new(Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    SubnetPool::new(Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    SubnetPool::new(Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    SubnetPool::new(Ipv4Addr::new(172, 24, 0, 0), 14, 16),
    SubnetPool::new(Ipv4Addr::new(172, 28, 0, 0), 14, 16),
    SubnetPool::new(Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

/// The first subnet that has no address in common with anything taken, as
/// `address/length`.
#[must_use]
pub fn choose(pools: &[SubnetPool], taken: &[Span]) -> Option<String> {
    pools
        .iter()
        .flat_map(|pool| pool.subnets().map(|subnet| (IpAddr::V4(subnet), pool.size)))
        .find(|(subnet, size)| {
            let span = Span::network(*subnet, *size);
            !taken.iter().any(|other| other.overlaps(&span))
        })
        .map(|(subnet, size)| format!("{subnet}/{size}"))
}

/// Whether a route says that these addresses are somewhere in particular. The
/// default route does not, nor do its halves, by which full-tunnel VPNs
/// override it: they would rule out every pool.
pub(crate) fn is_particular(prefix: u8) -> bool {
    prefix >= 8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::range::parse_network;

    fn span(text: &str) -> Span {
        let (address, prefix) = parse_network(text).expect("network");
        Span::network(address, prefix)
    }

    #[track_caller]
    fn check(taken: &[&str], expected: Option<&str>) {
        let taken: Vec<_> = taken.iter().map(|text| span(text)).collect();
        assert_eq!(choose(&DEFAULT_POOLS, &taken).as_deref(), expected);
    }

    #[test]
    fn first_without_overlap() {
        check(&[], Some("172.17.0.0/16"));
        check(&["172.17.0.1/32"], Some("172.18.0.0/16"));
        check(&["172.16.0.0/14"], Some("172.20.0.0/16"));
        check(
            &[
                "172.17.0.0/16",
                "172.18.9.0/24",
                "172.19.0.0/16",
                "172.20.255.255/32",
            ],
            Some("172.21.0.0/16"),
        );
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(
            &["172.16.0.0/12", "192.168.0.0/24"],
            Some("192.168.16.0/20"),
        );
        check(&["172.16.0.0/12", "192.168.0.0/16"], None);
        check(&["fd00::/8", "10.0.0.0/8"], Some("172.17.0.0/16"));
    }

    #[test]
    fn thirty_one_networks_in_order() {
        let mut taken = Vec::new();
        let mut seen = Vec::new();
        while let Some(subnet) = choose(&DEFAULT_POOLS, &taken) {
            taken.push(span(&subnet));
            seen.push(subnet);
        }
        assert_eq!(seen.len(), 31);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 31);
        assert_eq!(seen.last().map(String::as_str), Some("192.168.240.0/20"));
    }

    #[test]
    fn the_halves_of_a_default_route() {
        assert!(!is_particular(0) && !is_particular(1) && is_particular(8) && is_particular(32));
    }
}
