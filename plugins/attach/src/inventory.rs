//! What is in a network namespace, as a result tells it: for the plugins that make no interface.

use std::net::IpAddr;

use pontoon_conf::{AddResult, Cidr, Error, Interface, IpConfig, Mac, Route};
use pontoon_netlink::{Address, Link, Netns, RouteEntry, RouteSocket};

use pontoon_plugin::kernel_error;

/// `RTN_UNICAST`.
const UNICAST: u8 = 1;

/// Links, addresses and default routes of a namespace.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    links: Vec<Link>,
    addresses: Vec<Address>,
    defaults: Vec<RouteEntry>,
}

impl Inventory {
    /// Looks at a namespace.
    ///
    /// # Errors
    /// Code 100 when the kernel does not tell.
    pub fn of(netns: &Netns) -> Result<Self, Error> {
        let failed = |error| kernel_error("cannot list what is in the network namespace", error);
        let mut socket = RouteSocket::open_in(netns).map_err(failed)?;
        let mut found = Self {
            links: socket.links().map_err(failed)?,
            ..Self::default()
        };
        for v4 in [true, false] {
            found
                .addresses
                .extend(socket.all_addresses(v4).map_err(failed)?);
            found.defaults.extend(
                socket
                    .routes(v4)
                    .map_err(failed)?
                    .into_iter()
                    .filter(|route| route.destination.prefix() == 0 && route.kind == UNICAST),
            );
        }
        Ok(found)
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The addresses that the outside can see, of one link.
    fn addresses_of(&self, link: &Link) -> impl Iterator<Item = Cidr> {
        let index = link.index;
        self.addresses
            .iter()
            .filter(move |address| address.index == index && !is_link_local(address.cidr.ip()))
            .map(|address| Cidr::from(address.cidr))
    }

    /// The interfaces that have an address, with their addresses and the default routes: the one
    /// with the default route first, the loopback interface only when there is nothing else.
    #[must_use]
    pub fn result(&self, sandbox: &str) -> AddResult {
        let uplink = |link: &&Link| {
            self.defaults
                .iter()
                .position(|route| route.interface == Some(link.index))
                .unwrap_or(usize::MAX)
        };
        let mut chosen: Vec<&Link> = self
            .links
            .iter()
            .filter(|link| link.name != "lo" && self.addresses_of(link).next().is_some())
            .collect();
        chosen.sort_by_key(uplink);
        if chosen.is_empty() {
            chosen.extend(self.links.iter().find(|link| link.name == "lo"));
        }
        let mut result = AddResult::default();
        for (position, link) in chosen.into_iter().enumerate() {
            result.interfaces.push(Interface {
                name: link.name.clone(),
                mac: link.mac.map(|mac| Mac(mac).to_string()),
                mtu: Some(link.mtu),
                sandbox: Some(sandbox.to_owned()),
                ..Interface::default()
            });
            result
                .ips
                .extend(self.addresses_of(link).map(|address| IpConfig {
                    interface: Some(position),
                    address,
                    gateway: self.gateway(link, address),
                }));
        }
        result.routes = self
            .defaults
            .iter()
            .map(|route| Route {
                gw: route.gateway,
                ..Route::to(Cidr::from(route.destination))
            })
            .collect();
        result
    }

    /// The default gateway, for an address of its network.
    fn gateway(&self, link: &Link, address: Cidr) -> Option<IpAddr> {
        let network = pontoon_netlink::IpNetwork::from(address);
        self.defaults
            .iter()
            .filter(|route| route.interface == Some(link.index))
            .filter_map(|route| route.gateway)
            .find(|gateway| network.contains(*gateway))
    }

    /// The first address of a result that its interface does not have here, in words.
    #[must_use]
    pub fn lacks(&self, result: &AddResult) -> Option<String> {
        result.ips.iter().find_map(|ip| {
            let interface = result.interfaces.get(ip.interface?)?;
            let link = self.links.iter().find(|link| link.name == interface.name);
            let there = link.is_some_and(|link| {
                self.addresses
                    .iter()
                    .any(|own| own.index == link.index && Cidr::from(own.cidr) == ip.address)
            });
            (!there).then(|| match link {
                Some(_) => format!("{} has not the address {}", interface.name, ip.address),
                None => format!("{} is gone", interface.name),
            })
        })
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mtu: 1500,
            ..Link::default()
        }
    }

    fn address(index: u32, cidr: &str) -> Address {
        Address {
            index,
            cidr: cidr.parse().unwrap(),
            scope: 0,
            tentative: false,
            dad_failed: false,
            advertised: false,
        }
    }

    fn host() -> Inventory {
        let defaults = RouteEntry {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.0.0.1".parse().unwrap()),
            interface: Some(3),
            prefsrc: None,
            priority: None,
            table: 254,
            scope: 0,
            protocol: 3,
            kind: UNICAST,
            mtu: None,
            advmss: None,
            next_hops: Vec::new(),
        };
        Inventory {
            links: vec![
                link(1, "lo"),
                link(2, "br0"),
                link(3, "eth0"),
                link(4, "veth"),
            ],
            addresses: vec![
                address(1, "127.0.0.1/8"),
                address(2, "172.17.0.1/16"),
                address(3, "10.0.0.2/24"),
                address(3, "fe80::1/64"),
            ],
            defaults: vec![defaults],
        }
    }

    #[test]
    fn the_uplink_comes_first_and_bare_links_do_not_come() {
        let result = host().result("/run/netns/x");
        let names: Vec<&str> = result
            .interfaces
            .iter()
            .map(|interface| interface.name.as_str())
            .collect();
        assert_eq!(names, ["eth0", "br0"]);
        let ips: Vec<String> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.0.0.2/24", "172.17.0.1/16"]);
        assert_eq!(result.ips[0].gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(result.ips[1].gateway, None);
        assert_eq!(host().lacks(&result), None);
    }

    #[test]
    fn an_empty_namespace_has_its_loopback() {
        let bare = Inventory {
            links: vec![link(1, "lo")],
            addresses: vec![address(1, "127.0.0.1/8")],
            ..Inventory::default()
        };
        let result = bare.result("/run/netns/x");
        assert_eq!(result.interfaces[0].name, "lo");
        assert_eq!(result.ips.len(), 1);
        let lacks = bare.lacks(&host().result("/run/netns/x"));
        assert_eq!(lacks.as_deref(), Some("eth0 is gone"));
    }
}
