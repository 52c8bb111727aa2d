//! DEL and GC: everything that belongs to an attachment goes, found by its owner, whatever is
//! left of it.

use std::time::Duration;

use pontoon_conf::{Error, Verb};
use pontoon_netfilter::{BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::{Linger, RouteSocket};
use pontoon_plugin::{Context, Key, delegate, fault, kernel_error, rules};

use crate::add::{Record, is_ours};
use crate::config::Config;
use crate::{network, plan};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let record: Option<Record> = context.state.records("bridge").read(&key);
    let mut failures = Vec::new();
    // The link first: an address is free only when nobody can use it any more.
    failures.extend(unplug(context, &mut host, &key).err());
    fault::point("bridge.unplugged")?;
    failures.extend(free_lease(context).err());
    fault::point("bridge.released")?;
    if let Some(guard) = record.and_then(|record| record.spoof_guard) {
        failures.extend(unguard(context, guard).err());
    }
    if failures.is_empty() {
        failures.extend(network::release(context).err());
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
        error.details = format!("{}; {other}", error.details);
    }
    Err(error)
}

/// Removes the veth pair: ours by the name that the attachment gives it, one that the reference
/// plugin made by the interface name inside the container.
fn unplug(context: &Context, host: &mut RouteSocket, key: &Key) -> Result<(), Error> {
    if let Some(index) = host_veth(host, key)? {
        return remove_links(host, &[index]);
    }
    let Some(netns) = context.netns_if_alive() else {
        return Ok(());
    };
    let failed = |error| {
        kernel_error(
            &format!("cannot remove {} from the container", key.interface),
            &error,
        )
    };
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    match inside.link_by_name(&key.interface).map_err(failed)? {
        // Whatever is no veth was not made by a bridge plugin.
        Some(link) if link.kind.as_deref() == Some("veth") => {
            // The tag is on the other end, which is on the host.
            let peer = match link.peer {
                Some(index) => host.link_by_index(index).map_err(failed)?,
                None => None,
            };
            if peer.is_some_and(|peer| foreign(&peer, key)) {
                return Ok(());
            }
            inside.delete_link(link.index).map(drop).map_err(failed)
        }
        _ => Ok(()),
    }
}

/// Whether a link carries the tag of another attachment.
fn foreign(link: &pontoon_netlink::Link, key: &Key) -> bool {
    let tag = key.owner().tag();
    link.alias
        .as_deref()
        .is_some_and(|alias| !alias.is_empty() && alias != tag)
}

/// The host's end of the attachment's veth pair, if it is there and ours.
pub(crate) fn host_veth(host: &mut RouteSocket, key: &Key) -> Result<Option<u32>, Error> {
    let name = plan::host_veth_name(key);
    let link = host
        .link_by_name(&name)
        .map_err(|error| kernel_error(&format!("cannot look up {name}"), &error))?;
    // Without alias: the ADD that made it was killed before it could write one.
    Ok(link
        .filter(|link| link.kind.as_deref() == Some("veth") && !foreign(link, key))
        .map(|link| link.index))
}

/// Deletes links and returns when they are gone from view. The kernel makes the deleting system
/// call wait for a grace period long after that (8 to 33 ms); a child waits in our place.
pub(crate) fn remove_links(host: &mut RouteSocket, links: &[u32]) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot remove the veth pair", &error);
    Linger::spawn(Vec::new(), links, Duration::ZERO).map_err(failed)?;
    for index in links {
        host.wait_gone(*index, Duration::from_secs(5))
            .map_err(failed)?;
    }
    Ok(())
}

/// Releases the addresses.
pub(crate) fn free_lease(context: &Context) -> Result<(), Error> {
    // A configuration that went wrong since ADD must not keep the rest from being removed.
    let Ok(config) = Config::from_context(context) else {
        return Ok(());
    };
    match &config.ipam {
        None => Ok(()),
        Some(ipam) if is_ours(ipam) => {
            pontoon_ipam::host_local::del(&context.invocation, &context.config, context.state.dir())
        }
        Some(ipam) => {
            delegate::run(ipam, Verb::Del, &context.invocation, &context.config).map(drop)
        }
    }
}

pub(crate) fn unguard(context: &Context, guard: SpoofGuard) -> Result<(), Error> {
    let mut backend = rules::open(context, BackendKind::Nftables)?;
    let ruleset = Ruleset {
        spoof_guard: Some(guard),
        ..Ruleset::default()
    };
    let done = backend
        .withdraw(&ruleset)
        .map_err(|error| rules::error(&error));
    rules::linger(backend.into_sockets());
    done
}

/// Removes the attachments of the network that are not valid any more. Without a list, only those
/// whose namespace is gone: what may be alive stays.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("bridge");
    let mut host =
        RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", &error))?;
    let mut failures = Vec::new();
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        if context.is_valid(&key, record.as_ref().map(|record| &record.sandbox)) {
            continue;
        }
        let done = host_veth(&mut host, &key)
            .and_then(|link| link.map_or(Ok(()), |index| remove_links(&mut host, &[index])))
            .and_then(|()| match record.and_then(|record| record.spoof_guard) {
                Some(guard) => unguard(context, guard),
                None => Ok(()),
            })
            .and_then(|()| records.remove(&key).map(drop));
        failures.extend(done.err());
    }
    records.remove_drafts(&network);
    failures.extend(collect_leases(context).err());
    if !records.has_network(&network) {
        failures.extend(network::retire(context).err());
        let bridge = Config::from_context(context)?.bridge;
        failures.extend(network::remove_bridge(context, &mut host, bridge.as_ref()).err());
    }
    first(failures)
}

fn collect_leases(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    match &config.ipam {
        None => Ok(()),
        Some(ipam) if is_ours(ipam) => {
            pontoon_ipam::host_local::gc(&context.invocation, &context.config, context.state.dir())
        }
        Some(ipam) => delegate::run(ipam, Verb::Gc, &context.invocation, &context.config).map(drop),
    }
}
