//! What a network has once, however many containers it has: the bridge, its addresses, forwarding,
//! masquerade. Made by the first ADD, found by one lookup each by the following ones.
//!
//! The rules go a second after the last attachment. The bridge stays, as docker0 does and as the
//! reference plugin leaves it: the kernel removes a bridge under the lock that every other ADD and
//! DEL of the host needs, and waits 15 to 35 ms there (`rcu_barrier` in `br_multicast_dev_del`).
//! GC of a network without attachments removes it.

use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_attach::{forwarding, masquerade, veth};
use pontoon_conf::{Cidr, Error};
use pontoon_ledger::BridgeBased;
use pontoon_netfilter::{Backend, BackendKind, NetworkRules, Owner, Reach};
use pontoon_netlink::{BridgeSpec, LOOSE, Link, LinkChange, RouteEntry, RouteSocket, sysctl};
use pontoon_plugin::{Context, fault, kernel_error};

use crate::error::BridgeError;
use crate::undo::Step;
use crate::{foreign, plan};

/// What an ADD wants the network to be.
#[derive(Debug)]
pub(crate) struct BridgeSettings {
    pub(crate) bridge: String,
    pub(crate) mtu: Option<u32>,
    pub(crate) promisc: bool,
    pub(crate) vlan_filtering: bool,
    pub(crate) force_address: bool,
    pub(crate) gateways: Vec<Cidr>,
    pub(crate) internal: bool,
    pub(crate) reach: Option<Reach>,
    /// Addresses of the network that other containers have as gateways.
    pub(crate) beside: Vec<Cidr>,
    /// The lease directory, unless the bridge may be another program's.
    pub(crate) pool: Option<PathBuf>,
    pub(crate) rules: Option<(BackendKind, NetworkRules)>,
}

/// Makes the network what it shall be, and touches nothing that already is. Runs under a shared
/// lock of the network: ADDs do not wait for each other, each step being safe to do twice at once.
/// With the backend goes whether it had to make rules.
pub(crate) fn ensure<R: BridgeBased>(
    context: &Context,
    host: &mut RouteSocket,
    wanted: &BridgeSettings,
    undo: &mut dyn FnMut(Step),
) -> Result<(Link, Option<(Backend, bool)>), Error> {
    let network = context.config.name.to_string();
    let existing = lookup(host, &wanted.bridge)?;
    if let Some(link) = &existing {
        refuse_other_kind(link)?;
    }
    foreign::refuse(context, host, existing.as_ref(), wanted.pool.as_deref())?;
    let present = present(host, existing.as_ref(), wanted)?;
    refuse_clash(host, &present, wanted)?;
    let displaced = displaced(&present, wanted)?;
    // What is refused is refused by now: the note would stay.
    masquerade::note(
        context,
        wanted.rules.as_ref(),
        wanted.internal,
        wanted.reach.as_ref(),
    )?;
    let mut bridge = bridge(host, &network, existing, wanted, undo)?;
    if !is_ours(&bridge) && becomes_gateway::<R>(context, &present, wanted)? {
        own(host, &mut bridge)?;
    }
    fault::point("bridge.created")?;
    addresses(host, &bridge, &present, &displaced, wanted, undo)?;
    fault::point("bridge.addressed")?;
    switch_forwarding(R::PLUGIN, host, wanted, undo)?;
    fault::point("bridge.forwarding")?;
    let backend = match &wanted.rules {
        None => None,
        Some(rules) => Some(masquerade::apply(context, rules)?),
    };
    fault::point("bridge.masqueraded")?;
    Ok((bridge, backend))
}

fn lookup(host: &mut RouteSocket, name: &str) -> Result<Option<Link>, Error> {
    host.link_by_name(name)
        .map_err(|error| kernel_error(format!("cannot look up bridge {name}"), error))
}

fn bridge(
    host: &mut RouteSocket,
    network: &str,
    existing: Option<Link>,
    wanted: &BridgeSettings,
    undo: &mut dyn FnMut(Step),
) -> Result<Link, Error> {
    let name = &wanted.bridge;
    let link = match existing {
        Some(link) => link,
        None => {
            let spec = BridgeSpec {
                name,
                mac: veth::random_mac(),
                mtu: wanted.mtu,
                vlan_filtering: wanted.vlan_filtering,
                alias: Some(&Owner::network(network).tag()),
            };
            match host.create_bridge(&spec) {
                Ok(link) => {
                    // An advertisement on a bridge of containers must never give the host a route,
                    // and its own link-local address must not stay tentative for the first second
                    // in which packets for containers come in. Kernels without IPv6 have neither.
                    for key in ["accept_ra", "accept_dad"] {
                        let path = format!("net/ipv6/conf/{name}/{key}");
                        let _ = sysctl::write_if_different(&path, "0");
                    }
                    undo(Step::BridgeCreated(link.index));
                    link
                }
                Err(error) if error.is_exists() => {
                    lookup(host, name)?.ok_or_else(|| BridgeError::Removed {
                        bridge: name.clone(),
                    })?
                }
                Err(error) => {
                    return Err(kernel_error(format!("cannot create bridge {name}"), error));
                }
            }
        }
    };
    refuse_other_kind(&link)?;
    let up = !link.up;
    let promisc = wanted.promisc && !link.promisc;
    let mtu = wanted.mtu.filter(|mtu| link.mtu != *mtu);
    // A container on several networks answers by the one with its default route.
    let routes = wanted.gateways.iter().any(Cidr::is_ipv4);
    let loose = routes && link.rp_filter != LOOSE;
    if up || promisc || mtu.is_some() || loose {
        let change = LinkChange {
            up: up.then_some(true),
            rp_filter: loose.then_some(LOOSE),
            promisc: promisc.then_some(true),
            mtu,
            ..LinkChange::default()
        };
        host.set_link(link.index, &change)
            .map_err(|error| kernel_error(format!("cannot set up bridge {name}"), error))?;
        undo(Step::Bridge(
            link.index,
            LinkChange {
                up: up.then_some(false),
                rp_filter: loose.then_some(link.rp_filter),
                promisc: promisc.then_some(false),
                mtu: mtu.map(|_| link.mtu),
                ..LinkChange::default()
            },
        ));
    }
    Ok(link)
}

fn refuse_other_kind(link: &Link) -> Result<(), Error> {
    if link.kind.as_deref() == Some("bridge") {
        return Ok(());
    }
    let name = link.name.clone();
    Err(BridgeError::NoBridge { name }.into())
}

/// Pontoon has made it, with an address that stays.
fn is_ours(bridge: &Link) -> bool {
    bridge
        .alias
        .as_deref()
        .is_some_and(|alias| alias.starts_with("pontoon "))
}

/// Whether containers of this network have had no gateway on the bridge before.
fn becomes_gateway<R: BridgeBased>(
    context: &Context,
    present: &[Cidr],
    wanted: &BridgeSettings,
) -> Result<bool, Error> {
    if wanted.gateways.is_empty() {
        return Ok(false);
    }
    let all = wanted.gateways.iter().all(|it| present.contains(it));
    // An administrator may have given it the address.
    Ok(!all || context.state.records_of::<R>().is_only(&context.key()?)?)
}

/// Makes a bridge that was there before fit to be a gateway.
///
/// Its address must not follow its ports: as long as none was set, a bridge takes the lowest of theirs, and containers
/// remember a wrong one for their gateway whenever one of them goes. Setting the one that it has is enough for the
/// kernel. And no container may give the host a route by advertising a router, unless the host lives by what is
/// advertised there.
fn own(host: &mut RouteSocket, bridge: &mut Link) -> Result<(), Error> {
    let name = bridge.name.clone();
    // One that has lost its last port has none.
    let mac = bridge.mac.filter(|mac| *mac != [0; 6]);
    let mac = mac.unwrap_or_else(veth::random_mac);
    let change = LinkChange {
        mac: Some(mac),
        ..LinkChange::default()
    };
    host.set_link(bridge.index, &change).map_err(|error| {
        kernel_error(
            format!("cannot fix the MAC address of bridge {name}"),
            error,
        )
    })?;
    bridge.mac = Some(mac);
    let routes = host
        .routes(false)
        .map_err(|error| kernel_error("cannot list the host's IPv6 routes", error))?;
    let addresses = host.addresses(bridge.index).map_err(|error| {
        kernel_error(format!("cannot list the addresses of bridge {name}"), error)
    })?;
    let lives_by = routes
        .iter()
        .any(|route| route.is_advertised() && route.interface == Some(bridge.index))
        || addresses.iter().any(|address| address.advertised);
    if !lives_by {
        // A kernel without IPv6 has no such parameter.
        let _ = sysctl::write_if_different(&forwarding::accept_ra(&name), "0");
    }
    Ok(())
}

/// The address of the bridge when the container's port is on it. One that nothing has fixed may have changed with that.
pub(crate) fn mac_after(
    host: &mut RouteSocket,
    bridge: &Link,
    wanted: &BridgeSettings,
) -> Result<Option<[u8; 6]>, Error> {
    if is_ours(bridge) || !wanted.gateways.is_empty() {
        return Ok(bridge.mac);
    }
    let now = lookup(host, &wanted.bridge)?;
    Ok(now.map_or(bridge.mac, |link| link.mac))
}

/// The addresses that the bridge has, link-local ones aside. Not asked for when it shall have none.
fn present(
    host: &mut RouteSocket,
    bridge: Option<&Link>,
    wanted: &BridgeSettings,
) -> Result<Vec<Cidr>, Error> {
    let Some(bridge) = bridge.filter(|_| !wanted.gateways.is_empty()) else {
        return Ok(Vec::new());
    };
    let addresses = host.addresses(bridge.index).map_err(|error| {
        kernel_error(
            format!("cannot list the addresses of bridge {}", bridge.name),
            error,
        )
    })?;
    Ok(addresses
        .into_iter()
        .map(|address| Cidr::from(address.cidr))
        .filter(|address| !is_link_local(address))
        .collect())
}

/// The addresses of the bridge that have to go for the network's gateways.
fn displaced(present: &[Cidr], wanted: &BridgeSettings) -> Result<Vec<Cidr>, Error> {
    let missing = wanted.gateways.iter().find(|it| !present.contains(it));
    let Some(missing) = missing else {
        return Ok(Vec::new());
    };
    let conflicting = present.iter().filter(|existing| {
        !wanted.beside.contains(existing) && plan::conflicts(existing, &wanted.gateways)
    });
    let displaced: Vec<Cidr> = conflicting.copied().collect();
    match displaced.first() {
        Some(present) if !wanted.force_address => Err(BridgeError::OtherAddress {
            bridge: wanted.bridge.clone(),
            gateway: *missing,
            present: *present,
        }
        .into()),
        _ => Ok(displaced),
    }
}

fn addresses(
    host: &mut RouteSocket,
    bridge: &Link,
    present: &[Cidr],
    displaced: &[Cidr],
    wanted: &BridgeSettings,
    undo: &mut dyn FnMut(Step),
) -> Result<(), Error> {
    let name = &wanted.bridge;
    let failed = |action: &str, error: pontoon_netlink::Error| {
        kernel_error(format!("cannot {action} bridge {name}"), error)
    };
    let missing: Vec<&Cidr> = wanted
        .gateways
        .iter()
        .filter(|gateway| !present.contains(gateway))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    for existing in displaced {
        host.remove_address(bridge.index, (*existing).into())
            .map_err(|error| failed(&format!("remove {existing} from"), error))?;
        undo(Step::AddressRemoved(bridge.index, *existing));
    }
    if missing.iter().any(|gateway| !gateway.is_ipv4()) {
        let path = format!("net/ipv6/conf/{name}/disable_ipv6");
        sysctl::write_if_different(&path, "0").map_err(|source| BridgeError::WithoutIpv6 {
            bridge: name.clone(),
            source,
        })?;
    }
    for gateway in missing {
        let added = host
            .add_address(bridge.index, (*gateway).into(), true)
            .map_err(|error| failed(&format!("add {gateway} to"), error))?;
        if added {
            undo(Step::AddressAdded(bridge.index, *gateway));
        }
    }
    Ok(())
}

fn is_link_local(address: &Cidr) -> bool {
    matches!(address.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A subnet that another interface of the host is already on would take that interface's
/// neighbours away: refused while nothing has been done. One inside a wider one is left to the
/// admin, who may well mean it, unless the wider one is another bridge of Pontoon. Looked at only while
/// the bridge does not have the address.
fn refuse_clash(
    host: &mut RouteSocket,
    present: &[Cidr],
    wanted: &BridgeSettings,
) -> Result<(), Error> {
    let mut listed: [Option<Vec<RouteEntry>>; 2] = [None, None];
    for gateway in &wanted.gateways {
        if present.contains(gateway) {
            continue;
        }
        refuse_link_local(gateway.addr())?;
        let subnet = gateway.network();
        let known = &mut listed[usize::from(gateway.is_ipv4())];
        let routes = match known {
            Some(routes) => routes,
            None => known.insert(
                host.routes(gateway.is_ipv4())
                    .map_err(|error| kernel_error("cannot list the host's routes", error))?,
            ),
        };
        for route in routes {
            let destination = Cidr::from(route.destination);
            let Some(interface) = route.interface else {
                continue;
            };
            // Host routes are single containers of other plugins, not subnets.
            let is_subnet =
                (1..if gateway.is_ipv4() { 32 } else { 128 }).contains(&destination.prefix());
            if route.gateway.is_some() || !is_subnet || !destination.overlaps(&subnet) {
                continue;
            }
            let link = host
                .link_by_index(interface)
                .map_err(|error| kernel_error("cannot look up a link of the host", error))?;
            // The bridge may have come to be a moment ago, by an ADD beside this one.
            let Some(link) = link.filter(|link| link.name != wanted.bridge) else {
                continue;
            };
            let ours = link
                .alias
                .as_deref()
                .is_some_and(|alias| alias.starts_with("pontoon "));
            if destination.prefix() < subnet.prefix() && !ours {
                continue;
            }
            return Err(BridgeError::Clash {
                subnet,
                destination,
                interface: link.name,
                gateway: *gateway,
            }
            .into());
        }
    }
    Ok(())
}

/// The subnet of link-local addresses lies on every interface, so it can be no bridge's alone.
fn refuse_link_local(gateway: IpAddr) -> Result<(), BridgeError> {
    let local = match gateway {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if !local {
        return Ok(());
    }
    Err(BridgeError::LinkLocal { gateway })
}

/// Switches on what a gateway needs, per family, and only what is off. An internal network has no way out that would need
/// it; what its policy routes between siblings is firewall's to ask for.
fn switch_forwarding(
    plugin: &str,
    host: &mut RouteSocket,
    wanted: &BridgeSettings,
    undo: &mut dyn FnMut(Step),
) -> Result<(), Error> {
    if wanted.internal {
        return Ok(());
    }
    for v4 in [true, false] {
        let needed = wanted.gateways.iter().any(|it| it.is_ipv4() == v4);
        if needed && forwarding::switch_on(plugin, host, v4)? {
            undo(Step::Sysctl(
                forwarding::switch(v4).to_owned(),
                "0".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Removes the bridge of a network without attachments, if Pontoon made it for this network and
/// it has no port of another program.
pub(crate) fn remove_bridge<R: BridgeBased>(
    context: &Context,
    host: &mut RouteSocket,
    name: &str,
) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let state = &context.state;
    let _lock = state.lock_network(&network)?;
    if state.records_of::<R>().has_network(&network) {
        return Ok(());
    }
    let Some(link) = lookup(host, name)? else {
        return Ok(());
    };
    let tag = Owner::network(&network).tag();
    if link.kind.as_deref() != Some("bridge") || link.alias.as_deref() != Some(tag.as_str()) {
        return Ok(());
    }
    let failed = |error| kernel_error(format!("cannot remove bridge {name}"), error);
    if host.links_of_bridge(link.index).map_err(failed)?.is_empty() {
        host.delete_link(link.index).map_err(failed)?;
    }
    Ok(())
}
