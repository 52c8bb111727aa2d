//! DEL and GC: the pair goes, and with it addresses and routes of both ends; then the lease; the
//! network's rules with its last container.

use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_netfilter::reference::Role;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Key, fault, kernel_error, masquerade, reference, veth};

use crate::add::Record;

fn open() -> Result<RouteSocket, Error> {
    RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))
}

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<Record> = context.state.records("ptp").read(&key);
    // The link first: an address is free only when nobody can use it any more.
    let unplugged = veth::unplug(context, &mut open()?, &key);
    fault::point("ptp.unplugged")?;
    let released = delegation::release(context);
    fault::point("ptp.released")?;
    unplugged.and(released)?;
    match record {
        Some(record) => stand_down(context, &key, &record)?,
        None => reference::forget(context, Role::Interface)?,
    }
    fault::point("ptp.stood-down")?;
    masquerade::release(context, "ptp", || Ok(()))
}

/// Removes what stands for a DEL of the reference plugin.
fn stand_down(context: &Context, key: &Key, record: &Record) -> Result<(), Error> {
    let kind = record.stand_in;
    kind.map_or(Ok(()), |kind| reference::stand_down(context, kind, key))
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("ptp");
    let mut host = open()?;
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        if context.is_valid(&key, record.as_ref().map(|record| &record.sandbox)) {
            continue;
        }
        let done = veth::find(&mut host, &key)
            .and_then(|link| link.map_or(Ok(()), |index| veth::remove(&mut host, &[index])))
            .and_then(|()| match &record {
                Some(record) => stand_down(context, &key, record),
                None => Ok(()),
            })
            .and_then(|()| records.remove(&key).map(drop));
        result = result.and(done);
    }
    records.remove_drafts(&network);
    if let Some(leases) = delegation::leases(context)? {
        result = result.and(reference::collect(context, &leases));
    }
    if let Some(ipam) = delegation::configured(&context.config)? {
        result = result.and(delegation::gc(context, &ipam));
    }
    if !records.has_network(&network) {
        result = result.and(masquerade::retire(context, "ptp"));
    }
    result
}
