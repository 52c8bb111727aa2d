//! ADD: ports are reserved, then the rules made, then flows cut that know better.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use pontoon_attach::{backends, bridge_port, ports, rules, sockets};
use pontoon_conf::{AddResult, Error};
use pontoon_ledger::{Key, Lock, PortmapRecord, WaitingAddresses, published};
use pontoon_netfilter::Published;
use pontoon_netlink::conntrack::{Conntrack, Port, Sweep};
use pontoon_netlink::{RouteSocket, sysctl};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::Config;
use crate::error::{LoopbackError, Parameter};
use crate::share::{self, clear, make, ruleset};
use crate::undo::{self, Step, revert};
use crate::{plan, warn};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let previous = context.config.prev_result.as_ref();
    let published = plan::published(&key, &config, previous)?;
    let previous = previous.cloned().unwrap_or_default();
    warn::of_host_addresses(&key, &config.ports, &previous, published.as_ref())?;
    let Some(mut published) = published else {
        return Ok(previous);
    };
    share::reachable(context, &mut published, &previous)?;
    if !published.has_address() {
        return Ok(previous);
    }
    let backend = backends::follow(context, config.asked())?;
    rules::validate(backend, &ruleset(&published))?;
    let record = PortmapRecord {
        backend,
        sandbox: context.sandbox(),
        published,
        waits: WaitingAddresses::default(),
        waiters: Vec::new(),
    };
    let mut steps = Undo::default();
    match publish(context, &key, &record, &previous, &mut steps) {
        Ok(()) => {
            steps.commit();
            Ok(previous)
        }
        Err(error) => Err(steps.unwind(error, |step| revert(context, &key, step))),
    }
}

fn publish(
    context: &Context,
    key: &Key,
    record: &PortmapRecord,
    previous: &AddResult,
    undo: &mut Undo<Step>,
) -> Result<(), Error> {
    if let Some(stale) = context.state.read::<PortmapRecord>(key)? {
        // An earlier ADD of this very attachment was killed, and its DEL never came.
        undo::remove(context, key, &stale)?;
    }
    let mut host = sockets::of_host()?;
    let mut record = record.clone();
    let sockets = {
        // No process removes what all networks share while this network comes to need it.
        let _host = context
            .state
            .lock(&context.state.host_lock(), Lock::shared)?;
        let _ports = context
            .state
            .lock(&context.state.ports_lock(), Lock::exclusive)?;
        let holders = clear(context, key, &mut record)?;
        ports::see_beside(&mut record.published, context.netns()?)?;
        // The record before all that it tells DEL of.
        undo.push(Step::Record(Box::new(record.clone())));
        backends::claim(context, "portmap", Some(record.backend))?;
        published::write(&context.state, key, &record)?;
        fault::point("portmap.recorded")?;
        share::queue(context, key, &holders)?;
        if record.published.has_address() {
            make(context, &record)?
        } else {
            Vec::new()
        }
    };
    fault::point("portmap.published")?;
    if record.published.snat {
        open_loopback(&mut host, previous, &record.full(), undo)?;
    }
    fault::point("portmap.hairpin")?;
    cut_stale_flows(context, &record.published, sockets);
    Ok(())
}

/// Lets the host's own 127.0.0.1 and the container itself reach the port: the bridge may route
/// loopback addresses (from the host only, the rules see to that), and its port may send a frame
/// back to where it came from, which is the container's way to itself when bridged packets pass
/// netfilter.
fn open_loopback(
    host: &mut RouteSocket,
    previous: &AddResult,
    published: &Published,
    undo: &mut Undo<Step>,
) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot look up the container's link on the host", error);
    let port = bridge_port::of(host, previous)?;
    let gateway = match (&port, &published.v4) {
        (Some(link), _) => link.master,
        (None, Some(v4)) => host
            .route_to(v4.ip())
            .map_err(failed)?
            .and_then(|route| route.interface),
        (None, None) => None,
    };
    let Some(gateway) = gateway else {
        return Ok(());
    };
    let Some(gateway) = host.link_by_index(gateway).map_err(failed)? else {
        return Ok(());
    };
    if published.v4.is_some() && !gateway.route_localnet {
        let path = format!("net/ipv4/conf/{}/route_localnet", gateway.name);
        let changed = sysctl::write_if_different(&path, "1").map_err(|source| {
            let path = path.clone();
            LoopbackError::Closed {
                bridge: gateway.name.clone(),
                source: Parameter { path, source },
            }
        })?;
        if changed {
            undo.push(Step::RouteLocalnet(path));
        }
    }
    if let Some(link) = port
        && !gateway.promisc
        && bridge_port::reflect(host, &link)?
    {
        undo.push(Step::Hairpin(link.index));
    }
    Ok(())
}

/// Flows that began before the port was published go on to where they went then; a client that
/// keeps sending would never reach the container. No caller has to wait while they are cut: the
/// container does not run before we return. So the child that closes the sockets does it.
fn cut_stale_flows(context: &Context, published: &Published, sockets: Vec<OwnedFd>) {
    let families = [published.v4, published.v6].into_iter().flatten();
    let flows: Vec<(Vec<Port>, IpAddr)> = families
        .map(|address| {
            let ports = published
                .ports
                .iter()
                .filter(|port| {
                    port.host_ip
                        .is_none_or(|ip| ip.is_ipv4() == address.is_ipv4())
                })
                .map(|port| {
                    let at = port.host_ip.filter(|ip| !ip.is_unspecified());
                    (port.protocol.number(), port.host_port, at)
                })
                .collect();
            (ports, address.ip())
        })
        .collect();
    // Without connection tracking, or without a flow, there is nothing to cut.
    let Ok(mut conntrack) = Conntrack::open() else {
        return rules::close(context, sockets);
    };
    if matches!(conntrack.count(), Ok(0)) {
        let mut sockets = sockets;
        sockets.push(conntrack.into_fd());
        return rules::close(context, sockets);
    }
    if let [(ports, address)] = &flows[..]
        && let Ok(Some(orders)) = conntrack.stale_deletions(ports, address.is_ipv4())
    {
        return rules::linger_sending(sockets, conntrack.into_fd(), orders);
    }
    if let Ok(sweep) = Sweep::new(conntrack, &flows) {
        rules::linger_sweeping(sockets, sweep);
    }
}
