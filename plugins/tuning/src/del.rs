//! DEL and GC: what was before is put back where the container still is, and forgotten.

use pontoon_conf::Error;
use pontoon_ledger::TuningRecord;
use pontoon_plugin::{Context, gc};

use crate::backup;
use crate::undo::{forget, give_back, restore};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<TuningRecord> = context.state.read(&key)?;
    give_back(context, &key, record.as_ref())
}

/// Gives back for attachments of the network that are not valid any more. Without a list, only
/// those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record: Option<&TuningRecord>| {
        let Some(record) = record else {
            return Ok(());
        };
        if let Some(netns) = record.sandbox.open()?
            && let Some(backup) = backup::read(&record.backup)?
        {
            restore(&netns, key, &backup);
        }
        forget(context, key, &record.backup)
    })
}
