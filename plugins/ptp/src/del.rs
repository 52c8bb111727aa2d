//! DEL and GC: the pair goes, and with it addresses and routes of both ends; then the lease; the
//! network's rules with its last container.

use pontoon_attach::{masquerade, reference, sockets, veth};
use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::PtpRecord;
use pontoon_netfilter::reference::ReferencePlugin;
use pontoon_plugin::{Context, fault, gc};

use crate::undo::delete_reference_chains;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<PtpRecord> = context.state.read(&key)?;
    // The link first: an address is free only when no container can use it any more.
    let unplugged = veth::unplug(context, &mut sockets::of_host()?, &key);
    fault::point("ptp.unplugged")?;
    let released = delegation::release(context);
    fault::point("ptp.released")?;
    unplugged.and(released)?;
    if record.is_none() {
        // The reference plugin may have made it.
        reference::forget(context, ReferencePlugin::BridgeOrPtp)?;
    }
    masquerade::release(context, "ptp", || {
        delete_reference_chains(context, &key, record.as_ref())
    })
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let records = context.state.records_of::<PtpRecord>();
    let mut host = sockets::of_host()?;
    let mut result = gc::collect(context, |key, record: Option<&PtpRecord>| {
        if let Some(index) = veth::find(&mut host, key)? {
            veth::remove(&mut host, &[index])?;
        }
        let withdraw = || delete_reference_chains(context, key, record);
        let state = &context.state;
        state.remove_attachment("ptp", key, withdraw).map(drop)
    });
    if let Some(leases) = delegation::leases(context)? {
        result = result.and(reference::collect(context, &leases));
    }
    if let Some(ipam) = delegation::configured(&context.config)? {
        result = result.and(delegation::gc(context, &ipam));
    }
    if !records.has_network(context.config.name.as_ref()) {
        result = result.and(masquerade::retire(context, "ptp"));
    }
    result
}
