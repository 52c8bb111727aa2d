//! DEL and GC: the names go first, then what led to them.

use pontoon_conf::Error;
use pontoon_ledger::DnsRecord;
use pontoon_plugin::{Context, gc};

use crate::undo::{remove, retire};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let entry: Option<DnsRecord> = context.state.read(&key)?;
    remove(context, &key, entry.as_ref())
}

/// Removes the names of attachments that are not valid any more. Without a list, only of those whose
/// namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record| remove(context, key, record));
    result.and(retire(context, context.config.name.as_ref()))
}
