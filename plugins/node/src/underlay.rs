//! This host's end of the tunnels: the addresses by which other hosts reach it.

use pontoon_ledger::overlay::Underlay;
use pontoon_netlink::{Address, Error, RouteSocket};

use crate::settings::UnderlaySettings;

/// `RT_SCOPE_UNIVERSE` (rtnetlink(7)).
const GLOBAL: u8 = 0;

/// The addresses that the settings name, or those of the interface that they name, or of the one with the default
/// route. Empty when there is no such interface, or it has no global address.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn find(
    socket: &mut RouteSocket,
    settings: &UnderlaySettings,
) -> Result<Underlay, Error> {
    if !settings.addresses.is_empty() {
        let mut underlay = Underlay::default();
        for address in &settings.addresses {
            let one = Underlay::of(*address);
            underlay.v4 = underlay.v4.or(one.v4);
            underlay.v6 = underlay.v6.or(one.v6);
        }
        return Ok(underlay);
    }
    let link = match &settings.interface {
        Some(name) => socket.link_by_name(name)?,
        None => socket.uplink()?,
    };
    match link {
        None => Ok(Underlay::default()),
        Some(link) => Ok(first(&socket.addresses(link.index)?)),
    }
}

/// The first address of each family that others can use. One with the whole length is often one that moves between
/// hosts, and is taken only where there is no other.
fn first(addresses: &[Address]) -> Underlay {
    let usable =
        |address: &&Address| address.scope == GLOBAL && !address.tentative && !address.dad_failed;
    let whole =
        |address: &Address| address.cidr.prefix() == if address.cidr.is_ipv4() { 32 } else { 128 };
    let mut underlay = Underlay::default();
    for last in [false, true] {
        for address in addresses.iter().filter(usable) {
            if whole(address) == last {
                let one = Underlay::of(address.cidr.ip());
                underlay.v4 = underlay.v4.or(one.v4);
                underlay.v6 = underlay.v6.or(one.v6);
            }
        }
    }
    underlay
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(cidr: &str, scope: u8) -> Address {
        Address {
            index: 2,
            cidr: cidr.parse().unwrap(),
            scope,
            tentative: false,
            dad_failed: false,
            advertised: false,
        }
    }

    #[test]
    fn the_first_global_address_of_each_family() {
        let mut tentative = address("2001:db8::1/64", 0);
        tentative.tentative = true;
        let found = first(&[
            address("198.18.60.100/32", 0),
            address("169.254.0.1/16", 253),
            address("198.18.60.1/24", 0),
            address("198.18.60.2/24", 0),
            address("fe80::1/64", 253),
            tentative,
            address("2001:db8::2/64", 0),
        ]);
        assert_eq!(found.v4, Some("198.18.60.1".parse().unwrap()));
        assert_eq!(found.v6, Some("2001:db8::2".parse().unwrap()));
        assert_eq!(first(&[]), Underlay::default());
        let only = first(&[address("198.18.60.100/32", 0)]);
        assert_eq!(only.v4, Some("198.18.60.100".parse().unwrap()));
    }
}
