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
    for key in records.attachments(network) {
        if context.is_listed(&key) == Some(true) {
            continue;
        }
        let done = match context.state.read::<R>(&key) {
            Err(error) => Err(error.into()),
            Ok(record) => {
                let alive = record.as_ref().is_none_or(R::may_be_alive);
                if context.is_listed(&key).is_none() && alive {
                    continue;
                }
                remove(&key, record.as_ref())
            }
        };
        result = result.and(done);
    }
    context.state.sweep(&records, network);
    result
}
