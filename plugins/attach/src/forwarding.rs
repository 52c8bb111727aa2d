//! Forwarding: switching it on for containers, and what that would take from the host itself.
//!
//! A host that forwards IPv6 is a router, and routers do not listen to routers: when it begins to forward, the kernel
//! deletes the default routes that came by router advertisement, and takes no more (`rt6_purge_dflt_routers`). An interface
//! with `accept_ra` 2 is exempt. Interfaces that live by advertisements get that value first, and keep it: after it
//! nothing differs from before, while putting it back would take the route away.

use pontoon_conf::Error;
use pontoon_netlink::{RouteEntry, RouteSocket, sysctl};

use pontoon_plugin::{kernel_error, warn};

use crate::error::{ForwardingError, ForwardingStatus};

/// IPv4, for the whole host.
pub const IPV4: &str = "net/ipv4/ip_forward";
/// IPv6, for the whole host.
pub const IPV6: &str = "net/ipv6/conf/all/forwarding";

/// `accept_ra`: unless the interface forwards.
const UNLESS_FORWARDING: &str = "1";
/// `accept_ra`: even if the interface forwards.
const ALWAYS: &str = "2";

/// An interface that heard routers before the host began to forward IPv6 and hears them no more, while the host has no
/// IPv6 default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRouterAdvertisements {
    /// The interface.
    pub interface: String,
    /// Its number.
    pub index: u32,
    /// What tells that there are routers.
    pub evidence: String,
}

/// The switch of a family.
#[must_use]
pub fn switch(v4: bool) -> &'static str {
    if v4 { IPV4 } else { IPV6 }
}

/// Whether the host forwards nothing of a family. A kernel without the family has no switch.
#[must_use]
pub fn is_off(v4: bool) -> bool {
    sysctl::read(switch(v4)).is_ok_and(|value| value.trim() == "0")
}

/// The parameter that decides whether an interface takes router advertisements.
#[must_use]
pub fn accept_ra(interface: &str) -> String {
    format!("net/ipv6/conf/{interface}/accept_ra")
}

/// Switches forwarding on for one family, if it is off; true when it was. `who` warns on standard error of what it changed
/// for the host's own sake.
///
/// # Errors
/// Code 100 when the kernel refuses, or when the host would lose its default route.
pub fn switch_on(who: &str, host: &mut RouteSocket, v4: bool) -> Result<bool, Error> {
    let path = switch(v4);
    if !v4 && is_off(false) {
        for interface in keep_advertised(host)? {
            warn(format_args!(
                "{who}: {interface} goes on taking router advertisements although this host forwards IPv6 from now on: \
                 accept_ra of {interface} is {ALWAYS}"
            ));
        }
    }
    let switched = sysctl::write_if_different(path, "1");
    Ok(switched.map_err(|source| ForwardingError::SwitchOn {
        path: path.to_owned(),
        source,
    })?)
}

/// Lets the interfaces that live by router advertisements take them although the host forwards IPv6. Comes before any
/// parameter `forwarding` of IPv6 is written: that of one interface deletes the routes of all. Returns their names.
///
/// # Errors
/// Code 100 when the kernel does not answer or refuses: the host would lose its way to the outside.
pub fn keep_advertised(host: &mut RouteSocket) -> Result<Vec<String>, Error> {
    let interfaces = advertised(host)
        .map_err(|error| kernel_error("cannot list the host's IPv6 routes and addresses", error))?;
    for interface in &interfaces {
        let path = accept_ra(interface);
        sysctl::write(&path, ALWAYS).map_err(|source| ForwardingError::KeepAdvertised {
            interface: interface.clone(),
            path,
            value: ALWAYS,
            source,
        })?;
    }
    Ok(interfaces)
}

/// The interfaces that have routes or addresses by router advertisement, and will have none when the host forwards.
///
/// # Errors
/// When the kernel does not answer.
pub fn advertised(host: &mut RouteSocket) -> Result<Vec<String>, pontoon_netlink::Error> {
    let routes = host.routes(false)?;
    let mut indexes: Vec<u32> = routes
        .iter()
        .filter(|route| route.is_advertised())
        .filter_map(|route| route.interface)
        .collect();
    let addresses = host.all_addresses(false)?;
    let advertised = addresses.iter().filter(|address| address.advertised);
    indexes.extend(advertised.map(|address| address.index));
    indexes.sort_unstable();
    indexes.dedup();
    let mut interfaces = Vec::new();
    for index in indexes {
        let name = host.link_by_index(index)?.map(|link| link.name);
        let until = |name: &String| {
            sysctl::read(&accept_ra(name)).is_ok_and(|value| value == UNLESS_FORWARDING)
        };
        interfaces.extend(name.filter(until));
    }
    Ok(interfaces)
}

/// Interfaces whose default route the host has lost because it forwards IPv6. Empty while it has one by any interface.
///
/// # Errors
/// When the kernel does not answer.
pub fn lost_router_advertisements(
    host: &mut RouteSocket,
) -> Result<Vec<LostRouterAdvertisements>, pontoon_netlink::Error> {
    let routes = host.routes(false)?;
    if routes.iter().any(RouteEntry::is_default) {
        return Ok(Vec::new());
    }
    let addresses = host.all_addresses(false)?;
    let mut found = Vec::new();
    for link in host.links()? {
        let is = |key: &str, value: &str| {
            let path = format!("net/ipv6/conf/{}/{key}", link.name);
            sysctl::read(&path).is_ok_and(|text| text == value)
        };
        if !link.up || !is("accept_ra", UNLESS_FORWARDING) || !is("forwarding", "1") {
            continue;
        }
        let address = addresses
            .iter()
            .find(|address| address.index == link.index && address.advertised);
        let heard = heard(&link.name);
        let evidence = match (address, heard) {
            (Some(address), _) => format!("it has {} by an advertisement", address.cidr),
            (None, 1..) => format!("it has received {heard} of them"),
            (None, 0) => continue,
        };
        found.push(LostRouterAdvertisements {
            index: link.index,
            evidence,
            interface: link.name,
        });
    }
    Ok(found)
}

/// Whether the containers of a network get beyond the host. An ADD switches forwarding on, and keeps what the host has by
/// router advertisement; another program may have changed either since. `v6`: the network has IPv6 addresses.
///
/// # Errors
/// Code 51 when they do not; code 100 when the kernel does not answer.
pub fn status(network: &str, host: &mut RouteSocket, v6: bool) -> Result<(), Error> {
    for (v4, nothing) in [(true, "nothing"), (false, "no IPv6")] {
        if (v4 || v6) && is_off(v4) {
            return Err(ForwardingStatus::Off {
                nothing,
                network: network.to_owned(),
                setting: switch(v4).replace('/', "."),
            }
            .into());
        }
    }
    if !v6 {
        return Ok(());
    }
    let lost_router_advertisements = lost_router_advertisements(host)
        .map_err(|error| kernel_error("cannot list the host's IPv6 routes", error))?;
    let Some(LostRouterAdvertisements {
        interface,
        evidence,
        ..
    }) = lost_router_advertisements.into_iter().next()
    else {
        return Ok(());
    };
    Err(ForwardingStatus::Deaf {
        interface,
        network: network.to_owned(),
        value: UNLESS_FORWARDING,
        evidence,
    }
    .into())
}

/// How many router advertisements an interface has received, accepted or not.
fn heard(interface: &str) -> u64 {
    let path = format!("/proc/thread-self/net/dev_snmp6/{interface}");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut counters = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    let count = counters.find(|(name, _)| *name == "Icmp6InRouterAdvertisements");
    count
        .and_then(|(_, count)| count.trim().parse().ok())
        .unwrap_or(0)
}
