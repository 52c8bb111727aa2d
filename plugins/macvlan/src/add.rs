//! ADD: addresses, a link born in the container, configured there.

use pontoon_attach::container_link::{self, Advertisements};
use pontoon_attach::sockets;
use pontoon_conf::{AddResult, Error, Interface, Mac};
use pontoon_ipam::delegation;
use pontoon_ledger::{Key, MacvlanRecord};
use pontoon_netlink::{Link, LinkChange, MacvlanSpec, RouteSocket};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::Config;
use crate::error::LinkError;
use crate::{plan, undo};

#[derive(Debug)]
enum Step {
    Lease,
    Record,
    Link,
}

/// The socket of the namespace that has the master, and the master.
pub(crate) fn master(context: &Context, config: &Config) -> Result<(RouteSocket, Link), Error> {
    let mut socket = if config.link_in_container {
        sockets::of_container(context.netns()?)?
    } else {
        sockets::of_host()?
    };
    let (found, missing) = match &config.master {
        Some(name) => (
            socket.link_by_name(name.as_ref()),
            LinkError::NoMaster {
                name: name.to_string(),
            },
        ),
        None => (socket.uplink(), LinkError::NoDefaultRoute),
    };
    let found = found.map_err(|error| kernel_error(missing.to_string(), error))?;
    let master = found.ok_or(missing)?;
    Ok((socket, master))
}

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let netns = context.netns()?;
    let mut inside = sockets::of_container(netns)?;
    container_link::refuse_taken(context, &mut inside)?;
    let (mut outer, master) = master(context, &config)?;
    let mtu = plan::mtu(config.mtu, master.mtu)?;
    let temporary = plan::temporary_name(&key);
    let spec = MacvlanSpec {
        name: &temporary,
        netns,
        master: master.index,
        mode: config.mode as u32,
        mtu,
        mac: config.mac.map(|mac| mac.0),
        broadcast_queue: config.broadcast_queue,
    };
    let mut steps = Undo::default();
    let done = attach(
        context,
        &config,
        &key,
        (&mut outer, &mut inside),
        &spec,
        &mut steps,
    );
    match done {
        Ok(result) => {
            steps.commit();
            Ok(result)
        }
        Err(error) => Err(steps.unwind(error, |step| match step {
            Step::Lease => delegation::release(context),
            Step::Record => undo::forget(context, &key),
            Step::Link => undo::remove(&mut inside, &key),
        })),
    }
}

fn attach(
    context: &Context,
    config: &Config,
    key: &Key,
    (outer, inside): (&mut RouteSocket, &mut RouteSocket),
    spec: &MacvlanSpec<'_>,
    undo: &mut Undo<Step>,
) -> Result<AddResult, Error> {
    // From the lease until the record is written, GC does not take the lease for garbage.
    let network_lock = context.state.share_network(&key.network)?;
    let mut result = AddResult::default();
    undo.push(Step::Lease);
    if let Some(ipam) = &config.ipam {
        result = delegation::add(context, ipam)?;
    }
    fault::point("macvlan.leased")?;
    undo.push(Step::Record);
    let record = MacvlanRecord {
        sandbox: context.sandbox(),
        names: context.names(),
        dns: config.dns.clone(),
        leases: delegation::leases(context)?,
    };
    context.state.write(key, &record)?;
    drop(network_lock);
    fault::point("macvlan.recorded")?;
    // An earlier ADD of this very attachment was killed, and its DEL never came.
    undo::remove(inside, key)?;
    // Before it is made: the kernel's answer may be lost.
    undo.push(Step::Link);
    outer
        .create_macvlan(spec)
        .map_err(|error| kernel_error("failed to create macvlan", error))?;
    fault::point("macvlan.created")?;
    let name = &key.interface;
    let failed = |error| kernel_error(format!("cannot set up {name} in the container"), error);
    let missing = || LinkError::Vanished {
        interface: name.clone(),
    };
    let born = inside.link_by_name(spec.name).map_err(failed)?;
    let index = born.ok_or_else(missing)?.index;
    let change = LinkChange {
        name: Some(name.clone()),
        alias: Some(key.owner().tag()),
        ..LinkChange::default()
    };
    inside.set_link(index, &change).map_err(failed)?;
    fault::point("macvlan.named")?;
    let advertisements = Advertisements::wanted(config.accept_ra);
    container_link::configure(spec.netns, inside, index, name, &result, advertisements)?;
    fault::point("macvlan.configured")?;
    let link = inside.link_by_index(index).map_err(failed)?;
    let link = link.ok_or_else(missing)?;
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    result.interfaces = vec![Interface {
        name: name.clone(),
        mac: link.mac.map(|mac| Mac(mac).to_string()),
        mtu: Some(link.mtu),
        sandbox: context.invocation.netns.clone(),
        ..Interface::default()
    }];
    if let Some(dns) = &config.dns {
        result.dns = dns.clone();
    }
    Ok(result)
}
