//! ADD: addresses, the pair in one message, both ends configured, the host routes. What fails is
//! undone in reverse order.

use pontoon_attach::container_link::{self, Advertisements, Ipv6};
use pontoon_attach::{backends, forwarding, masquerade, reference, repair, rules, veth};
use pontoon_conf::{AddResult, Error, Interface, Mac};
use pontoon_ipam::delegation;
use pontoon_ledger::{Key, Lock, PtpRecord};
use pontoon_netfilter::BackendKind;
use pontoon_netlink::{Netns, RouteSocket, Setup, Veth, VethSpec, sysctl};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::Config;
use crate::plan;
use crate::undo::{Step, revert};

struct HostFacts<'a> {
    config: Config,
    key: Key,
    netns: &'a Netns,
    host: RouteSocket,
    inside: RouteSocket,
    backend: Option<BackendKind>,
}

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let mut facts = read_host_facts(context)?;
    let mut undo = Undo::default();
    match attach(context, &mut facts, &mut undo) {
        Ok(result) => {
            undo.commit();
            Ok(result)
        }
        Err(error) => Err(undo.unwind(error, |step| revert(context, &mut facts.host, step))),
    }
}

/// Reads facts and refuses what cannot work. Changes nothing.
fn read_host_facts(context: &Context) -> Result<HostFacts<'_>, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let netns = context.netns()?;
    let open = |error| kernel_error("cannot open a route socket", error);
    let host = RouteSocket::open().map_err(open)?;
    let mut inside = RouteSocket::open_in(netns).map_err(open)?;
    container_link::refuse_taken(context, &mut inside)?;
    let backend = if config.ip_masq {
        Some(rules::select(context, config.ip_masq_backend.as_deref())?)
    } else {
        None
    };
    Ok(HostFacts {
        config,
        key,
        netns,
        host,
        inside,
        backend,
    })
}

fn attach(
    context: &Context,
    facts: &mut HostFacts<'_>,
    undo: &mut Undo<Step>,
) -> Result<AddResult, Error> {
    // From the lease on, GC does not take this attachment for garbage; from the record on, the network's
    // rules cannot be removed by the DEL of another attachment; the lock keeps both from being half way
    // through. It is held until the interface is there, by which the attachment is known to be alive.
    let state = &context.state;
    let network_lock = state.share_network(&facts.key.network)?;
    undo.push(Step::Lease);
    let mut result = delegation::add(context, &facts.config.ipam)?;
    fault::point("ptp.leased")?;
    plan::complete(&mut result);
    let wanted = facts
        .backend
        .map(|kind| (kind, plan::rules(&facts.key.network, &result.ips)));
    if let Some((backend, rules)) = &wanted {
        rules::validate(*backend, &masquerade::ruleset(rules))?;
    }
    let reference_chains = reference::needed_chains(facts.backend, &result.ips);
    let mut backend = {
        let _host = state.lock(&state.host_lock(), Lock::shared)?;
        undo.push(Step::Record);
        let record = PtpRecord {
            sandbox: context.sandbox(),
            dns: facts.config.dns.clone(),
            names: context.names(),
            leases: delegation::leases(context)?,
            reference_chains,
            settings: Some(container_link::settings(&result, true)),
        };
        backends::claim(context, "ptp", facts.backend)?;
        state.write(&facts.key, &record)?;
        fault::point("ptp.recorded")?;
        match &wanted {
            None => None,
            Some(rules) => {
                masquerade::note(context, Some(rules), false, None)?;
                Some(masquerade::apply(context, rules)?)
            }
        }
    };
    fault::point("ptp.masqueraded")?;
    if let (Some(chains), Some((backend, _))) = (reference_chains, &mut backend) {
        reference::create_chains(chains, backend, &facts.key)?;
    }
    fault::point("ptp.stood-in")?;
    let name = facts.key.host_interface();
    let mac = veth::random_mac();
    undo.push(Step::Veth);
    let veth = create_veth_pair(facts, &name, mac)?;
    drop(network_lock);
    fault::point("ptp.plugged")?;
    host_end(facts, &name, &veth, &result)?;
    fault::point("ptp.routed")?;
    container_end(facts, &veth, &result)?;
    fault::point("ptp.configured")?;
    switch_forwarding(&mut facts.host, &result)?;
    fault::point("ptp.forwarding")?;
    if let Some((backend, made)) = backend {
        rules::close_in_detached_child(backend.into_sockets());
        if made {
            repair::others(context, "ptp", &facts.key);
        }
    }
    let mtu = facts.config.mtu;
    let interface = |name: &str, mac: [u8; 6], sandbox: Option<String>| Interface {
        name: name.to_owned(),
        mac: Some(Mac(mac).to_string()),
        mtu,
        sandbox,
        ..Interface::default()
    };
    result.interfaces = vec![
        interface(&name, veth.mac, None),
        interface(&facts.key.interface, mac, context.invocation.netns.clone()),
    ];
    if let Some(dns) = &facts.config.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}

fn create_veth_pair(facts: &mut HostFacts<'_>, name: &str, mac: [u8; 6]) -> Result<Veth, Error> {
    let tag = facts.key.owner().tag();
    let spec = VethSpec {
        mtu: facts.config.mtu,
        mac: Some(veth::random_mac()),
        peer_mac: Some(mac),
        alias: Some(&tag),
        ..VethSpec::new(name, &facts.key.interface, facts.netns)
    };
    let failed = |error: pontoon_netlink::Error| {
        let pair = format!("cannot create veth pair {name} - {}", facts.key.interface);
        kernel_error(pair, error)
    };
    let make = |host: &mut RouteSocket| host.create_veth(&spec);
    veth::create(&mut facts.host, &facts.key, make, failed)
}

/// The host's end has the gateway's address, and the way to the container.
fn host_end(
    facts: &mut HostFacts<'_>,
    name: &str,
    veth: &Veth,
    result: &AddResult,
) -> Result<(), Error> {
    let v6 = result.ips.iter().any(|ip| !ip.address.is_ipv4());
    // An advertisement from a container must never give the host a route, and no address may stay
    // tentative. Kernels without IPv6 have none of these.
    for (key, value, wanted) in [
        ("accept_ra", "0", true),
        ("accept_dad", "0", true),
        ("disable_ipv6", "0", v6),
    ] {
        if wanted {
            let _ = sysctl::write_if_different(&format!("net/ipv6/conf/{name}/{key}"), value);
        }
    }
    let addresses: Vec<_> = plan::gateways(&result.ips)
        .into_iter()
        .map(Into::into)
        .collect();
    let setup = Setup {
        index: veth.index,
        addresses: &addresses,
        loose: true,
        routes: &plan::host_routes(&result.ips, veth.index),
        ..Setup::default()
    };
    facts
        .host
        .configure(&setup)
        .map_err(|error| kernel_error(format!("cannot configure {name} on the host"), error))
}

fn container_end(facts: &mut HostFacts<'_>, veth: &Veth, result: &AddResult) -> Result<(), Error> {
    let name = facts.key.interface.clone();
    let wanted = Ipv6 {
        addresses: result.ips.iter().any(|ip| !ip.address.is_ipv4()),
        dad: false,
        advertisements: Advertisements::Refuse,
        announce: false,
    };
    container_link::ipv6_settings(facts.netns, &name, wanted)?;
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.into()).collect();
    let setup = Setup {
        lo_up: true,
        index: veth.peer_index,
        addresses: &addresses,
        no_prefix_route: true,
        up: true,
        loose: true,
        routes: &plan::container_routes(result, veth.peer_index),
        ..Setup::default()
    };
    facts
        .inside
        .configure(&setup)
        .map_err(|error| kernel_error(format!("cannot configure {name} in the container"), error))
}

/// The host routes for its containers. Stays on, as README says.
fn switch_forwarding(host: &mut RouteSocket, result: &AddResult) -> Result<(), Error> {
    for v4 in [true, false] {
        if result.ips.iter().any(|ip| ip.address.is_ipv4() == v4) {
            forwarding::switch_on("ptp", host, v4)?;
        }
    }
    Ok(())
}
