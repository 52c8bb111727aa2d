//! The same ports on several networks of one container: runtimes send a container's ports with
//! each of its networks. A port is published once, through a network that has a way to it; the
//! others wait, family by family, and the next one takes over when the first one goes.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnetwork::IpNetwork;
use pontoon_attach::{ports, reference, rules};
use pontoon_conf::{AddResult, Error, Verb};
use pontoon_ledger::port_slots::{Refusal, Reservations};
use pontoon_ledger::{Key, NetworkRecord, PortmapRecord, published};
use pontoon_netfilter::{BackendKind, Published, Ruleset};
use pontoon_netlink::RouteSocket;
use pontoon_netlink::conntrack::{Conntrack, Filter};
use pontoon_plugin::{Context, fault, kernel_error, warn};

use crate::error::ReservationError;

/// Takes out the families in which the network has no way in, and says so. `bridge` has noted
/// whether a network is `internal`; of others a container without routes has none to answer by,
/// unless the host is on its link, which podman's internal networks forbid.
pub(crate) fn reachable(
    context: &Context,
    published: &mut Published,
    previous: &AddResult,
) -> Result<(), Error> {
    let name = &context.config.name;
    let network: Option<NetworkRecord> = context.state.read_network(name.as_ref())?;
    if network.is_some_and(|network| network.internal) {
        (published.v4, published.v6) = (None, None);
    } else if previous.routes.is_empty() {
        let failed = |error| kernel_error("cannot ask the host's routes", error);
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
        warn(format_args!(
            "portmap: network {name} is internal: host port {}/{} of container {} is not published \
             through it",
            port.host_port, port.protocol, published.owner.container
        ));
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
            warn(format_args!(
                "portmap: the ports of container {} are not published through network {} now: {error}; \
                 try: pontoon repair {}",
                key.container, key.network, key.network
            ));
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
    let holders = clear(context, key, &mut record)?;
    if let Some(netns) = record.sandbox.open()? {
        ports::see_beside(&mut record.published, &netns)?;
    }
    published::write(&context.state, key, &record)?;
    queue(context, key, &holders)?;
    fault::point("portmap.promoted")?;
    if !record.published.has_address() {
        return Ok(());
    }
    rules::close_in_detached_child(make(context, &record)?);
    Ok(())
}

pub(crate) fn ruleset(published: &Published) -> Ruleset {
    Ruleset {
        published: Some(published.clone()),
        ..Ruleset::default()
    }
}

/// Reserves the ports and makes their rules, for a caller that holds the lock of the reservations.
pub(crate) fn make(context: &Context, record: &PortmapRecord) -> Result<Vec<OwnedFd>, Error> {
    Reservations::at(context.state.dir())
        .take(&record.published)
        .map_err(|refusal| refused(refusal, None))?;
    fault::point("portmap.reserved")?;
    let mut backend = rules::open(context, record.backend)?;
    backend
        .apply(&ruleset(&record.published))
        .map_err(rules::error)?;
    Ok(backend.into_sockets())
}

/// Sees that the ports are free. A port whose owner's namespace is gone is taken over: its DEL,
/// should it still come, finds nothing that carries its tag. Where the owner is another attachment
/// of the same container the record is made to wait; for whom, is returned.
pub(crate) fn clear(
    context: &Context,
    key: &Key,
    record: &mut PortmapRecord,
) -> Result<Vec<Key>, Error> {
    let ports = Reservations::at(context.state.dir());
    let mut holders = Vec::new();
    loop {
        let refusal = match ports.check(&record.published) {
            Ok(()) => return Ok(holders),
            Err(refusal) => refusal,
        };
        let Refusal::Taken(port, owner) = &refusal else {
            return Err(refused(refusal, None).into());
        };
        let holder: Option<PortmapRecord> = context.state.read(owner)?;
        match holder {
            Some(holder) if owner != key && context.state.is_gone(owner, &holder.sandbox)? => {
                remove_locked(context, owner, &holder)?;
            }
            Some(holder)
                if owner.container == key.container && owner != key && wait(record, &holder) =>
            {
                holders.push(owner.clone());
            }
            // Its record is lost: no DEL will ever come for it.
            None => {
                let mut stale = record.published.clone();
                stale.owner = owner.owner();
                stale.ports = vec![*port];
                let taken = ports.give_back(&stale);
                taken.map_err(|source| ReservationError::TakeOver { source })?;
            }
            Some(holder) => return Err(refused(refusal, Some(&holder)).into()),
        }
    }
}

fn refused(refusal: Refusal, record: Option<&PortmapRecord>) -> ReservationError {
    match refusal {
        Refusal::Io(path, source) => ReservationError::Reserve { path, source },
        Refusal::Taken(port, owner) => ReservationError::Taken {
            port,
            owner,
            sandbox: record.map_or(String::new(), |record| record.sandbox.path.clone()),
        },
    }
}

/// As [`remove`], for a caller that holds the lock of the reservations. Rules first: a reservation
/// protects them until they are gone. The record last: until then DEL can be tried again.
pub(crate) fn remove_locked(
    context: &Context,
    key: &Key,
    record: &PortmapRecord,
) -> Result<(), Error> {
    let published = &record.published;
    if !published.has_address() {
        // Another network of the container publishes its ports.
        return published::remove(&context.state, key);
    }
    let mut backend = rules::open(context, record.backend)?;
    let ruleset = Ruleset {
        published: Some(published.clone()),
        ..Ruleset::default()
    };
    // An ADD that clears away what an earlier one has left keeps what the plugin before has just made.
    // nftables has nothing to take along.
    let reference_chain = match (context.invocation.verb, record.backend) {
        (Verb::Del, BackendKind::IptablesNft | BackendKind::IptablesLegacy) => {
            reference::spare(context, key)
        }
        _ => None,
    };
    let done = backend
        .reference()
        .withdraw_with_chain(&ruleset, reference_chain.as_ref())
        .map_err(rules::error);
    rules::deleted(context);
    let mut sockets = backend.into_sockets();
    let done = done
        .and_then(|()| fault::point("portmap.withdrawn"))
        .and_then(|()| {
            Reservations::at(context.state.dir())
                .give_back(published)
                .map_err(|source| ReservationError::GiveBack { source }.into())
        })
        .and_then(|()| fault::point("portmap.given-back"))
        .and_then(|()| cut_flows(published, &mut sockets));
    // IPv6 flows are found by listing all of them, which no caller has to wait for: the rules that
    // made them are gone.
    match published.v6 {
        Some(address) if done.is_ok() => rules::linger_after(sockets, || {
            if let Ok(mut conntrack) = Conntrack::open() {
                let _ = conntrack.cut(&answered_by(address));
            }
        }),
        _ => rules::close_in_detached_child(sockets),
    }
    done?;
    publish_waiting_ports(context, record);
    published::remove(&context.state, key)
}

/// The flows that a container answers.
fn answered_by(address: IpNetwork) -> Filter {
    Filter {
        v4: address.is_ipv4(),
        reply_source: Some(address.ip()),
        ..Filter::default()
    }
}

/// Flows that the container answered lead to an address that may soon be another container's.
fn cut_flows(published: &Published, sockets: &mut Vec<OwnedFd>) -> Result<(), Error> {
    let Some(address) = published.v4 else {
        return Ok(());
    };
    let failed = |error| kernel_error("cannot cut the flows of the published ports", error);
    let mut conntrack = Conntrack::open().map_err(failed)?;
    conntrack.cut(&answered_by(address)).map_err(failed)?;
    sockets.push(conntrack.into_fd());
    Ok(())
}
