//! DEL and GC: the loopback interface is as it was.

use pontoon_conf::Error;
use pontoon_ledger::NoneRecord;
use pontoon_plugin::{Context, gc};

use crate::undo::remove;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<NoneRecord> = context.state.read(&key)?;
    remove(context, &key, record.as_ref())
}

/// Forgets attachments that are not valid any more; without a list, those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record| remove(context, key, record))
}
