//! What is read of the host before anything is decided.

use std::collections::HashMap;
use std::net::IpAddr;

use pontoon_conf::Cidr;
use pontoon_netlink::RouteSocket;

use super::{TunnelError, Wanted};

/// An interface of this host that has one of its tunnel addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uplink {
    /// Number of the interface.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// Its largest packet.
    pub(super) mtu: u32,
    /// The tunnel address, with the subnet that is on the link.
    pub(super) subnet: Cidr,
}

/// The host as far as the tunnel of one network depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) v4: Option<Uplink>,
    pub(super) v6: Option<Uplink>,
    /// Largest packet on the way to hosts that are not on the link.
    pub(super) far_mtus: HashMap<IpAddr, u32>,
}

impl Facts {
    pub(super) fn uplink(&self, v4: bool) -> Option<&Uplink> {
        if v4 {
            self.v4.as_ref()
        } else {
            self.v6.as_ref()
        }
    }

    /// # Errors
    /// When the kernel refuses a question, or no interface has the tunnel address.
    pub(super) fn read(host: &mut RouteSocket, wanted: &Wanted) -> Result<Self, TunnelError> {
        let network = &wanted.network;
        let failed = |action| {
            move |source| TunnelError::Kernel {
                network: network.network.clone(),
                action,
                source,
            }
        };
        let mut facts = Self::default();
        for v4 in [true, false] {
            let Some(address) = network.underlay.family(v4) else {
                continue;
            };
            let listed = host
                .all_addresses(v4)
                .map_err(failed("list the host's addresses for the tunnel"))?;
            let Some(found) = listed.iter().find(|it| it.cidr.ip() == address) else {
                if network.underlay.tunnel() == Some(address) {
                    return Err(TunnelError::NoAddress {
                        network: network.network.clone(),
                        address,
                    });
                }
                continue;
            };
            let link = host
                .link_by_index(found.index)
                .map_err(failed("look up the uplink for the tunnel"))?;
            let uplink = link.map(|link| Uplink {
                index: found.index,
                name: link.name,
                mtu: link.mtu,
                subnet: found.cidr.into(),
            });
            if v4 {
                facts.v4 = uplink;
            } else {
                facts.v6 = uplink;
            }
        }
        let v4 = network.underlay.v4.is_some();
        let Some(uplink) = facts.uplink(v4).cloned() else {
            return Ok(facts);
        };
        for peer in &wanted.peers.peers {
            let Some(address) = peer.underlay.family(v4) else {
                continue;
            };
            if uplink.subnet.contains(address) {
                continue;
            }
            let route = host
                .route_to(address)
                .map_err(failed("find the route to a host"))?;
            let mut mtu = route.as_ref().and_then(|route| route.mtu);
            if let (None, Some(interface)) = (mtu, route.and_then(|route| route.interface))
                && interface != uplink.index
            {
                let link = host
                    .link_by_index(interface)
                    .map_err(failed("look up the link to a host"))?;
                mtu = link.map(|link| link.mtu);
            }
            facts.far_mtus.extend(mtu.map(|mtu| (address, mtu)));
        }
        Ok(facts)
    }
}
