//! DEL and GC: everything that belongs to an attachment goes, found by its owner, whatever is
//! left of it.

use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_netfilter::reference::Role;
use pontoon_netfilter::{BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Key, fault, kernel_error, masquerade, reference, rules, veth};

use crate::add::Record;
use crate::config::Config;
use crate::network;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let record: Option<Record> = context.state.records("bridge").read(&key);
    let mut failures = Vec::new();
    // The link first: an address is free only when nobody can use it any more.
    failures.extend(veth::unplug(context, &mut host, &key).err());
    fault::point("bridge.unplugged")?;
    failures.extend(delegation::release(context).err());
    fault::point("bridge.released")?;
    failures.extend(strangers(context, &key, record.as_ref()).err());
    fault::point("bridge.stood-down")?;
    let guard = record.and_then(|record| record.spoof_guard);
    let withdraw = || guard.map_or(Ok(()), |guard| unguard(context, guard));
    if failures.is_empty() {
        failures.extend(masquerade::release(context, "bridge", withdraw).err());
    } else {
        failures.extend(withdraw().err());
    }
    fault::point("bridge.retired")?;
    first(failures)
}

/// What stands for a DEL of the reference plugin; without a record, what that plugin may have made.
fn strangers(context: &Context, key: &Key, record: Option<&Record>) -> Result<(), Error> {
    match record {
        Some(record) => record
            .stand_in
            .map_or(Ok(()), |kind| reference::stand_down(context, kind, key)),
        None => reference::forget(context, Role::Interface),
    }
}

/// The first error; the others go into its details.
fn first(failures: Vec<Error>) -> Result<(), Error> {
    let mut failures = failures.into_iter();
    let Some(mut error) = failures.next() else {
        return Ok(());
    };
    for other in failures {
        error.details = format!("{}; {other}", error.details);
    }
    Err(error)
}

pub(crate) fn unguard(context: &Context, guard: SpoofGuard) -> Result<(), Error> {
    let mut backend = rules::open(context, BackendKind::Nftables)?;
    let ruleset = Ruleset {
        spoof_guard: Some(guard),
        ..Ruleset::default()
    };
    let done = backend
        .withdraw(&ruleset)
        .map_err(|error| rules::error(&error));
    rules::deleted(context);
    rules::linger(backend.into_sockets());
    done
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone: what may be alive stays.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("bridge");
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let mut failures = Vec::new();
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        if context.is_valid(&key, record.as_ref().map(|record| &record.sandbox)) {
            continue;
        }
        let done = veth::find(&mut host, &key)
            .and_then(|link| link.map_or(Ok(()), |index| veth::remove(&mut host, &[index])))
            .and_then(
                |()| match record.as_ref().and_then(|record| record.stand_in) {
                    Some(kind) => reference::stand_down(context, kind, &key),
                    None => Ok(()),
                },
            )
            .and_then(|()| match record.and_then(|record| record.spoof_guard) {
                Some(guard) => unguard(context, guard),
                None => Ok(()),
            })
            .and_then(|()| records.remove(&key).map(drop));
        failures.extend(done.err());
    }
    records.remove_drafts(&network);
    if let Some(leases) = delegation::leases(context)? {
        failures.extend(reference::collect(context, &leases).err());
    }
    failures.extend(collect_leases(context).err());
    if !records.has_network(&network) {
        failures.extend(masquerade::retire(context, "bridge").err());
        let bridge = Config::from_context(context)?.bridge;
        failures.extend(network::remove_bridge(context, &mut host, bridge.as_ref()).err());
    }
    first(failures)
}

fn collect_leases(context: &Context) -> Result<(), Error> {
    match Config::from_context(context)?.ipam {
        None => Ok(()),
        Some(ipam) => delegation::gc(context, &ipam),
    }
}
