//! DEL and GC: the ifb device goes, and what is on the veth pair if that is still there.

use pontoon_attach::sockets;
use pontoon_conf::Error;
use pontoon_ledger::BandwidthRecord;
use pontoon_plugin::{Context, gc};

use crate::undo::give_back;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<BandwidthRecord> = context.state.read(&key)?;
    give_back(context, &mut sockets::of_host()?, &key, record.as_ref())
}

/// Frees what belongs to attachments of the network that are not valid any more. Without a list,
/// only to those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let mut host = sockets::of_host()?;
    gc::collect(context, |key, record| {
        give_back(context, &mut host, key, record)
    })
}
