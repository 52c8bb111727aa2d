//! CHECK: everything that ADD made is still there. STATUS: an ADD could succeed.

use pontoon_conf::{Attached, Cidr, Error, Interface, Verb, code};
use pontoon_netfilter::{Backend, BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::{Link, RouteSocket, sysctl};
use pontoon_plugin::{Context, Key, delegate, kernel_error, rules};

use crate::add::is_ours;
use crate::config::Config;
use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let previous = context
        .config
        .prev_result
        .as_ref()
        .ok_or_else(|| Error::new(code::INVALID_CONFIG, "Required prevResult missing"))?;
    match &config.ipam {
        None => {}
        Some(ipam) if is_ours(ipam) => pontoon_ipam::host_local::check(
            &context.invocation,
            &context.config,
            context.state.dir(),
        )?,
        Some(ipam) => {
            delegate::run(ipam, Verb::Check, &context.invocation, &context.config)?;
        }
    }
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let bridge = check_bridge(&mut host, &config, previous)?;
    let port = check_port(&mut host, &config, &key, &bridge, previous)?;
    check_container(context, &config, &key, &port, previous)?;
    check_gateway(&mut host, &config, &bridge, previous)?;
    check_rules(context, &config, &key, &port, previous)
}

fn failed(msg: impl Into<String>) -> Error {
    Error::new(code::CHECK_FAILED, msg).with_details("DEL and ADD of the container make it again")
}

fn lookup(socket: &mut RouteSocket, name: &str) -> Result<Option<Link>, Error> {
    socket
        .link_by_name(name)
        .map_err(|error| kernel_error(&format!("cannot look up {name}"), &error))
}

/// An interface of the result by name; `sandboxed` ones are inside the container.
fn listed<'a>(previous: &'a Attached, name: &str, sandboxed: bool) -> Option<&'a Interface> {
    previous.interfaces.iter().find(|interface| {
        interface.name == name
            && interface
                .sandbox
                .as_deref()
                .is_some_and(|path| !path.is_empty())
                == sandboxed
    })
}

fn same_mac(link: &Link, interface: Option<&Interface>) -> Result<(), Error> {
    let Some(wanted) = interface.and_then(|interface| interface.mac.as_deref()) else {
        return Ok(());
    };
    let got = link
        .mac
        .map(|mac| pontoon_conf::Mac(mac).to_string())
        .unwrap_or_default();
    if wanted.is_empty() || got.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(failed(format!(
        "{} has the MAC address {got}, not {wanted}",
        link.name
    )))
}

fn check_bridge(
    host: &mut RouteSocket,
    config: &Config,
    previous: &Attached,
) -> Result<Link, Error> {
    let name = config.bridge.as_ref();
    let link = lookup(host, name)?.ok_or_else(|| failed(format!("bridge {name} is gone")))?;
    if link.kind.as_deref() != Some("bridge") {
        return Err(failed(format!("{name} is not a bridge")));
    }
    if !link.up {
        return Err(failed(format!("bridge {name} is down")));
    }
    if config.promisc && !link.promisc {
        return Err(failed(format!("bridge {name} is not in promiscuous mode")));
    }
    same_mac(&link, listed(previous, name, false))?;
    Ok(link)
}

/// The host's end: ours by its name, else one that prevResult lists.
fn check_port(
    host: &mut RouteSocket,
    config: &Config,
    key: &Key,
    bridge: &Link,
    previous: &Attached,
) -> Result<Link, Error> {
    let mut names = vec![plan::host_veth_name(key)];
    names.extend(
        previous
            .interfaces
            .iter()
            .filter(|interface| interface.sandbox.as_deref().is_none_or(str::is_empty))
            .map(|interface| interface.name.clone()),
    );
    let mut found = None;
    for name in names {
        let link = lookup(host, &name)?;
        found = link.filter(|link| link.kind.as_deref() == Some("veth"));
        if found.is_some() {
            break;
        }
    }
    let link = found.ok_or_else(|| failed("the host's end of the veth pair is gone"))?;
    if link.master != Some(bridge.index) {
        return Err(failed(format!(
            "{} is not a port of bridge {}",
            link.name, bridge.name
        )));
    }
    if let Some(port) = &link.port {
        if config.hairpin && !port.hairpin {
            return Err(failed(format!("hairpin mode of {} is off", link.name)));
        }
        if config.port_isolation != port.isolated {
            let state = if port.isolated { "on" } else { "off" };
            return Err(failed(format!(
                "port isolation of {} is {state}",
                link.name
            )));
        }
    }
    same_mac(&link, listed(previous, &link.name, false))?;
    Ok(link)
}

fn check_container(
    context: &Context,
    config: &Config,
    key: &Key,
    port: &Link,
    previous: &Attached,
) -> Result<(), Error> {
    let name = &key.interface;
    let netns = context.netns()?;
    let mut inside = RouteSocket::open_in(netns)
        .map_err(|error| kernel_error("cannot open a route socket in the container", &error))?;
    let link = lookup(&mut inside, name)?
        .ok_or_else(|| failed(format!("{name} is gone from the container")))?;
    if link.kind.as_deref() != Some("veth") {
        return Err(failed(format!("{name} in the container is not a veth")));
    }
    if link.peer.is_some_and(|peer| peer != port.index) {
        return Err(failed(format!(
            "{name} in the container is not the peer of {}",
            port.name
        )));
    }
    same_mac(&link, listed(previous, name, true))?;
    if config.disable_container_interface {
        return Ok(());
    }
    if !link.up {
        return Err(failed(format!("{name} in the container is down")));
    }
    let present: Vec<Cidr> = inside
        .addresses(link.index)
        .map_err(|error| kernel_error(&format!("cannot list the addresses of {name}"), &error))?
        .into_iter()
        .map(|address| Cidr::from(address.cidr))
        .collect();
    let own = |interface: Option<usize>| {
        interface
            .and_then(|index| previous.interfaces.get(index))
            .is_none_or(|interface| interface.name == *name)
    };
    for ip in previous.ips.iter().filter(|ip| own(ip.interface)) {
        if !present.contains(&ip.address) {
            return Err(failed(format!(
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
        let routes = inside
            .routes(v4)
            .map_err(|error| kernel_error("cannot list the container's routes", &error))?;
        for route in wanted {
            let there = routes.iter().any(|got| {
                Cidr::from(got.destination).network() == route.dst.network()
                    && (route.gw.is_none() || got.gateway.is_none() || route.gw == got.gateway)
            });
            if !there {
                return Err(failed(format!(
                    "the container lacks the route to {}",
                    route.dst
                )));
            }
        }
    }
    Ok(())
}

fn check_gateway(
    host: &mut RouteSocket,
    config: &Config,
    bridge: &Link,
    previous: &Attached,
) -> Result<(), Error> {
    if !config.is_gateway {
        return Ok(());
    }
    let present = host.addresses(bridge.index).map_err(|error| {
        kernel_error(
            &format!("cannot list the addresses of {}", bridge.name),
            &error,
        )
    })?;
    for ip in &previous.ips {
        let Some(gateway) = ip.gateway else { continue };
        if !present.iter().any(|address| address.cidr.ip() == gateway) {
            return Err(failed(format!(
                "bridge {} lacks the gateway address {gateway}",
                bridge.name
            )));
        }
        let path = if gateway.is_ipv4() {
            "net/ipv4/ip_forward"
        } else {
            "net/ipv6/conf/all/forwarding"
        };
        if sysctl::read(path).is_ok_and(|value| value.trim() == "0") {
            return Err(failed(format!("forwarding is off: /proc/sys/{path} is 0"))
                .with_details("pontoon ip-forward --fix switches it on"));
        }
    }
    Ok(())
}

fn check_rules(
    context: &Context,
    config: &Config,
    key: &Key,
    port: &Link,
    previous: &Attached,
) -> Result<(), Error> {
    let mut wanted: Vec<(BackendKind, Ruleset)> = Vec::new();
    if let Some(network) = plan::rules(&key.network, config, &previous.ips)? {
        let kind = rules::select(context, config.ip_masq_backend.as_deref())?;
        wanted.push((
            kind,
            Ruleset {
                network: Some(network),
                ..Ruleset::default()
            },
        ));
    }
    if let (true, Some(interface)) = (
        config.mac_spoof_check,
        listed(previous, &key.interface, true),
    ) {
        let mac = interface
            .mac
            .as_deref()
            .unwrap_or_default()
            .parse::<pontoon_conf::Mac>();
        if let Ok(mac) = mac {
            let guard = SpoofGuard {
                owner: key.owner(),
                port: port.name.clone(),
                mac: mac.0,
            };
            wanted.push((
                BackendKind::Nftables,
                Ruleset {
                    spoof_guard: Some(guard),
                    ..Ruleset::default()
                },
            ));
        }
    }
    for (kind, ruleset) in wanted {
        let mut backend: Backend = rules::open(context, kind)?;
        let differences = backend
            .verify(&ruleset)
            .map_err(|error| rules::error(&error));
        rules::linger(backend.into_sockets());
        if let Some(difference) = differences?.into_iter().next() {
            return Err(failed(format!("network {}: {difference}", key.network))
                .with_details("the next ADD of the network makes its rules again"));
        }
    }
    Ok(())
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    if config.ip_masq {
        let kind = rules::select(context, config.ip_masq_backend.as_deref());
        kind.and_then(|kind| rules::open(context, kind))
            .map(|backend| rules::linger(backend.into_sockets()))
            .map_err(|error| {
                Error::new(code::NOT_AVAILABLE, format!("no masquerade: {}", error.msg))
                    .with_details(error.details)
            })?;
    }
    match &config.ipam {
        None => Ok(()),
        Some(ipam) if is_ours(ipam) => pontoon_ipam::host_local::status(
            &context.invocation,
            &context.config,
            context.state.dir(),
        ),
        Some(ipam) => {
            delegate::run(ipam, Verb::Status, &context.invocation, &context.config).map(drop)
        }
    }
}
