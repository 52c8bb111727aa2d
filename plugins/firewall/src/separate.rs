//! Without `icc` no frame passes from container to container. What a link or a published port lets
//! pass is routed: the host answers when a container asks for a sibling's address, and the packet
//! meets the rules on its way through the host.

use std::net::IpAddr;

use pontoon_attach::{forwarding, rules};
use pontoon_conf::Error;
use pontoon_ledger::FirewallRecord;
use pontoon_netfilter::{BackendKind, PortIsolation, Ruleset};
use pontoon_netlink::{LinkChange, RouteSocket, sysctl};
use pontoon_plugin::{Context, fault, kernel_error, warn};

use crate::error::ProxyError;

/// What makes the host answer on the bridge for its siblings, at once rather than after a random
/// time of up to 0.8 s: (parameter, on, off).
const ANSWERS: [(&str, &str, &str); 4] = [
    ("net/ipv4/conf/BRIDGE/proxy_arp_pvlan", "1", "0"),
    ("net/ipv4/neigh/BRIDGE/proxy_delay", "0", "80"),
    ("net/ipv6/conf/BRIDGE/proxy_ndp", "1", "0"),
    ("net/ipv6/neigh/BRIDGE/proxy_delay", "0", "80"),
];

/// Keeps the attachment's bridge port apart.
pub(crate) fn separate(
    context: &Context,
    host: &mut RouteSocket,
    bridge: &str,
    record: &FirewallRecord,
) -> Result<(), Error> {
    let Some(separation) = &record.separation else {
        return Ok(());
    };
    answer(bridge, true)?;
    fault::point("firewall.answering")?;
    // An internal bridge has not switched it on: it needs none but for this.
    for v4 in [true, false] {
        if record.addresses.iter().any(|it| it.is_ipv4() == v4) {
            forwarding::switch_on("firewall", host, v4)?;
        }
    }
    let failed = |error| kernel_error("cannot look up the container's link on the host", error);
    let unsupported = match rules::open_if_there(context, BackendKind::Nftables)? {
        None => Some("the kernel has no nftables".to_owned()),
        Some(mut backend) => {
            let done = backend.apply(&ruleset(separation));
            rules::close_in_detached_child(backend.into_sockets());
            match done {
                Ok(_) => None,
                Err(error) if error.is_unsupported() => Some(rules::error(error).to_string()),
                Err(error) => return Err(rules::error(error)),
            }
        }
    };
    match unsupported {
        None => {}
        Some(error) => {
            // The bridge's own way: as tight, but a published port of a sibling cannot be reached
            // while bridged packets pass netfilter, which then sends them on as frames.
            warn(format_args!(
                "firewall: {} is isolated by the bridge itself: {error}",
                separation.port
            ));
            let link = host.link_by_name(&separation.port).map_err(failed)?;
            let change = LinkChange {
                isolated: Some(true),
                ..LinkChange::default()
            };
            if let Some(link) = link {
                host.set_link(link.index, &change).map_err(|error| {
                    kernel_error(format!("cannot isolate {}", separation.port), error)
                })?;
            }
        }
    }
    fault::point("firewall.separated")?;
    proxies(host, bridge, record, true)
}

/// The opposite, for one attachment.
pub(crate) fn join(
    context: &Context,
    host: &mut RouteSocket,
    record: &FirewallRecord,
) -> Result<(), Error> {
    let (Some(separation), Some(bridge)) = (&record.separation, record.bridge.as_deref()) else {
        return Ok(());
    };
    // Where there is no nftables, none was used.
    let done = rules::open_if_there(context, BackendKind::Nftables).and_then(|backend| {
        let Some(mut backend) = backend else {
            return Ok(());
        };
        let done = backend.withdraw(&ruleset(separation));
        rules::close_in_detached_child(backend.into_sockets());
        match done {
            Err(error) if !error.is_unsupported() => Err(rules::error(error)),
            _ => Ok(()),
        }
    });
    done.and(proxies(host, bridge, record, false))
}

/// Whether the bridge answers for its containers.
pub(crate) fn answer(bridge: &str, on: bool) -> Result<(), Error> {
    for (path, yes, no) in ANSWERS {
        let path = path.replace("BRIDGE", bridge);
        match sysctl::write_if_different(&path, if on { yes } else { no }) {
            Ok(_) => {}
            // A kernel without IPv6; or the bridge is gone, and its parameters with it.
            Err(error)
                if path.starts_with("net/ipv6") && error.kind() == std::io::ErrorKind::NotFound => {
            }
            Err(error) if !on && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ProxyError {
                    bridge: bridge.to_owned(),
                    path,
                    source,
                }
                .into());
            }
        }
    }
    Ok(())
}

fn proxies(
    host: &mut RouteSocket,
    bridge: &str,
    record: &FirewallRecord,
    on: bool,
) -> Result<(), Error> {
    let mut v6 = record.addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    let Some(first) = v6.next() else {
        return Ok(());
    };
    let failed = |error| kernel_error(format!("cannot proxy neighbours on {bridge}"), error);
    let Some(link) = host.link_by_name(bridge).map_err(failed)? else {
        return Ok(());
    };
    for address in std::iter::once(first).chain(v6) {
        if on {
            host.add_proxied_neighbour(link.index, address)
                .map_err(failed)?;
        } else {
            host.remove_proxied_neighbour(link.index, address)
                .map_err(failed)?;
        }
    }
    Ok(())
}

fn ruleset(separation: &PortIsolation) -> Ruleset {
    Ruleset {
        separation: Some(separation.clone()),
        ..Ruleset::default()
    }
}
