//! DEL and GC: the ifb device goes, and what is on the veth pair if that is still there.

use pontoon_conf::Error;
use pontoon_ledger::BandwidthRecord;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Key, fault, gc, kernel_error, veth};

use crate::add;
use crate::plan;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<BandwidthRecord> = context.state.read(&key)?;
    give_back(context, &mut add::open()?, &key, record.as_ref())
}

pub(crate) fn give_back(
    context: &Context,
    host: &mut RouteSocket,
    key: &Key,
    record: Option<&BandwidthRecord>,
) -> Result<(), Error> {
    if let Some(record) = record {
        release(host, record)?;
    }
    fault::point("bandwidth.released")?;
    remove_ifbs(host, key)?;
    fault::point("bandwidth.removed")?;
    context.state.records_of::<BandwidthRecord>().remove(key)?;
    context.state.prune();
    Ok(())
}

/// Takes both buckets' ends off the veth pair. With it they go by themselves, but a DEL of this
/// plugin alone must leave nothing.
fn release(host: &mut RouteSocket, record: &BandwidthRecord) -> Result<(), Error> {
    let (name, index) = &record.port;
    let failed = |error| kernel_error(&format!("cannot free the traffic of {name}"), &error);
    let there = host.link_by_index(*index).map_err(failed)?;
    if there.is_none_or(|link| link.name != *name) {
        return Ok(());
    }
    host.remove_ingress(*index).map_err(failed)?;
    host.remove_token_bucket(*index).map_err(failed)?;
    Ok(())
}

/// Removes the ifb devices of the attachment: those that carry its tag, and the one that the
/// reference plugin made, which carries none.
fn remove_ifbs(host: &mut RouteSocket, key: &Key) -> Result<(), Error> {
    let tag = key.owner().tag();
    let mut indices = Vec::new();
    for name in plan::ifb_names(key) {
        let link = host
            .link_by_name(&name)
            .map_err(|error| kernel_error(&format!("cannot look up {name}"), &error))?;
        indices.extend(link.and_then(|link| {
            let alias = link.alias.as_deref().unwrap_or_default();
            let ours = alias.is_empty() || alias == tag;
            (link.kind.as_deref() == Some("ifb") && ours).then_some(link.index)
        }));
    }
    if indices.is_empty() {
        return Ok(());
    }
    veth::remove(host, &indices)
}

/// Frees what belongs to attachments of the network that are not valid any more. Without a list,
/// only to those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let mut host = add::open()?;
    gc::collect(context, |key, record| {
        give_back(context, &mut host, key, record)
    })
}
