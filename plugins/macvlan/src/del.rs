//! DEL and GC: the link goes, if the container is still there, and the lease in any case.

use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::MacvlanRecord;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Key, fault, gc, kernel_error, reference};

use crate::add;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<MacvlanRecord> = context.state.read(&key)?;
    // In another namespace than that of the ADD nothing is ours.
    let sandbox = record.as_ref().map(|record| &record.sandbox);
    let removed = match context.netns_of_record(sandbox) {
        Some(netns) => add::open(netns).and_then(|mut inside| remove(&mut inside, &key)),
        None => Ok(()),
    };
    fault::point("macvlan.removed")?;
    let released = delegation::release(context);
    removed.and(released)?;
    forget(context, &key)
}

/// Removes the attachment's link, under its final name or that of its birth. One with the note of
/// another attachment stays; the reference plugin writes none.
pub(crate) fn remove(inside: &mut RouteSocket, key: &Key) -> Result<(), Error> {
    let tag = key.owner().tag();
    for name in [key.interface.clone(), add::birth_name(key)] {
        let failed =
            |error| kernel_error(&format!("cannot remove {name} from the container"), &error);
        let found = inside.link_by_name(&name).map_err(failed)?;
        let Some(link) = found.filter(|link| link.kind.as_deref() == Some("macvlan")) else {
            continue;
        };
        let note = link.alias.as_deref().unwrap_or_default();
        if note.is_empty() || note == tag {
            inside.delete_link(link.index).map_err(failed)?;
        }
    }
    Ok(())
}

pub(crate) fn forget(context: &Context, key: &Key) -> Result<(), Error> {
    context.state.records_of::<MacvlanRecord>().remove(key)?;
    context.state.remove_unused_network_lock(&key.network)
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let mut result = gc::collect(context, |key, record: Option<&MacvlanRecord>| {
        if let Some(netns) = record.and_then(|record| record.sandbox.open()) {
            remove(&mut add::open(&netns)?, key)?;
        }
        forget(context, key)
    });
    if let Some(leases) = delegation::leases(context)? {
        result = result.and(reference::collect(context, &leases));
    }
    match delegation::configured(&context.config)? {
        Some(ipam) => result.and(delegation::gc(context, &ipam)),
        None => result,
    }
}
