//! An interface inside the container: its settings, routes and comparison with a result. What the
//! plugins share that make one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use pontoon_conf::{AddResult, Cidr, ConfigError, Error, Interface, IpConfig, Mac, Route, excerpt};
use pontoon_ledger::InterfaceSettings;
use pontoon_netlink::{Link, Netns, RouteEntry, RouteSocket, RouteSpec, Setup, sysctl};

use pontoon_plugin::{Context, kernel_error, netns_error, warn};

use crate::error::{ContainerLinkError, Difference};

/// What a result gives the interface. Whether the host is the gateway is for the plugin to say.
#[must_use]
pub fn settings(result: &AddResult, by_host: bool) -> InterfaceSettings {
    let route = |route: &Route| Route {
        gw: route
            .gw
            .or_else(|| first_gateway(&result.ips, route.dst.is_ipv4())),
        ..route.clone()
    };
    InterfaceSettings {
        addresses: result.ips.iter().map(|ip| ip.address).collect(),
        routes: result.routes.iter().map(route).collect(),
        by_host,
    }
}

/// Refuses an attachment whose interface name is in use in the container.
///
/// # Errors
/// Code 103 when it is; code 100 when the kernel does not answer.
pub fn refuse_taken(context: &Context, inside: &mut RouteSocket) -> Result<(), Error> {
    let (_, name) = context.attachment()?;
    let found = inside
        .link_by_name(name.as_ref())
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?;
    if found.is_none() {
        return Ok(());
    }
    let netns = context.invocation.netns.clone().unwrap_or_default();
    let name = name.to_string();
    Err(ContainerLinkError::NameTaken { name, netns }.into())
}

/// The first gateway of a family, which routes without one of their own go through.
#[must_use]
pub fn first_gateway(ips: &[IpConfig], v4: bool) -> Option<IpAddr> {
    ips.iter()
        .filter(|ip| ip.address.is_ipv4() == v4)
        .find_map(|ip| ip.gateway)
}

/// The routes of a result, out by one interface.
#[must_use]
pub fn routes(result: &AddResult, interface: u32) -> Vec<RouteSpec> {
    let gateways = [true, false].map(|v4| first_gateway(&result.ips, v4));
    result
        .routes
        .iter()
        .map(|route| RouteSpec {
            gateway: route.gw.or(gateways[usize::from(!route.dst.is_ipv4())]),
            interface: Some(interface),
            mtu: route.mtu,
            advmss: route.advmss,
            priority: route.priority,
            table: route.table,
            scope: route.scope,
            ..RouteSpec::to(route.dst.into())
        })
        .collect()
}

/// What an interface does with router advertisements. Any neighbour can send one, and its word gives the interface an
/// address, a default route and an MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advertisements {
    /// It takes none, in networks without IPv6 too: the kernel takes them wherever IPv6 is not off.
    Refuse,
    /// It takes them, as the key `acceptRA` wants.
    Take,
    /// The kernel's default stays: nothing else gives the interface an address.
    Leave,
}

impl Advertisements {
    /// As the key `acceptRA` has it.
    #[must_use]
    pub fn wanted(accept_ra: bool) -> Self {
        if accept_ra { Self::Take } else { Self::Refuse }
    }
}

/// What the container's interface does by IPv6.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6 {
    /// It gets IPv6 addresses.
    pub addresses: bool,
    /// Duplicates of them are looked for.
    pub dad: bool,
    /// What it does with router advertisements.
    pub advertisements: Advertisements,
    /// It announces its addresses when its MAC address changes.
    pub announce: bool,
}

/// Settings of the container's interface that only /proc has. Comes before the interface is up.
///
/// # Errors
/// Code 100 when IPv6 stays off although an IPv6 address is to come.
pub fn ipv6_settings(netns: &Netns, name: &str, wanted: Ipv6) -> Result<(), Error> {
    let key = |interface: &str, key: &str| format!("net/ipv6/conf/{interface}/{key}");
    let mut settings: Vec<(String, &str)> = Vec::with_capacity(8);
    let guards = match wanted.advertisements {
        Advertisements::Refuse => Some("0"),
        Advertisements::Take => Some("1"),
        Advertisements::Leave => None,
    };
    let guarded = guards.map_or(0, |value| {
        settings.push((key(name, "accept_ra"), value));
        settings.push((key(name, "autoconf"), value));
        settings.len()
    });
    if wanted.addresses {
        settings.push((key(name, "disable_ipv6"), "0"));
        settings.push((key("lo", "disable_ipv6"), "0"));
        settings.push((key(name, "keep_addr_on_down"), "1"));
    }
    if wanted.dad {
        settings.push((key(name, "enhanced_dad"), "1"));
        settings.push((key(name, "accept_dad"), "1"));
    } else if wanted.addresses {
        settings.push((key(name, "accept_dad"), "0"));
    }
    if wanted.announce {
        settings.push((key(name, "ndisc_notify"), "1"));
    }
    if settings.is_empty() {
        return Ok(());
    }
    let outcomes = sysctl::write_in(netns, &settings).map_err(netns_error)?;
    for (position, (outcome, (path, value))) in outcomes.into_iter().zip(settings).enumerate() {
        let Err(error) = outcome else { continue };
        if position < guarded {
            // A kernel without IPv6 takes none.
            if error.kind() != std::io::ErrorKind::NotFound {
                warn(format_args!(
                    "warning: /proc/sys/{path} of the container cannot be set to {value}: {error}; {}",
                    match wanted.advertisements {
                        Advertisements::Take => "it gets no address by router advertisement",
                        _ =>
                            "any machine that advertises a router on its network becomes its router",
                    }
                ));
            }
        } else if wanted.addresses && position == guarded {
            return Err(ContainerLinkError::WithoutIpv6 {
                name: name.to_owned(),
                path,
                source: error,
            }
            .into());
        }
        // A container whose /proc/sys is read-only works without the others.
    }
    Ok(())
}

/// Gives an interface that is down in the container its addresses, brings it up and makes its
/// routes; announces who has the addresses now.
///
/// # Errors
/// Code 100 with the first that the kernel refuses.
pub fn configure(
    netns: &Netns,
    inside: &mut RouteSocket,
    index: u32,
    name: &str,
    result: &AddResult,
    advertisements: Advertisements,
) -> Result<(), Error> {
    let v6 = result.ips.iter().any(|ip| !ip.address.is_ipv4());
    let wanted = Ipv6 {
        addresses: v6,
        dad: false,
        advertisements,
        announce: v6,
    };
    ipv6_settings(netns, name, wanted)?;
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.into()).collect();
    let setup = Setup {
        lo_up: true,
        index,
        arp_notify: !addresses.is_empty(),
        addresses: &addresses,
        up: true,
        loose: true,
        routes: &routes(result, index),
        ..Setup::default()
    };
    inside.configure(&setup).map_err(|error| {
        kernel_error(format!("cannot configure {name} in the container"), error)
    })?;
    // IPv4 addresses are announced as the link comes up; without the search for duplicates the kernel says nothing of
    // IPv6 ones then.
    if v6 {
        announce(inside, index, name);
    }
    Ok(())
}

/// Tells neighbours which MAC address the addresses of an interface have now, where `arp_notify` and `ndisc_notify` of it are
/// on. A neighbour that has heard of another one before asks there for up to a minute. A driver that cannot announce is
/// warned of.
pub fn announce(inside: &mut RouteSocket, index: u32, name: &str) {
    if let Err(error) = inside.announce(index) {
        warn(format_args!(
            "warning: the addresses of {name} in the container cannot be announced: {error}; neighbours that know a former \
             MAC address of them find the container after up to a minute"
        ));
    }
}

/// The MAC address that the runtime asks for: `runtimeConfig.mac`, else `MAC` in `CNI_ARGS`, else
/// that of the configuration.
///
/// # Errors
/// Code 7 when it is none.
pub fn requested_mac(context: &Context, written: &str) -> Result<Option<Mac>, Error> {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Runtime {
        mac: String,
    }
    let runtime: Runtime = context.config.runtime()?;
    let args = context.invocation.args.get("MAC").unwrap_or_default();
    let asked = [runtime.mac.as_str(), args, written];
    let Some(text) = asked.into_iter().find(|mac| !mac.is_empty()) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|error: pontoon_conf::MacError| {
            let what = format!("invalid args {} for MAC addr: {error}", excerpt(text));
            ConfigError::refused(what).quoting(error).into()
        })
}

/// What CHECK says when something is not as ADD left it.
#[must_use]
pub fn differs(what: impl Into<String>) -> Error {
    differs_until(what, "DEL and ADD of the container make it again")
}

/// As [`differs`], of what something else than another ADD of the container makes again.
#[must_use]
pub fn differs_until(what: impl Into<String>, next_step: &'static str) -> Error {
    let what = what.into();
    Difference { what, next_step }.into()
}

/// An interface of a result by name; `sandboxed` ones are inside the container.
#[must_use]
pub fn listed<'a>(result: &'a AddResult, name: &str, sandboxed: bool) -> Option<&'a Interface> {
    result.interfaces.iter().find(|interface| {
        interface.name == name
            && interface
                .sandbox
                .as_deref()
                .is_some_and(|path| !path.is_empty())
                == sandboxed
    })
}

/// Compares a link's MAC address with the one that a result gives it.
///
/// # Errors
/// Code 104 when they differ.
pub fn same_mac(link: &Link, interface: Option<&Interface>) -> Result<(), Error> {
    let Some(wanted) = interface.and_then(|interface| interface.mac.as_deref()) else {
        return Ok(());
    };
    let got = link.mac.map(|mac| Mac(mac).to_string()).unwrap_or_default();
    if wanted.is_empty() || got.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(differs(format!(
        "{} has the MAC address {got}, not {wanted}",
        link.name
    )))
}

/// Routes that are there, by destination.
#[derive(Default)]
struct ExistingRoutes(HashMap<Cidr, HashSet<Option<IpAddr>>>);

impl ExistingRoutes {
    fn add(&mut self, routes: Vec<RouteEntry>) {
        for route in routes {
            let destination = Cidr::from(route.destination).network();
            self.0.entry(destination).or_default().insert(route.gateway);
        }
    }

    /// Whether there is one to the destination, by the gateway if the route names one.
    fn has(&self, route: &Route) -> bool {
        let Some(gateways) = self.0.get(&route.dst.network()) else {
            return false;
        };
        route.gw.is_none() || gateways.contains(&None) || gateways.contains(&route.gw)
    }
}

/// Compares addresses and routes of the container's interface with a result. More than it names may
/// be there: later plugins add theirs.
///
/// # Errors
/// Code 104 with the first that is missing; code 100 when the kernel does not answer.
pub fn compare(inside: &mut RouteSocket, link: &Link, previous: &AddResult) -> Result<(), Error> {
    let name = &link.name;
    if !link.up {
        return Err(differs(format!("{name} in the container is down")));
    }
    let present: HashSet<Cidr> = inside
        .addresses(link.index)
        .map_err(|error| kernel_error(format!("cannot list the addresses of {name}"), error))?
        .into_iter()
        .map(|address| Cidr::from(address.cidr))
        .collect();
    for ip in previous.ips_of(name) {
        if !present.contains(&ip.address) {
            return Err(differs(format!(
                "{name} in the container lacks the address {}",
                ip.address
            )));
        }
    }
    for v4 in [true, false] {
        let wanted: Vec<_> = previous
            .routes
            .iter()
            .filter(|route| route.dst.is_ipv4() == v4 && route.table.is_none())
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let failed = |error| kernel_error("cannot list the container's routes", error);
        let mut routes = ExistingRoutes::default();
        routes.add(inside.routes(v4).map_err(failed)?);
        if !wanted.iter().all(|route| routes.has(route)) {
            // A plugin after this one, as sbr, may have moved them to tables of their own.
            let own: HashSet<IpAddr> = previous.ips.iter().map(|ip| ip.address.ip()).collect();
            let mut tables = HashSet::new();
            for rule in inside.source_rules(v4).map_err(failed)? {
                let ours = rule.source.is_some_and(|source| own.contains(&source));
                if ours && tables.insert(rule.table) {
                    routes.add(inside.routes_of_table(v4, rule.table).map_err(failed)?);
                }
            }
        }
        for route in &wanted {
            if !routes.has(route) {
                return Err(differs(format!(
                    "the container lacks the route to {}",
                    route.dst
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a default route by the container's interface that the result does not give: who advertises a router, or
/// redirects, gets all that the container sends.
///
/// # Errors
/// Code 104 with the route; code 100 when the kernel does not answer.
pub fn refuse_foreign_routes(
    inside: &mut RouteSocket,
    link: &Link,
    previous: &AddResult,
) -> Result<(), Error> {
    let name = &link.name;
    for v4 in [true, false] {
        let found = inside
            .routes(v4)
            .map_err(|error| kernel_error("cannot list the container's routes", error))?;
        let mut defaults: Vec<&RouteEntry> = found
            .iter()
            .filter(|route| route.is_default() && route.interface == Some(link.index))
            .collect();
        defaults.sort_by_key(|route| route.priority.unwrap_or(0));
        let given = |gateway: IpAddr| {
            let routes = previous.routes.iter().filter_map(|route| route.gw);
            let own = previous.ips.iter().filter_map(|ip| ip.gateway);
            routes.chain(own).any(|known| known == gateway)
        };
        let named = previous.routes.iter().any(|route| {
            route.dst.prefix() == 0 && route.dst.is_ipv4() == v4 && route.table.is_none()
        });
        let advertised = defaults.iter().find(|route| route.is_advertised());
        // Where the result gives one, the first that is used must be it.
        let first = defaults
            .first()
            .filter(|route| named && !route.gateway.is_none_or(given));
        let Some(route) = advertised.or(first) else {
            continue;
        };
        let how = if route.is_advertised() {
            " by router advertisement"
        } else {
            ""
        };
        let gateway = route
            .gateway
            .map_or(String::new(), |ip| format!(" via {ip}"));
        return Err(differs(format!(
            "{name} in the container has a default route{gateway}{how} that its network does not give"
        )));
    }
    Ok(())
}
