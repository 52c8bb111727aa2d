//! DEL and GC: the container's path leads to its own namespace again.

use pontoon_conf::Error;
use pontoon_ledger::ContainerRecord;
use pontoon_plugin::{Context, gc};

use crate::undo::remove;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<ContainerRecord> = context.state.read(&key)?;
    remove(context, &key, record.as_ref())
}

/// Removes attachments that are not valid any more; without a list, those whose path leads to
/// neither namespace any more.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record| remove(context, key, record))
}
