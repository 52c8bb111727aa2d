//! Address blocks with a meaning of their own.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The host's own loopback.
pub(super) const LOOPBACK: IpNetwork = v4(Ipv4Addr::new(127, 0, 0, 0), 8);
/// The host's own loopback address in IPv6.
pub(super) const LOOPBACK6: IpNetwork = match Ipv6Network::new_checked(Ipv6Addr::LOCALHOST, 128) {
    Some(network) => IpNetwork::V6(network),
    None => IpNetwork::V6(ANY6),
};
/// Never masqueraded: receivers identify the source by its address.
pub(super) const MULTICAST4: IpNetwork = v4(Ipv4Addr::new(224, 0, 0, 0), 4);
/// The same for IPv6.
pub(super) const MULTICAST6: IpNetwork =
    match Ipv6Network::new_checked(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8) {
        Some(network) => IpNetwork::V6(network),
        None => IpNetwork::V6(ANY6),
    };

const ANY6: Ipv6Network = match Ipv6Network::new_checked(Ipv6Addr::UNSPECIFIED, 0) {
    Some(network) => network,
    None => unreachable!(),
};

const fn v4(address: Ipv4Addr, prefix: u8) -> IpNetwork {
    match Ipv4Network::new_checked(address, prefix) {
        Some(network) => IpNetwork::V4(network),
        // Evaluated when compiled: a wrong prefix would not compile.
        None => unreachable!(),
    }
}
