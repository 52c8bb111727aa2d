//! The device of a tunnel: found, made or mended.

use pontoon_ledger::overlay;
use pontoon_netfilter::Owner;
use pontoon_netlink::{LOOSE, Link, LinkChange, RouteSocket, VxlanSpec, sysctl};

use super::plan::Device;
use super::{Changes, TunnelError};

fn kernel(
    network: &str,
    action: &'static str,
) -> impl FnOnce(pontoon_netlink::Error) -> TunnelError {
    let network = network.to_owned();
    move |source| TunnelError::Kernel {
        network,
        action,
        source,
    }
}

/// The network's device, when there is one of its name that Pontoon made for it. One without a note is: the program that
/// made it was killed before it could write one.
///
/// # Errors
/// When a link of that name is another program's.
pub(super) fn find(host: &mut RouteSocket, network: &str) -> Result<Option<Link>, TunnelError> {
    let name = overlay::device(network);
    let link = host
        .link_by_name(&name)
        .map_err(kernel(network, "look up the tunnel device"))?;
    let Some(link) = link else { return Ok(None) };
    let alias = link.alias.as_deref().unwrap_or_default();
    let ours = alias.is_empty() || alias == Owner::network(network).tag();
    if link.vxlan.is_none() || !ours {
        return Err(TunnelError::Foreign {
            network: network.to_owned(),
            device: name,
        });
    }
    Ok(Some(link))
}

pub(super) fn delete(host: &mut RouteSocket, network: &str, index: u32) -> Result<(), TunnelError> {
    host.delete_link(index)
        .map(drop)
        .map_err(kernel(network, "remove the tunnel device"))
}

/// Makes the device what it shall be, and tells its number. One whose fixed properties differ is made anew: its entries
/// go with it.
pub(super) fn ensure(
    host: &mut RouteSocket,
    network: &str,
    wanted: &Device,
    changes: &mut Changes,
) -> Result<u32, TunnelError> {
    let found = find(host, network)?;
    let link = match found {
        Some(link) if is_as_wanted(&link, wanted) => link,
        Some(link) => {
            delete(host, network, link.index)?;
            changes.removed += 1;
            create(host, network, wanted, changes)?
        }
        None => create(host, network, wanted, changes)?,
    };
    parameters(network, &link, wanted, changes)?;
    mend(host, network, &link, wanted, changes)?;
    addresses(host, network, link.index, wanted, changes)?;
    Ok(link.index)
}

/// Whether the properties are right that a device keeps for life.
fn is_as_wanted(link: &Link, wanted: &Device) -> bool {
    link.vxlan.is_some_and(|info| {
        (info.vni, info.port, info.local, info.learning)
            == (wanted.vni, wanted.port, Some(wanted.local), false)
    })
}

fn create(
    host: &mut RouteSocket,
    network: &str,
    wanted: &Device,
    changes: &mut Changes,
) -> Result<Link, TunnelError> {
    let tag = Owner::network(network).tag();
    let spec = VxlanSpec {
        name: &wanted.name,
        vni: wanted.vni,
        local: wanted.local,
        port: wanted.port,
        mac: wanted.mac.0,
        mtu: wanted.mtu,
        alias: Some(&tag),
    };
    let failed = || kernel(network, "make the tunnel device");
    let made = match host.create_vxlan(&spec) {
        Err(error) if error.is_exists() => {
            // What an earlier network of this number has left, or another program's.
            let devices = host.links_of_kind("vxlan").map_err(failed())?;
            let twin = devices.into_iter().find(|link| {
                link.vxlan
                    .is_some_and(|info| (info.vni, info.port) == (wanted.vni, wanted.port))
            });
            let Some(twin) = twin else {
                return Err(failed()(error));
            };
            let alias = twin.alias.as_deref().unwrap_or_default();
            if !alias.starts_with("pontoon ") {
                return Err(TunnelError::VniTaken {
                    network: network.to_owned(),
                    other: twin.name,
                    vni: wanted.vni,
                    port: wanted.port,
                });
            }
            delete(host, network, twin.index)?;
            changes.removed += 1;
            host.create_vxlan(&spec)
        }
        made => made,
    };
    let link = made.map_err(failed())?;
    changes.added += 1;
    Ok(link)
}

/// Properties that can be set on a device that works.
fn mend(
    host: &mut RouteSocket,
    network: &str,
    link: &Link,
    wanted: &Device,
    changes: &mut Changes,
) -> Result<(), TunnelError> {
    let tag = Owner::network(network).tag();
    let change = LinkChange {
        up: (!link.up).then_some(true),
        mtu: (link.mtu != wanted.mtu).then_some(wanted.mtu),
        mac: (link.mac != Some(wanted.mac.0)).then_some(wanted.mac.0),
        alias: (link.alias.as_deref() != Some(&tag)).then_some(tag),
        ..LinkChange::default()
    };
    if change == LinkChange::default() {
        return Ok(());
    }
    host.set_link(link.index, &change)
        .map_err(kernel(network, "change the tunnel device"))?;
    // A device that has just been made is one change, not two.
    changes.changed += usize::from(!is_new(link));
    Ok(())
}

/// Whether it has just been made: it comes up when all is set.
fn is_new(link: &Link) -> bool {
    !link.up && !link.carrier
}

/// Parameters of the device, in the namespace of the calling thread.
fn parameters(
    network: &str,
    link: &Link,
    wanted: &Device,
    changes: &mut Changes,
) -> Result<(), TunnelError> {
    let name = &wanted.name;
    // A container that answers by another of its networks must not be dropped.
    let mut settings = vec![(format!("net/ipv4/conf/{name}/rp_filter"), LOOSE.to_string())];
    let v6 = |key: &str, value: &str| (format!("net/ipv6/conf/{name}/{key}"), value.to_owned());
    settings.push(v6("disable_ipv6", if wanted.v6 { "0" } else { "1" }));
    // No host of the tunnel is a router that this host may take routes from.
    settings.push(v6("accept_ra", "0"));
    settings.push(v6("accept_dad", "0"));
    let mut changed = false;
    for (path, value) in settings {
        match sysctl::write_if_different(&path, &value) {
            Ok(written) => changed |= written,
            // A kernel without IPv6 has no such parameter.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && path.starts_with("net/ipv6")
                    && !wanted.v6 => {}
            Err(source) => {
                return Err(TunnelError::Parameter {
                    network: network.to_owned(),
                    path,
                    source,
                });
            }
        }
    }
    changes.changed += usize::from(changed && !is_new(link));
    Ok(())
}

fn addresses(
    host: &mut RouteSocket,
    network: &str,
    index: u32,
    wanted: &Device,
    changes: &mut Changes,
) -> Result<(), TunnelError> {
    let failed = || kernel(network, "set the addresses of the tunnel device");
    let there = host.addresses(index).map_err(failed())?;
    let wanted: Vec<_> = wanted.addresses.iter().map(|it| (*it).into()).collect();
    // First what is missing: with its last IPv4 address the device would lose its routes.
    for missing in &wanted {
        if !there.iter().any(|it| it.cidr == *missing) {
            let added = host.add_address(index, *missing, true).map_err(failed())?;
            changes.added += usize::from(added);
        }
    }
    // The kernel gives the device its link-local address.
    let extra = there
        .iter()
        .filter(|it| it.scope == 0 && !wanted.contains(&it.cidr));
    for extra in extra {
        let removed = host.remove_address(index, extra.cidr).map_err(failed())?;
        changes.removed += usize::from(removed);
    }
    Ok(())
}
