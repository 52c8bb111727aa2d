//! DEL and GC: the container's path leads to its own namespace again.

use pontoon_conf::Error;
use pontoon_plugin::{Context, Key, fault};

use crate::add::Record;
use crate::files;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<Record> = context.state.records("container").read(&key);
    remove(context, &key, record.as_ref())
}

pub(crate) fn remove(context: &Context, key: &Key, record: Option<&Record>) -> Result<(), Error> {
    if let Some(record) = record {
        files::remove(&record.files)?;
    }
    if let Some(rebind) = record.and_then(|record| record.rebind.as_ref()) {
        rebind.restore()?;
    }
    fault::point("container.restored")?;
    context.state.records("container").remove(key)?;
    context.state.prune();
    Ok(())
}

/// Removes attachments that are not valid any more; without a list, those whose path leads to
/// neither namespace any more.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("container");
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        let listed = context.config.valid_attachments.is_some();
        let valid = if listed {
            context.is_valid(&key, None)
        } else {
            record.as_ref().is_some_and(Record::may_be_alive)
        };
        if !valid {
            result = result.and(remove(context, &key, record.as_ref()));
        }
    }
    records.remove_drafts(&network);
    result
}
