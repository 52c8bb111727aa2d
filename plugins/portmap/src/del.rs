//! DEL and GC: rules, reservations and flows go, found by owner.

use std::os::fd::OwnedFd;

use ipnetwork::IpNetwork;
use pontoon_conf::{Error, Verb};
use pontoon_ledger::port_slots::Reservations;
use pontoon_ledger::{Lock, PortmapRecord, published};
use pontoon_netfilter::reference::ReferencePlugin;
use pontoon_netfilter::{BackendKind, Published, Ruleset};
use pontoon_netlink::conntrack::{Conntrack, Filter};
use pontoon_plugin::{Context, Key, backends, fault, gc, kernel_error, reference, rules};

use crate::config::Config;
use crate::plan;
use crate::share;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    if let Some(record) = context.state.read::<PortmapRecord>(&key)? {
        return remove(context, &key, &record);
    }
    published::remove(&context.state, &key)?;
    // Without a record, rules can only be the reference plugin's, or what a lost state directory has
    // left: in iptables both have the same names.
    let mut result = reference::forget(context, ReferencePlugin::Portmap);
    let Ok(config) = Config::from_context(context) else {
        return result;
    };
    let previous = context.config.prev_result.as_ref();
    if let Ok(Some(published)) = plan::published(&key, &config, previous) {
        let ruleset = Ruleset {
            published: Some(published),
            ..Ruleset::default()
        };
        result = result.and(rules::withdraw(context, BackendKind::Nftables, &ruleset));
    }
    result.and(backends::retire(context, "portmap"))
}

/// Removes an attachment's ports.
pub(crate) fn remove(context: &Context, key: &Key, record: &PortmapRecord) -> Result<(), Error> {
    {
        let _ports = context
            .state
            .lock(&context.state.ports_lock(), Lock::exclusive)?;
        remove_locked(context, key, record)?;
    }
    fault::point("portmap.removed")?;
    retire(context)
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
    let stand_in = match (context.invocation.verb, record.backend) {
        (Verb::Del, BackendKind::IptablesNft | BackendKind::IptablesLegacy) => {
            reference::spare(context, key)
        }
        _ => None,
    };
    let done = backend
        .reference()
        .withdraw_with_chain(&ruleset, stand_in.as_ref())
        .map_err(|error| rules::error(&error));
    rules::deleted(context);
    let mut sockets = backend.into_sockets();
    let done = done
        .and_then(|()| fault::point("portmap.withdrawn"))
        .and_then(|()| {
            Reservations::at(context.state.dir())
                .give_back(published)
                .map_err(|error| {
                    Error::new(
                        pontoon_conf::code::IO,
                        "cannot give back the reserved ports",
                    )
                    .with_details(error.to_string())
                })
        })
        .and_then(|()| fault::point("portmap.given-back"))
        .and_then(|()| cut_flows(published, &mut sockets));
    // IPv6 flows are found by listing all of them, which nobody has to wait for: the rules that
    // made them are gone.
    match published.v6 {
        Some(address) if done.is_ok() => rules::linger_after(sockets, || {
            if let Ok(mut conntrack) = Conntrack::open() {
                let _ = conntrack.cut(&answered_by(address));
            }
        }),
        _ => rules::linger(sockets),
    }
    done?;
    share::publish_waiting_ports(context, record);
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
    let failed = |error| kernel_error("cannot cut the flows of the published ports", &error);
    let mut conntrack = Conntrack::open().map_err(failed)?;
    conntrack.cut(&answered_by(address)).map_err(failed)?;
    sockets.push(conntrack.into_fd());
    Ok(())
}

/// Removes what all networks share, if this was the last user of it.
fn retire(context: &Context) -> Result<(), Error> {
    if !context.state.records_of::<PortmapRecord>().any()
        && let Ok(ports) = Lock::exclusive(&context.state.ports_lock())
    {
        ports.remove();
    }
    backends::retire(context, "portmap")
}

/// Removes the ports of attachments that are not valid any more. Without a list, only of those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record| match record {
        Some(record) => remove(context, key, record),
        None => published::remove(&context.state, key),
    });
    result.and(backends::retire(context, "portmap"))
}
