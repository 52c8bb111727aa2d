//! DEL and GC: the link goes, if the container is still there, and the lease in any case.

use pontoon_attach::{reference, sockets};
use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::MacvlanRecord;
use pontoon_plugin::{Context, fault, gc};

use crate::undo::{forget, remove};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<MacvlanRecord> = context.state.read(&key)?;
    // In another namespace than that of the ADD nothing is ours.
    let sandbox = record.as_ref().map(|record| &record.sandbox);
    let removed = match context.netns_of_record(sandbox) {
        Some(netns) => {
            sockets::of_container(netns).and_then(|mut inside| remove(&mut inside, &key))
        }
        None => Ok(()),
    };
    fault::point("macvlan.removed")?;
    let released = delegation::release(context);
    removed.and(released)?;
    forget(context, &key)
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let mut result = gc::collect(context, |key, record: Option<&MacvlanRecord>| {
        if let Some(record) = record
            && let Some(netns) = record.sandbox.open()?
        {
            remove(&mut sockets::of_container(&netns)?, key)?;
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
