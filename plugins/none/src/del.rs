//! DEL and GC: the loopback interface is as it was.

use pontoon_conf::Error;
use pontoon_plugin::{Context, Key, fault};

use crate::add::{self, Record};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<Record> = context.state.records("none").read(&key);
    remove(context, &key, record.as_ref())
}

fn remove(context: &Context, key: &Key, record: Option<&Record>) -> Result<(), Error> {
    if let Some(record) = record.filter(|record| !record.was_up)
        && let Some(netns) = record.sandbox.open()
    {
        add::set(&netns, false)?;
    }
    fault::point("none.down")?;
    context.state.records("none").remove(key)?;
    context.state.prune();
    Ok(())
}

/// Forgets attachments that are not valid any more; without a list, those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("none");
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        if !context.is_valid(&key, record.as_ref().map(|record| &record.sandbox)) {
            result = result.and(remove(context, &key, record.as_ref()));
        }
    }
    records.remove_drafts(&network);
    result
}
