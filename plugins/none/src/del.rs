//! DEL and GC: the loopback interface is as it was.

use pontoon_conf::Error;
use pontoon_ledger::NoneRecord;
use pontoon_plugin::{Context, Key, fault, gc};

use crate::add;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<NoneRecord> = context.state.read(&key)?;
    remove(context, &key, record.as_ref())
}

fn remove(context: &Context, key: &Key, record: Option<&NoneRecord>) -> Result<(), Error> {
    if let Some(record) = record.filter(|record| !record.was_up)
        && let Some(netns) = record.sandbox.open()
    {
        add::set(&netns, false)?;
    }
    fault::point("none.down")?;
    context.state.records_of::<NoneRecord>().remove(key)?;
    context.state.prune();
    Ok(())
}

/// Forgets attachments that are not valid any more; without a list, those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record| remove(context, key, record))
}
