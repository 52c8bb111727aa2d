//! CHECK: everything that ADD made is still there. STATUS: an ADD could succeed.

use pontoon_attach::container_link::{self, differs, differs_until, listed, same_mac};
use pontoon_attach::{forwarding, reference, rules, sockets};
use pontoon_conf::{AddResult, Error, code};
use pontoon_ipam::delegation;
use pontoon_ledger::{BridgeBased, Key};
use pontoon_netfilter::{Backend, BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::{Address, Link, RouteSocket, sysctl};
use pontoon_plugin::{Context, kernel_error};

use crate::Beyond;
use crate::config::Config;
use crate::error::StatusError;
use crate::{foreign, plan};

pub(crate) fn check<R: BridgeBased>(context: &Context, beyond: &Beyond) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let previous = context.required_prev_result()?;
    if let Some(ipam) = &config.ipam {
        delegation::check(context, ipam)?;
    }
    let mut host = sockets::of_host()?;
    let bridge = check_bridge(&mut host, &config, previous)?;
    let port = check_port(&mut host, &config, &key, &bridge, previous)?;
    check_container(context, &config, &key, &port, previous)?;
    check_gateway(&mut host, &config, &bridge, previous)?;
    check_rules::<R>(context, beyond, &config, &key, &port, previous)
}

fn lookup(socket: &mut RouteSocket, name: &str) -> Result<Option<Link>, Error> {
    socket
        .link_by_name(name)
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))
}

fn check_bridge(
    host: &mut RouteSocket,
    config: &Config,
    previous: &AddResult,
) -> Result<Link, Error> {
    let name = config.bridge.as_ref();
    let link = lookup(host, name)?.ok_or_else(|| differs(format!("bridge {name} is gone")))?;
    if link.kind.as_deref() != Some("bridge") {
        return Err(differs(format!("{name} is not a bridge")));
    }
    if !link.up {
        return Err(differs(format!("bridge {name} is down")));
    }
    if config.promisc && !link.promisc {
        return Err(differs(format!("bridge {name} is not in promiscuous mode")));
    }
    // One that is no container's gateway may follow its ports: no container has its address.
    if config.is_gateway {
        same_mac(&link, listed(previous, name, false))?;
    }
    Ok(link)
}

/// The host's end: ours by its name, else one that prevResult lists.
fn check_port(
    host: &mut RouteSocket,
    config: &Config,
    key: &Key,
    bridge: &Link,
    previous: &AddResult,
) -> Result<Link, Error> {
    let mut names = vec![key.host_interface()];
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
    let link = found.ok_or_else(|| differs("the host's end of the veth pair is gone"))?;
    if link.master != Some(bridge.index) {
        return Err(differs(format!(
            "{} is not a port of bridge {}",
            link.name, bridge.name
        )));
    }
    if let Some(port) = &link.port {
        if config.hairpin && !port.hairpin {
            return Err(differs(format!("hairpin mode of {} is off", link.name)));
        }
        if config.port_isolation != port.isolated {
            let state = if port.isolated { "on" } else { "off" };
            return Err(differs(format!(
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
    previous: &AddResult,
) -> Result<(), Error> {
    let name = &key.interface;
    let netns = context.netns()?;
    let mut inside = sockets::of_container(netns)?;
    let link = lookup(&mut inside, name)?
        .ok_or_else(|| differs(format!("{name} is gone from the container")))?;
    if link.kind.as_deref() != Some("veth") {
        return Err(differs(format!("{name} in the container is not a veth")));
    }
    if link.peer.is_some_and(|peer| peer != port.index) {
        return Err(differs(format!(
            "{name} in the container is not the peer of {}",
            port.name
        )));
    }
    same_mac(&link, listed(previous, name, true))?;
    if config.disable_container_interface {
        return Ok(());
    }
    if !config.accept_ra {
        container_link::refuse_foreign_routes(&mut inside, &link, previous)?;
    }
    container_link::compare(&mut inside, &link, previous)
}

fn check_gateway(
    host: &mut RouteSocket,
    config: &Config,
    bridge: &Link,
    previous: &AddResult,
) -> Result<(), Error> {
    if !config.is_gateway {
        return Ok(());
    }
    let present = host.addresses(bridge.index).map_err(|error| {
        kernel_error(
            format!("cannot list the addresses of {}", bridge.name),
            error,
        )
    })?;
    for ip in &previous.ips {
        let Some(gateway) = ip.gateway else { continue };
        if !present.iter().any(|address| address.cidr.ip() == gateway) {
            return Err(differs(format!(
                "bridge {} lacks the gateway address {gateway}",
                bridge.name
            )));
        }
        let path = forwarding::switch(gateway.is_ipv4());
        if !config.internal && forwarding::is_off(gateway.is_ipv4()) {
            return Err(differs_until(
                format!("forwarding is off: /proc/sys/{path} is 0"),
                "pontoon ip-forward --fix switches it on",
            ));
        }
    }
    Ok(())
}

fn check_rules<R: BridgeBased>(
    context: &Context,
    beyond: &Beyond,
    config: &Config,
    key: &Key,
    port: &Link,
    previous: &AddResult,
) -> Result<(), Error> {
    let any = config.ip_masq || config.mac_spoof_check;
    if !any || reference::attached_by_another(context, R::PLUGIN, key)? {
        return Ok(());
    }
    let mut wanted: Vec<(BackendKind, Ruleset)> = Vec::new();
    if config.ip_masq {
        let network = plan::rules(&key.network, config, &previous.ips, beyond)?;
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
        let differences = backend.verify(&ruleset).map_err(rules::error);
        rules::close_in_detached_child(backend.into_sockets());
        if let Some(difference) = differences?.into_iter().next() {
            return Err(differs_until(
                format!("network {}: {difference}", key.network),
                "the next ADD of the network makes its rules again",
            ));
        }
    }
    Ok(())
}

pub(crate) fn status<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let records = context.state.records_of::<R>();
    if records.has_network(context.config.name.as_ref()) {
        for_attached(context, &config)?;
    }
    if config.ip_masq {
        let kind = rules::select(context, config.ip_masq_backend.as_deref());
        kind.and_then(|kind| rules::open(context, kind))
            .map(|backend| rules::close_in_detached_child(backend.into_sockets()))
            .map_err(|cause| StatusError::NoMasquerade { cause })?;
    }
    if !config.shared_bridge {
        let pool = delegation::leases(context)?;
        let mut host = sockets::of_host()?;
        let bridge = lookup(&mut host, config.bridge.as_ref())?;
        foreign::refuse(context, &mut host, bridge.as_ref(), pool.as_deref())
            .map_err(|error| error.with_code(code::NOT_AVAILABLE))?;
    }
    match &config.ipam {
        None => Ok(()),
        Some(ipam) => delegation::status(context, ipam),
    }
}

/// What has been switched off since the ADDs of those who are attached, and they suffer from.
fn for_attached(context: &Context, config: &Config) -> Result<(), Error> {
    let (network, bridge) = (&context.config.name, config.bridge.as_ref());
    let mut host = sockets::of_host()?;
    let link = lookup(&mut host, bridge)?;
    if link.as_ref().is_some_and(|link| !link.up) {
        return Err(StatusError::Down {
            bridge: bridge.to_owned(),
            network: network.to_string(),
        }
        .into());
    }
    let Some(link) = link.filter(|_| config.is_gateway && !config.internal) else {
        return Ok(());
    };
    let addresses = host
        .addresses(link.index)
        .map_err(|error| kernel_error(format!("cannot list the addresses of {bridge}"), error))?;
    // A link-local address is no gateway of the network.
    let v6 = |address: &Address| address.cidr.is_ipv6() && address.scope == 0;
    let v6 = addresses.iter().any(v6);
    forwarding::status(network.as_ref(), &mut host, v6)?;
    // The whole host forwards, and this bridge may still not.
    let families = ["ipv4", "ipv6"]
        .into_iter()
        .filter(|family| *family == "ipv4" || v6);
    for family in families {
        let path = format!("net/{family}/conf/{bridge}/forwarding");
        if sysctl::read(&path).is_ok_and(|value| value.trim() == "0") {
            return Err(StatusError::NotForwarding {
                bridge: bridge.to_owned(),
                network: network.to_string(),
                setting: path.replace('/', "."),
            }
            .into());
        }
    }
    Ok(())
}
