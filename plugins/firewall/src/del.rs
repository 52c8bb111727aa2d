//! DEL and GC: what belongs to an attachment goes, found by its record; the network's policy goes
//! with its last attachment.

use pontoon_attach::reference;
use pontoon_conf::Error;
use pontoon_ledger::FirewallRecord;
use pontoon_netfilter::reference::ReferencePlugin;
use pontoon_plugin::{Context, gc};

use crate::undo::{remove, retire};
use crate::zones;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    match context.state.read::<FirewallRecord>(&key)? {
        Some(record) => remove(context, &key, &record),
        // Nothing of it is left, or it was never here: the reference plugin may have made it.
        None => {
            zones::leave_unrecorded(context, &key);
            reference::forget(context, ReferencePlugin::Firewall).and(retire(context))
        }
    }
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record| match record {
        Some(record) => remove(context, key, record),
        None => Ok(()),
    });
    result.and(retire(context))
}
