//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::veth;
use pontoon_conf::Error;
use pontoon_ledger::{BandwidthRecord, Key};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, fault, kernel_error};

use crate::plan;

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
    Ok(())
}

/// Takes both buckets' ends off the veth pair. With it they go by themselves, but a DEL of this
/// plugin alone must leave nothing.
fn release(host: &mut RouteSocket, record: &BandwidthRecord) -> Result<(), Error> {
    let (name, index) = &record.port;
    let failed = |error| kernel_error(format!("cannot free the traffic of {name}"), error);
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
            .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?;
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
