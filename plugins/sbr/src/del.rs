//! DEL and GC: the rules of the interface's addresses go, and their tables' routes; if the link stays,
//! the routes that it had are in the main table again.

use pontoon_conf::Error;
use pontoon_ledger::SbrRecord;
use pontoon_plugin::{Context, gc};

use crate::undo;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    undo::remove(context)
}

/// Removes the records of attachments that are not valid any more; without a list, of those whose
/// namespace is gone. What they tell of goes with the namespace.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, _: Option<&SbrRecord>| {
        let records = context.state.records_of::<SbrRecord>();
        records.remove(key).map(drop)
    })
}
