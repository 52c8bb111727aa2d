//! Decisions: which device may move, what is remembered of it, and whether it listens to routers.

use pontoon_attach::container_link::Advertisements;
use pontoon_ledger::DeviceBefore;
use pontoon_netlink::Link;

use crate::config::Config;
use crate::error::MoveError;

/// Refuses the host's loopback interface, which the kernel moves nowhere.
pub(crate) fn refuse_loopback(link: &Link) -> Result<(), MoveError> {
    if link.name != "lo" {
        return Ok(());
    }
    Err(MoveError::Loopback)
}

/// What DEL gives the device back with.
pub(crate) fn before(link: &Link) -> DeviceBefore {
    DeviceBefore {
        name: link.name.clone(),
        alias: link.alias.clone().unwrap_or_default(),
        up: link.up,
        mtu: link.mtu,
        mac: link.mac,
    }
}

/// Whether the device takes addresses and routes by router advertisements. A device without
/// addresses from Pontoon has to get them by itself.
pub(crate) fn advertisements(config: &Config) -> Advertisements {
    match (config.accept_ra, &config.ipam) {
        (false, None) => Advertisements::Leave,
        (wanted, _) => Advertisements::wanted(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Selector;

    fn config(accept_ra: bool, ipam: Option<&str>) -> Config {
        Config {
            device: Selector::Name("eth1".parse().unwrap()),
            accept_ra,
            dns: None,
            ipam: ipam.map(|name| name.parse().unwrap()),
        }
    }

    #[test]
    fn a_device_without_addresses_listens_to_routers() {
        let decided = |accept_ra, ipam| advertisements(&config(accept_ra, ipam));
        assert_eq!(decided(false, None), Advertisements::Leave);
        assert_eq!(decided(false, Some("static")), Advertisements::Refuse);
        let wanted = Advertisements::wanted(true);
        assert_eq!(decided(true, None), wanted);
        assert_eq!(decided(true, Some("static")), wanted);
    }

    #[test]
    fn the_loopback_interface_stays() {
        let named = |name: &str| Link {
            name: name.to_owned(),
            ..Link::default()
        };
        assert!(refuse_loopback(&named("lo")).is_err());
        assert!(refuse_loopback(&named("eth1")).is_ok());
    }
}
