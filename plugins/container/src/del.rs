//! DEL and GC: the container's path leads to its own namespace again.

use pontoon_conf::Error;
use pontoon_ledger::ContainerRecord;
use pontoon_plugin::{Context, Key, fault, gc, rebind};

use crate::files;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<ContainerRecord> = context.state.read(&key)?;
    remove(context, &key, record.as_ref())
}

pub(crate) fn remove(
    context: &Context,
    key: &Key,
    record: Option<&ContainerRecord>,
) -> Result<(), Error> {
    if let Some(record) = record {
        files::remove(&record.files)?;
    }
    if let Some(rebind) = record.and_then(|record| record.rebind.as_ref()) {
        rebind::restore(rebind)?;
    }
    fault::point("container.restored")?;
    context.state.records_of::<ContainerRecord>().remove(key)?;
    context.state.prune();
    Ok(())
}

/// Removes attachments that are not valid any more; without a list, those whose path leads to
/// neither namespace any more.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record| remove(context, key, record))
}
