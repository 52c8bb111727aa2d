//! The same ports on several networks of one container: runtimes send a container's ports with
//! each of its networks. A port is published once, through a network that has a way to it; the
//! others wait, family by family, and the next one takes over when the first one goes.

use std::net::IpAddr;

use pontoon_conf::{Attached, Error};
use pontoon_ledger::{NetworkRecord, PortmapRecord, published};
use pontoon_netfilter::Published;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::ports;
use pontoon_plugin::{Context, Key, fault, kernel_error, rules};

use crate::add;

/// Takes out the families in which the network has no way in, and says so. `bridge` has noted
/// whether a network is `internal`; of others a container without routes has none to answer by,
/// unless the host is on its link, which podman's internal networks forbid.
pub(crate) fn reachable(
    context: &Context,
    published: &mut Published,
    previous: &Attached,
) -> Result<(), Error> {
    let name = &context.config.name;
    let network: Option<NetworkRecord> = context.state.read_network(name.as_ref())?;
    if network.is_some_and(|network| network.internal) {
        (published.v4, published.v6) = (None, None);
    } else if previous.routes.is_empty() {
        let failed = |error| kernel_error("cannot ask the host's routes", &error);
        let mut host = RouteSocket::open().map_err(failed)?;
        let mut on_link = |address: IpAddr| {
            let route = host.route_to(address).map_err(failed)?;
            Ok::<_, Error>(route.is_some_and(|route| route.gateway.is_none()))
        };
        for family in [&mut published.v4, &mut published.v6] {
            if let Some(address) = *family
                && !on_link(address.ip())?
            {
                *family = None;
            }
        }
    }
    if !published.has_address()
        && let Some(port) = published.ports.first()
    {
        eprintln!(
            "portmap: network {name} is internal: host port {}/{} of container {} is not published \
             through it",
            port.host_port, port.protocol, published.owner.container
        );
    }
    Ok(())
}

/// Lets the families wait in which another network of the container publishes all the same ports.
/// Whether there are any.
pub(crate) fn wait(record: &mut PortmapRecord, holder: &PortmapRecord) -> bool {
    let (own, theirs) = (&mut record.published, &holder.published);
    if !own.ports.iter().all(|port| theirs.ports.contains(port)) {
        return false;
    }
    let mut some = false;
    for (own, waits, theirs) in [
        (&mut own.v4, &mut record.waits.v4, theirs.v4),
        (&mut own.v6, &mut record.waits.v6, theirs.v6),
    ] {
        if theirs.is_some()
            && let Some(address) = own.take()
        {
            *waits = Some(address);
            some = true;
        }
    }
    some
}

/// Notes with the holders that an attachment waits for them.
pub(crate) fn queue(context: &Context, key: &Key, holders: &[Key]) -> Result<(), Error> {
    let name = key.path();
    for holder in holders {
        if let Some(mut record) = context.state.read::<PortmapRecord>(holder)?
            && !record.waiters.contains(&name)
        {
            record.waiters.push(name.clone());
            context.state.write(holder, &record)?;
        }
    }
    Ok(())
}

/// For a DEL that has given its ports back and still holds their lock: publishes those of the
/// attachments that waited for it and are alive. A failure is theirs, and hinders no DEL.
pub(crate) fn publish_waiting_ports(context: &Context, gone: &PortmapRecord) {
    for key in gone.waiters.iter().filter_map(|name| Key::parse(name)) {
        if let Err(error) = publish_ports_of(context, &key) {
            eprintln!(
                "portmap: the ports of container {} are not published through network {} now: {error}; \
                 try: pontoon repair {}",
                key.container, key.network, key.network
            );
        }
    }
}

fn publish_ports_of(context: &Context, key: &Key) -> Result<(), Error> {
    let Some(mut record) = context.state.read::<PortmapRecord>(key)? else {
        return Ok(());
    };
    if !record.full().has_address() || context.state.is_gone(key, &record.sandbox)? {
        return Ok(());
    }
    record.published = record.full();
    record.waits = <_>::default();
    let holders = add::clear(context, key, &mut record)?;
    if let Some(netns) = record.sandbox.open() {
        ports::see_beside(&mut record.published, &netns)?;
    }
    published::write(&context.state, key, &record)?;
    queue(context, key, &holders)?;
    fault::point("portmap.promoted")?;
    if !record.published.has_address() {
        return Ok(());
    }
    rules::linger(add::make(context, &record)?);
    Ok(())
}
