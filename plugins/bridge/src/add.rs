//! ADD: the container joins the network. Everything that can be refused is refused before the
//! first change; what fails then is undone in reverse order.

use std::time::{Duration, Instant};

use pontoon_attach::container_link::{self, Advertisements, Ipv6};
use pontoon_attach::{backends, masquerade, policy, reference, repair, rules, veth};
use pontoon_conf::{AddResult, Error, Interface, Mac};
use pontoon_ipam::delegation;
use pontoon_ledger::{BridgeBased, BridgeRecord, Key, Lock};
use pontoon_netfilter::{Backend, BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::{
    Netns, PortFlags, RouteSocket, Setup, Veth, VethSpec, VlanRange, sysctl,
    vlan_filtering_supported,
};
use pontoon_plugin::{Context, Undo, fault, kernel_error, warn};

use crate::Beyond;
use crate::config::{Config, Mtu};
use crate::error::AttachError;
use crate::undo::{Step, revert};
use crate::{network, plan};

/// What is known of the host and the container before anything is changed.
struct HostFacts<'a> {
    config: Config,
    key: Key,
    netns: &'a Netns,
    host: RouteSocket,
    inside: RouteSocket,
    mtu: Option<u32>,
    backend: Option<BackendKind>,
}

pub(crate) fn add<R: BridgeBased>(context: &Context, beyond: &Beyond) -> Result<AddResult, Error> {
    let mut facts = read_host_facts::<R>(context)?;
    let mut undo = Undo::default();
    match attach::<R>(context, beyond, &mut facts, &mut undo) {
        Ok(result) => {
            undo.commit();
            Ok(result)
        }
        Err(error) => Err(undo.unwind(error, |step| revert::<R>(context, &mut facts.host, step))),
    }
}

/// Reads facts and refuses what cannot work. Changes nothing.
fn read_host_facts<R: BridgeBased>(context: &Context) -> Result<HostFacts<'_>, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let netns = context.netns()?;
    let open = |error| kernel_error("cannot open a route socket", error);
    let mut host = RouteSocket::open().map_err(open)?;
    let mut inside = RouteSocket::open_in(netns).map_err(open)?;
    container_link::refuse_taken(context, &mut inside)?;
    if config.wants_vlans() && !vlan_filtering_supported() {
        return Err(AttachError::NoVlanFiltering {
            bridge: config.bridge.to_string(),
        }
        .into());
    }
    for entry in &config.snat {
        // A socket can be bound to an address of the host only (ip(7)); nothing is sent.
        if std::net::UdpSocket::bind((entry.source, 0)).is_ok() {
            continue;
        }
        let foreign = AttachError::ForeignSource {
            source_address: entry.source,
        };
        if config.snat_unchecked {
            warn(format_args!(
                "{}: warning: {foreign}; replies will not come back unless it is routed here",
                R::PLUGIN
            ));
        } else {
            return Err(foreign.into());
        }
    }
    let mtu = mtu(&config, &mut host)?;
    let backend = if config.ip_masq {
        Some(rules::select(context, config.ip_masq_backend.as_deref())?)
    } else if config.is_gateway {
        policy::backend_of_existing_policy(&context.state)?
    } else {
        None
    };
    Ok(HostFacts {
        config,
        key,
        netns,
        host,
        inside,
        mtu,
        backend,
    })
}

fn mtu(config: &Config, host: &mut RouteSocket) -> Result<Option<u32>, Error> {
    match config.mtu {
        Mtu::Default => Ok(None),
        Mtu::Fixed(mtu) => Ok(Some(mtu)),
        Mtu::Auto => {
            let uplink = host
                .uplink()
                .map_err(|error| kernel_error("cannot find the default route", error))?;
            let mtu = uplink.map(|link| link.mtu);
            Ok(Some(mtu.ok_or(AttachError::NoDefaultRoute)?))
        }
    }
}

fn attach<R: BridgeBased>(
    context: &Context,
    beyond: &Beyond,
    facts: &mut HostFacts<'_>,
    undo: &mut Undo<Step>,
) -> Result<AddResult, Error> {
    // From the lease on, GC does not take this attachment for garbage; from the record on, the network
    // cannot be removed by the DEL of another attachment; the lock keeps both from being half way
    // through. It is held until the interface is there, by which the attachment is known to be alive.
    let state = &context.state;
    let network_lock = state.share_network(&facts.key.network)?;
    let mut result = allocate(context, &facts.config, undo)?;
    fault::point("bridge.leased")?;
    let gateways = plan::complete(&mut result, &facts.config);
    let rules = plan::rules(&facts.key.network, &facts.config, &result.ips, beyond)?;
    if let Some(backend) = facts.backend {
        rules::validate(backend, &masquerade::ruleset(&rules))?;
    }
    let asked = facts.config.mac.map(|mac| mac.0);
    let mac = asked
        .or_else(|| plan::mac(&result.ips))
        .unwrap_or_else(veth::random_mac);
    let veth_name = facts.key.host_interface();
    let spoof_guard = facts.config.mac_spoof_check.then(|| SpoofGuard {
        owner: facts.key.owner(),
        port: veth_name.clone(),
        mac,
    });
    let masquerades = facts.backend.filter(|_| facts.config.ip_masq);
    let reference_chains = reference::needed_chains(masquerades, &result.ips);
    let leases = delegation::leases(context)?;
    let record = BridgeRecord {
        sandbox: context.sandbox(),
        spoof_guard: spoof_guard.clone(),
        dns: facts.config.dns.clone(),
        names: context.names(),
        leases: leases.clone(),
        reference_chains,
        settings: (!facts.config.disable_container_interface)
            .then(|| container_link::settings(&result, facts.config.is_gateway)),
    };
    let guarded = !facts.config.shared_bridge;
    let wanted = network::BridgeSettings {
        bridge: facts.config.bridge.to_string(),
        mtu: facts.mtu,
        promisc: facts.config.promisc,
        vlan_filtering: facts.config.wants_vlans(),
        force_address: facts.config.force_address,
        gateways,
        internal: facts.config.internal,
        reach: beyond.reach.clone(),
        beside: beyond.gateways.clone(),
        pool: leases.filter(|_| guarded),
        rules: facts.backend.map(|backend| (backend, rules)),
    };
    let (bridge, mut backend) = {
        let _host = state.lock(&state.host_lock(), Lock::shared)?;
        undo.push(Step::Record);
        backends::claim(context, R::PLUGIN, facts.backend)?;
        if spoof_guard.is_some() {
            backends::claim_beside(context, R::PLUGIN, BackendKind::Nftables)?;
        }
        state.write(&facts.key, &R::from(record))?;
        fault::point("bridge.recorded")?;
        network::ensure::<R>(context, &mut facts.host, &wanted, &mut |step| {
            undo.push(step)
        })?
    };
    if let (Some(chains), Some((backend, _))) = (reference_chains, &mut backend) {
        reference::create_chains(chains, backend, &facts.key)?;
    }
    fault::point("bridge.stood-in")?;
    let (interface, tag) = (facts.key.interface.clone(), facts.key.owner().tag());
    let spec = VethSpec {
        name: &veth_name,
        peer_name: &interface,
        peer_netns: facts.netns,
        master: Some(bridge.index),
        mtu: facts.mtu,
        mac: Some(veth::random_mac()),
        peer_mac: Some(mac),
        alias: Some(&tag),
        port: PortFlags {
            hairpin: facts.config.hairpin,
            isolated: facts.config.port_isolation,
        },
        without_ipv6: false,
    };
    let veth = create_veth_pair(facts, &spec, undo)?;
    drop(network_lock);
    fault::point("bridge.plugged")?;
    let bridge_mac = network::mac_after(&mut facts.host, &bridge, &wanted)?;
    let (backend, made) = backend.unzip();
    let mut sockets = backend.map(Backend::into_sockets).unwrap_or_default();
    if let Some(guard) = spoof_guard {
        let mut backend = rules::open(context, BackendKind::Nftables)?;
        let ruleset = Ruleset {
            spoof_guard: Some(guard),
            ..Ruleset::default()
        };
        backend.apply(&ruleset).map_err(rules::error)?;
        sockets.extend(backend.into_sockets());
    }
    fault::point("bridge.guarded")?;
    configure(facts, &spec, &veth, &result)?;
    fault::point("bridge.configured")?;
    rules::close(context, sockets);
    if made == Some(true) {
        repair::others(context, R::PLUGIN, &facts.key);
    }
    let netns = context.invocation.netns.clone();
    let linked = |name: &str, mac: Option<[u8; 6]>, sandbox: Option<String>| Interface {
        name: name.to_owned(),
        mac: mac.map(|mac| Mac(mac).to_string()),
        mtu: facts.mtu,
        sandbox,
        ..Interface::default()
    };
    result.interfaces = vec![
        linked(&wanted.bridge, bridge_mac, None),
        linked(&veth_name, Some(veth.mac), None),
        linked(&interface, Some(mac), netns),
    ];
    if let Some(dns) = &facts.config.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}

/// Runs the IPAM plugin.
fn allocate(context: &Context, config: &Config, undo: &mut Undo<Step>) -> Result<AddResult, Error> {
    undo.push(Step::Lease);
    let Some(ipam) = &config.ipam else {
        return Ok(AddResult::default());
    };
    delegation::add(context, ipam)
}

/// The veth pair: one message, both ends in place, both down.
fn create_veth_pair(
    facts: &mut HostFacts<'_>,
    spec: &VethSpec<'_>,
    undo: &mut Undo<Step>,
) -> Result<Veth, Error> {
    let config = &facts.config;
    let name = spec.name;
    undo.push(Step::Veth);
    let failed = |error: pontoon_netlink::Error| {
        if error.is_bridge_full() {
            return AttachError::Full {
                bridge: config.bridge.to_string(),
            }
            .into();
        }
        kernel_error(
            format!("cannot create veth pair {name} - {}", facts.key.interface),
            error,
        )
    };
    let make = |host: &mut RouteSocket| host.create_veth_down(spec);
    let veth = veth::create(&mut facts.host, &facts.key, make, failed)?;
    if config.wants_vlans() {
        let (add, remove) = vlans(config);
        facts
            .host
            .port_vlans(veth.index, &add, &remove)
            .map_err(|error| kernel_error(format!("cannot set the VLANs of {name}"), error))?;
    }
    Ok(veth)
}

/// VLANs of the port, as in the reference plugin: the access VLAN untagged, trunked ones tagged,
/// with VLAN 1 as native VLAN of a trunk without access VLAN.
fn vlans(config: &Config) -> (Vec<VlanRange>, Vec<VlanRange>) {
    let access = |id| VlanRange {
        first: id,
        last: id,
        pvid: true,
        untagged: true,
    };
    let mut add: Vec<VlanRange> = config
        .trunk
        .iter()
        .map(|&(first, last)| VlanRange {
            first,
            last,
            pvid: false,
            untagged: false,
        })
        .collect();
    add.extend(config.vlan.map(access));
    let keep_default =
        config.preserve_default_vlan || config.vlan.is_none() || config.vlan == Some(1);
    let remove = if keep_default {
        Vec::new()
    } else {
        vec![access(1)]
    };
    (add, remove)
}

/// Addresses, routes and link state inside the container; then the host's end goes up.
fn configure(
    facts: &mut HostFacts<'_>,
    spec: &VethSpec<'_>,
    veth: &Veth,
    result: &AddResult,
) -> Result<(), Error> {
    if facts.config.disable_container_interface {
        return connect(facts, spec, veth);
    }
    let name = spec.peer_name;
    let dad = facts.config.enable_dad;
    let announced = plan::announced(&result.ips, facts.config.mac.is_some());
    let wanted = Ipv6 {
        addresses: result.ips.iter().any(|ip| !ip.address.is_ipv4()),
        dad,
        advertisements: Advertisements::wanted(facts.config.accept_ra),
        announce: announced.v6,
    };
    container_link::ipv6_settings(facts.netns, name, wanted)?;
    // Detection of duplicates takes a second or two: only for who asked for it.
    let (now, later): (Vec<_>, Vec<_>) = result
        .ips
        .iter()
        .map(|ip| ip.address)
        .partition(|address| !dad || address.is_ipv4());
    let routes = container_link::routes(result, veth.peer_index);
    let setup = Setup {
        lo_up: true,
        index: veth.peer_index,
        addresses: &now
            .iter()
            .map(|address| (*address).into())
            .collect::<Vec<_>>(),
        up: true,
        routes: if later.is_empty() { &routes } else { &[] },
        loose: true,
        arp_notify: announced.v4,
        ..Setup::default()
    };
    let failed = |error| kernel_error(format!("cannot configure {name} in the container"), error);
    facts.inside.configure(&setup).map_err(failed)?;
    connect(facts, spec, veth)?;
    for address in &later {
        facts
            .inside
            .add_address(veth.peer_index, (*address).into(), false)
            .map_err(failed)?;
    }
    if !later.is_empty() {
        settle(&mut facts.inside, veth.peer_index, name)?;
        for route in &routes {
            facts.inside.add_route(route).map_err(failed)?;
        }
    }
    if announced.v4 || announced.v6 {
        // The bridge passes nothing on before.
        facts.host.wait_operational(veth.index).map_err(failed)?;
        container_link::announce(&mut facts.inside, veth.peer_index, name);
    }
    Ok(())
}

/// The host's end gets its owner's name and goes up: from now on there is a carrier.
fn connect(facts: &mut HostFacts<'_>, spec: &VethSpec<'_>, veth: &Veth) -> Result<(), Error> {
    // Where it cannot be written, the port is told to take no address at least.
    let path = format!("net/ipv6/conf/{}/disable_ipv6", spec.name);
    let spec = VethSpec {
        without_ipv6: sysctl::write(&path, "1").is_ok(),
        ..*spec
    };
    facts
        .host
        .take_veth_up(veth.index, &spec)
        .map_err(|error| kernel_error(format!("cannot take {} up", spec.name), error))
}

/// Waits until no address is tentative, at most five seconds as the reference plugin does.
fn settle(inside: &mut RouteSocket, index: u32, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let addresses = inside
            .addresses(index)
            .map_err(|error| kernel_error(format!("cannot list the addresses of {name}"), error))?;
        if let Some(address) = addresses.iter().find(|address| address.dad_failed) {
            return Err(AttachError::Duplicate {
                address: address.cidr.to_string(),
                interface: name.to_owned(),
            }
            .into());
        }
        if !addresses.iter().any(|address| address.tentative) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(AttachError::Tentative {
                interface: name.to_owned(),
            }
            .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
