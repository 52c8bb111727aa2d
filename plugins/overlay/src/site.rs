//! This host's part of the network: its file, and what of the tunnel an ADD needs.

use pontoon_bridge::Beyond;
use pontoon_conf::{Cidr, Error};
use pontoon_ledger::overlay::{OverlayFiles, OverlayMode, OverlayNetwork, device};
use pontoon_netfilter::Reach;
use pontoon_netlink::{Errno, Link, RouteQuestion, RouteSocket};
use pontoon_plugin::{Context, kernel_error, warn};

use crate::config::Config;
use crate::error::SiteError;
use crate::tunnel::{self, Wanted};

/// The file of the network that the verb is about, when this host can serve it.
///
/// # Errors
/// Code 11 when the agent has written none, or no block.
pub(crate) fn read(
    context: &Context,
    config: &Config,
) -> Result<(OverlayFiles, OverlayNetwork), Error> {
    let name = context.config.name.as_str();
    let files = OverlayFiles::locate()?;
    let Some(network) = files.read_network(name)? else {
        return Err(SiteError::Unknown {
            network: name.to_owned(),
            path: files.network_path(name),
        }
        .into());
    };
    if let Some(problem) = network.problem() {
        return Err(SiteError::Invalid {
            network: name.to_owned(),
            problem,
        }
        .into());
    }
    if network.blocks.is_empty() {
        return Err(SiteError::NoBlock {
            network: name.to_owned(),
        }
        .into());
    }
    if let Some(written) = config.vni.filter(|vni| *vni != i64::from(network.vni)) {
        return Err(SiteError::OtherVni {
            network: name.to_owned(),
            written,
            vni: network.vni,
        }
        .into());
    }
    if let Some(written) = config.mode.filter(|mode| *mode != network.mode) {
        return Err(SiteError::OtherMode {
            network: name.to_owned(),
            written,
            mode: network.mode,
        }
        .into());
    }
    Ok((files, network))
}

/// What `bridge` has to know of the network beyond this host.
pub(crate) fn beyond(network: &OverlayNetwork, way: &Way) -> Beyond {
    let gateway = |block: &Cidr| Cidr::new(block.first_host(), block.prefix()).ok();
    Beyond {
        subnets: network.subnets.iter().map(|it| it.subnet).collect(),
        gateways: network.blocks.iter().filter_map(gateway).collect(),
        reach: Some(Reach {
            device: (network.mode != OverlayMode::Direct).then(|| device(&network.network)),
            uplinks: way.uplinks.clone(),
            subnets: network
                .subnets
                .iter()
                .map(|it| it.subnet.network().into())
                .collect(),
        }),
    }
}

/// The way to the other hosts, as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Way {
    /// It is there, as far as one question tells.
    pub(crate) is_there: bool,
    /// The largest packet that gets to the other hosts.
    pub(crate) mtu: Option<u32>,
    /// The interfaces by which packets go as they are; none in mode vxlan.
    pub(crate) uplinks: Vec<String>,
}

impl Way {
    /// Looks at the device, or asks for a route; in the modes that use them, looks up the uplinks.
    pub(crate) fn look(host: &mut RouteSocket, network: &OverlayNetwork) -> Result<Self, Error> {
        let mut way = Self::default();
        if network.mode == OverlayMode::Direct {
            way.is_there = is_routed(host, network)?;
        } else {
            let name = device(&network.network);
            let link = host
                .link_by_name(&name)
                .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?
                .filter(|link| link.vxlan.is_some());
            way.is_there = link.as_ref().is_some_and(|link| link.up);
            way.mtu = link.map(|link| link.mtu);
        }
        if network.mode != OverlayMode::Vxlan {
            let uplinks = uplinks(host, network)?;
            if network.mode == OverlayMode::Direct {
                way.mtu = uplinks.iter().map(|link| link.mtu).min();
            }
            way.uplinks = uplinks.into_iter().map(|link| link.name).collect();
            way.uplinks.dedup();
        }
        Ok(way)
    }
}

/// Whether the kernel knows the network's subnet by our routes.
fn is_routed(host: &mut RouteSocket, network: &OverlayNetwork) -> Result<bool, Error> {
    // The subnet's last address is another host's, or no one's: then our route refuses it.
    let Some(subnet) = network.subnets.first() else {
        return Ok(true);
    };
    let question = RouteQuestion {
        source: None,
        destination: subnet.subnet.broadcast(),
        came_in_by: None,
        mark: 0,
    };
    let route = host
        .matching_route(&question)
        .map_err(|error| kernel_error("cannot ask for a route", error))?;
    Ok(match route {
        Ok(route) => route.protocol == tunnel::PROTOCOL,
        Err(errno) => errno == Errno::EHOSTUNREACH,
    })
}

/// The interfaces that have this host's addresses in the network below.
fn uplinks(host: &mut RouteSocket, network: &OverlayNetwork) -> Result<Vec<Link>, Error> {
    let failed = |error| kernel_error("cannot look up the uplink of the overlay network", error);
    let mut links = Vec::new();
    for v4 in [true, false] {
        let Some(address) = network.underlay.family(v4) else {
            continue;
        };
        let addresses = host.all_addresses(v4).map_err(failed)?;
        if let Some(found) = addresses.iter().find(|it| it.cidr.ip() == address) {
            links.extend(host.link_by_index(found.index).map_err(failed)?);
        }
    }
    Ok(links)
}

/// The way to the other hosts; it is made when it is missing, for the first container after a boot with the agent away.
/// Without a part of it containers reach each other on this host: that is told.
pub(crate) fn connect(
    host: &mut RouteSocket,
    files: &OverlayFiles,
    network: &OverlayNetwork,
) -> Result<Way, Error> {
    let way = Way::look(host, network)?;
    if way.is_there {
        return Ok(way);
    }
    let peers = files.read_peers(&network.network)?.unwrap_or_default();
    let wanted = Wanted {
        network: network.clone(),
        peers,
    };
    for failure in tunnel::apply(host, &wanted)?.failed {
        warn(format_args!(
            "overlay: network {}: {failure}",
            network.network
        ));
    }
    Way::look(host, network)
}
