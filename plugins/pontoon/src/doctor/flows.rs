//! Flows that connection tracking has pinned to a container that is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nix::errno::Errno;
use pontoon_netlink::{Conntrack, Error, Filter, RouteSocket, TrackedFlow};

use super::{CheckInput, Finding};
use crate::facts::{Attachment, Port};
use crate::report::Failure;

/// The protocols that ports are published of, by name and number.
const PROTOCOLS: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];

/// Flows to a published port that another address answers than its container's.
pub(crate) struct Stale {
    container: String,
    network: String,
    protocol: (&'static str, u8),
    flow: TrackedFlow,
}

pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let found = find(&mut ground.host.socket, &ground.attachments)?;
    findings.extend(found.iter().map(|stale| {
        let TrackedFlow {
            source,
            destination,
            port,
            answered_by,
        } = stale.flow;
        Finding::new("flow-stale", format!("{port}/{}", stale.protocol.0))
            .means(format!(
                "what {source} sends to the port goes to {answered_by} and not to container {}, until it has been silent for long enough",
                stale.container
            ))
            .seen(format!(
                "connection tracking has a flow from {source} to {destination}, answered by {answered_by}"
            ))
            .mend(format!("pontoon repair {}", stale.network))
            .of_container(&stale.container)
            .safe()
    }));
    Ok(())
}

/// Cuts those to the ports of a network; how many kinds there were.
pub(crate) fn cut(
    socket: &mut RouteSocket,
    attachments: &[Attachment],
    network: &str,
) -> Result<usize, Failure> {
    let mut found = find(socket, attachments)?;
    found.retain(|stale| stale.network == network);
    if found.is_empty() {
        return Ok(0);
    }
    let mut conntrack = Conntrack::open()?;
    for stale in &found {
        conntrack.cut(&Filter {
            v4: stale.flow.source.is_ipv4(),
            protocol: Some(stale.protocol.1),
            original_port: Some(stale.flow.port),
            reply_source: Some(stale.flow.answered_by),
            ..Filter::default()
        })?;
    }
    Ok(found.len())
}

fn find(socket: &mut RouteSocket, attachments: &[Attachment]) -> Result<Vec<Stale>, Failure> {
    let mut found = Vec::new();
    for protocol in PROTOCOLS {
        let published: Vec<(&Attachment, &Port)> = attachments
            .iter()
            .filter(|one| one.alive)
            .flat_map(|one| one.ports.iter().map(move |port| (one, port)))
            .filter(|(_, port)| port.protocol == protocol.0)
            .collect();
        if published.is_empty() {
            continue;
        }
        let ports: Vec<u16> = published.iter().map(|(_, port)| port.host_port).collect();
        for v4 in [true, false] {
            let own: Vec<IpAddr> = socket
                .all_addresses(v4)?
                .iter()
                .map(|one| one.cidr.ip())
                .collect();
            let flows = flows_to(v4, protocol.1, &ports)?;
            for (one, port) in &published {
                let found_here = of_port(one, port, &own, &flows);
                found.extend(found_here.into_iter().map(|flow| Stale {
                    container: one.id.clone(),
                    network: one.network.clone(),
                    protocol,
                    flow,
                }));
            }
        }
    }
    Ok(found)
}

/// The flows to these ports; none where the kernel has no connection tracking.
fn flows_to(v4: bool, protocol: u8, ports: &[u16]) -> Result<Vec<TrackedFlow>, Error> {
    const ABSENT: [Errno; 3] = [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT];
    let flows = Conntrack::open().and_then(|mut table| table.flows_to(v4, protocol, ports));
    match flows {
        Err(error) if error.errno().is_some_and(|errno| ABSENT.contains(&errno)) => Ok(Vec::new()),
        flows => flows,
    }
}

/// One flow for each who answers in the container's place.
fn of_port(
    one: &Attachment,
    port: &Port,
    own: &[IpAddr],
    flows: &[TrackedFlow],
) -> Vec<TrackedFlow> {
    let addresses: Vec<IpAddr> = one.ips().collect();
    let mut told = BTreeSet::new();
    let stale = flows.iter().filter(|flow| {
        let to_port = match port.host_ip {
            Some(ip) => flow.destination == ip,
            None => own.contains(&flow.destination),
        };
        // Of a family that it does not have the port is not published.
        let family = addresses
            .iter()
            .any(|ip| ip.is_ipv4() == flow.source.is_ipv4());
        flow.port == port.host_port
            && to_port
            && family
            && !addresses.contains(&flow.answered_by)
            && told.insert(flow.answered_by)
    });
    stale.copied().collect()
}
