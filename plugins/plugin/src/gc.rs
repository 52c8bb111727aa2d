//! GC: what the runtime does not list any more is removed.

use pontoon_conf::Error;
use pontoon_ledger::{AttachmentRecord, Key};

use crate::Context;

/// Removes the attachments of the network that are not valid any more, and what killed writers have left.
/// When the runtime gives no list, only those go whose namespace is known to be gone. `remove` takes an
/// attachment away, its record included. One that cannot be removed keeps none of the others.
///
/// # Errors
/// The first failure. A record that cannot be read is one, unless the runtime lists its attachment.
pub fn collect<R: AttachmentRecord>(
    context: &Context,
    mut remove: impl FnMut(&Key, Option<&R>) -> Result<(), Error>,
) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    let records = context.state.records_of::<R>();
    let mut result = Ok(());
    for key in records.attachments(network)? {
        if context.is_listed(&key) == Some(true) {
            continue;
        }
        let done = match context.state.read::<R>(&key) {
            Err(error) => Err(error.into()),
            Ok(record) => match still_alive(context, &key, record.as_ref()) {
                Ok(true) => continue,
                Ok(false) => remove(&key, record.as_ref()),
                Err(error) => Err(error),
            },
        };
        result = result.and(done);
    }
    context.state.sweep(&records, network);
    result
}

/// Whether an attachment that no list names is kept: when the runtime gave no list, as long as its
/// namespace may be alive. It is asked at the moment of removal, not from a look before it.
fn still_alive<R: AttachmentRecord>(
    context: &Context,
    key: &Key,
    record: Option<&R>,
) -> Result<bool, Error> {
    if context.is_listed(key).is_some() {
        return Ok(false);
    }
    record.map_or(Ok(true), |record| record.may_be_alive(&context.state, key))
}
