//! DEL and GC: the device goes back under its old name, and the lease in any case: whether there is
//! still a namespace says nothing about the address.

use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::HostDeviceRecord;
use pontoon_plugin::{Context, fault, gc};

use crate::undo::{give_back, give_back_from};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<HostDeviceRecord> = context.state.read(&key)?;
    let returned = give_back(context, &key, record.as_ref());
    fault::point("host-device.returned")?;
    returned.and(delegation::release(context))
}

/// Takes back the devices of attachments that are not valid any more. Without a list, only of those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record: Option<&HostDeviceRecord>| {
        let netns = match record {
            Some(record) => record.sandbox.open()?,
            None => None,
        };
        give_back_from(netns.as_ref(), key, record)?;
        let records = context.state.records_of::<HostDeviceRecord>();
        records.remove(key).map(drop)
    });
    match delegation::configured(&context.config)? {
        Some(ipam) => result.and(delegation::gc(context, &ipam)),
        None => result,
    }
}
