//! DEL and GC: everything that belongs to an attachment goes, found by its owner, whatever is
//! left of it.

use pontoon_attach::{masquerade, reference, sockets, veth};
use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::BridgeBased;
use pontoon_netfilter::reference::ReferencePlugin;
use pontoon_plugin::{Context, fault, gc};

use crate::config::Config;
use crate::network;
use crate::undo::withdraw;

pub(crate) fn del<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let mut host = sockets::of_host()?;
    let record: Option<R> = context.state.read(&key)?;
    let record = record.as_ref().map(BridgeBased::bridge);
    let mut failures = Vec::new();
    // The link first: an address is free only when no container can use it any more.
    failures.extend(veth::unplug(context, &mut host, &key).err());
    fault::point("bridge.unplugged")?;
    failures.extend(delegation::release(context).err());
    fault::point("bridge.released")?;
    if record.is_none() {
        // The reference plugin may have made it.
        failures.extend(reference::forget(context, ReferencePlugin::BridgeOrPtp).err());
    }
    let withdraw = || withdraw(context, &key, record);
    if failures.is_empty() {
        failures.extend(masquerade::release(context, R::PLUGIN, withdraw).err());
    } else {
        // The record stays for the next DEL.
        failures.extend(withdraw().err());
    }
    fault::point("bridge.retired")?;
    first(failures)
}

/// The first error; the others go into its details.
fn first(failures: Vec<Error>) -> Result<(), Error> {
    let mut failures = failures.into_iter();
    let Some(mut error) = failures.next() else {
        return Ok(());
    };
    for other in failures {
        error = error.with_more(other);
    }
    Err(error)
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone: what may be alive stays.
pub(crate) fn gc<R: BridgeBased>(context: &Context) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    let records = context.state.records_of::<R>();
    let mut host = sockets::of_host()?;
    let mut failures = Vec::new();
    let collected = gc::collect(context, |key, record: Option<&R>| {
        let record = record.map(BridgeBased::bridge);
        if let Some(index) = veth::find(&mut host, key)? {
            veth::remove(&mut host, &[index])?;
        }
        let withdraw = || withdraw(context, key, record);
        let state = &context.state;
        state.remove_attachment(R::PLUGIN, key, withdraw).map(drop)
    });
    failures.extend(collected.err());
    if let Some(leases) = delegation::leases(context)? {
        failures.extend(reference::collect(context, &leases).err());
    }
    failures.extend(collect_leases(context).err());
    if !records.has_network(network) {
        failures.extend(masquerade::retire(context, R::PLUGIN).err());
        let bridge = Config::from_context(context)?.bridge;
        failures.extend(network::remove_bridge::<R>(context, &mut host, bridge.as_ref()).err());
    }
    first(failures)
}

fn collect_leases(context: &Context) -> Result<(), Error> {
    match Config::from_context(context)?.ipam {
        None => Ok(()),
        Some(ipam) => delegation::gc(context, &ipam),
    }
}
