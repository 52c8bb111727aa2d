//! This host's part of the network: its file, and what of the tunnel an ADD needs.

use pontoon_bridge::Beyond;
use pontoon_conf::Error;
use pontoon_ledger::overlay::{OverlayFiles, OverlayMode, OverlayNetwork, device};
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
pub(crate) fn beyond(network: &OverlayNetwork) -> Beyond {
    Beyond {
        subnets: network.subnets.iter().map(|it| it.subnet).collect(),
    }
}

/// The tunnel's device, of a network that has one.
pub(crate) fn find_device(
    host: &mut RouteSocket,
    network: &OverlayNetwork,
) -> Result<Option<Link>, Error> {
    let name = device(&network.network);
    host.link_by_name(&name)
        .map(|link| link.filter(|link| link.vxlan.is_some()))
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))
}

/// Whether the way to the other hosts is there, as far as one question tells.
pub(crate) fn is_connected(
    host: &mut RouteSocket,
    network: &OverlayNetwork,
) -> Result<bool, Error> {
    if network.mode != OverlayMode::Direct {
        return Ok(find_device(host, network)?.is_some_and(|link| link.up));
    }
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

/// Makes the way to the other hosts when it is missing: for the first container after a boot, when the agent is away.
/// Without it containers reach each other on this host; what is missing is told.
pub(crate) fn connect(
    host: &mut RouteSocket,
    files: &OverlayFiles,
    network: &OverlayNetwork,
) -> Result<(), Error> {
    if is_connected(host, network)? {
        return Ok(());
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
    Ok(())
}

/// The largest packet that gets to the other hosts.
pub(crate) fn mtu(host: &mut RouteSocket, network: &OverlayNetwork) -> Result<Option<u32>, Error> {
    if network.mode != OverlayMode::Direct {
        return Ok(find_device(host, network)?.map(|link| link.mtu));
    }
    let failed = |error| kernel_error("cannot look up the uplink of the overlay network", error);
    let Some(address) = network.underlay.tunnel() else {
        return Ok(None);
    };
    let addresses = host.all_addresses(address.is_ipv4()).map_err(failed)?;
    let Some(found) = addresses.iter().find(|it| it.cidr.ip() == address) else {
        return Ok(None);
    };
    let link = host.link_by_index(found.index).map_err(failed)?;
    Ok(link.map(|link| link.mtu))
}
