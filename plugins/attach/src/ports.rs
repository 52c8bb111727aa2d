//! The published ports of a container that is on several networks.
//!
//! A port leads to one address of the container. A client of another network that the container is
//! on gets its answers from there, past the host, where no translation is undone. So connections
//! from such networks are masqueraded, and only from those: which they are changes whenever the
//! container gets or loses an interface. `portmap` looks at the container when it makes the rules;
//! the plugins that make interfaces, and those that change its routes, call `follow` afterwards.

use std::net::IpAddr;

use pontoon_conf::Error;
use pontoon_ledger::{Key, Lock, PortmapRecord, published};
use pontoon_netfilter::{Protocol, Published, Ruleset};
use pontoon_netlink::conntrack::{Conntrack, Filter};
use pontoon_netlink::{Address, IpNetwork, Netns, RouteSocket};
use pontoon_plugin::{Context, kernel_error, warn};

use crate::rules;

/// More networks than that beside one are no container's business: the nearest are taken.
const MOST: usize = 64;
/// `RT_SCOPE_HOST`.
const HOST_SCOPE: u8 = 254;

/// Notes the networks whose clients the container would answer by another interface than the one
/// with the published address.
///
/// # Errors
/// Code 100 when the kernel does not tell.
pub fn see_beside(published: &mut Published, netns: &Netns) -> Result<(), Error> {
    published.beside.clear();
    if !published.snat || published.masquerade_all {
        return Ok(());
    }
    let failed = |error| kernel_error("cannot look at the container's other networks", error);
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    for own in [published.v4, published.v6].into_iter().flatten() {
        let addresses = inside.all_addresses(own.is_ipv4()).map_err(failed)?;
        let by = addresses
            .iter()
            .find(|address| address.cidr.ip() == own.ip())
            .map(|address| address.index);
        for address in addresses.iter().filter(|address| is_beside(address, own)) {
            // A client there, as the container would answer it.
            let client = client(address.cidr);
            let out = match client {
                Some(client) => inside.route_to(client).map_err(failed)?,
                None => None,
            };
            let elsewhere = out.is_some_and(|out| out.interface.is_some() && out.interface != by);
            // Else its own address: the container may use it to reach itself by the host's.
            let prefix = match elsewhere {
                true => address.cidr.prefix(),
                false if own.is_ipv4() => 32,
                false => 128,
            };
            let subnet = IpNetwork::new(address.cidr.ip(), prefix)
                .and_then(|net| IpNetwork::new(net.network(), prefix));
            published.beside.extend(subnet.ok());
        }
    }
    let beside = &mut published.beside;
    beside.sort_unstable_by_key(|net| (net.is_ipv6(), net.prefix(), net.network()));
    let mut widest: Vec<IpNetwork> = Vec::with_capacity(beside.len());
    for net in beside.iter() {
        if !widest.iter().any(|wide| wide.contains(net.ip())) {
            widest.push(*net);
        }
    }
    widest.truncate(MOST);
    *beside = widest;
    Ok(())
}

/// Whether an address is in another network than the published one, and one that clients can have.
fn is_beside(address: &Address, own: IpNetwork) -> bool {
    let ip = address.cidr.ip();
    let usual = match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    usual && address.scope != HOST_SCOPE && address.cidr.prefix() > 0 && !own.contains(ip)
}

/// An address of a network that is not the container's own; none in a network of one.
fn client(own: IpNetwork) -> Option<IpAddr> {
    let next = |ip: IpAddr, step: u8| match ip {
        IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).wrapping_add(step.into()).into()),
        IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).wrapping_add(step.into()).into()),
    };
    // The first address names the network, but in one of two.
    let first = u8::from(own.prefix() < if own.is_ipv4() { 31 } else { 127 });
    let candidates = [first, first + 1].map(|step| next(own.network(), step));
    candidates
        .into_iter()
        .find(|ip| *ip != own.ip() && own.contains(*ip))
}

/// After an attachment of a container has changed: its ports that other attachments publish are
/// masqueraded for the networks that it is on now. What cannot be done is said.
pub fn follow(context: &Context, plugin: &str) {
    let Ok(key) = context.key() else { return };
    let others = published::of(&context.state, &key.container);
    if let Err(error) = &others {
        warn(format_args!(
            "{plugin}: ports of container {} may not answer clients of network {}: {error}; try: pontoon repair {}",
            key.container, key.network, key.network
        ));
    }
    for other in others.unwrap_or_default() {
        if other == key {
            continue;
        }
        if let Err(error) = settle(context, &other) {
            warn(format_args!(
                "{plugin}: ports of container {} that network {} publishes may not answer clients of \
                 network {}: {error}; try: pontoon repair {}",
                other.container, other.network, key.network, other.network
            ));
        }
    }
}

fn settle(context: &Context, key: &Key) -> Result<(), Error> {
    let state = &context.state;
    let _ports = state.lock(&state.ports_lock(), Lock::exclusive)?;
    let Some(mut record) = state.read::<PortmapRecord>(key)? else {
        return Ok(());
    };
    let before = record.published.beside.clone();
    match record.sandbox.open()? {
        Some(netns) if record.published.has_address() => {
            see_beside(&mut record.published, &netns)?;
        }
        _ => return Ok(()),
    }
    if record.published.beside == before {
        return Ok(());
    }
    published::write(state, key, &record)?;
    let published = &record.published;
    let mut backend = rules::open(context, record.backend)?;
    let ruleset = Ruleset {
        published: Some(published.clone()),
        ..Ruleset::default()
    };
    let done = backend.apply(&ruleset).map_err(rules::error);
    rules::deleted(context);
    let sockets = backend.into_sockets();
    let new: Vec<IpNetwork> = published
        .beside
        .iter()
        .copied()
        .filter(|net| !before.contains(net))
        .collect();
    if new.is_empty() {
        rules::close_in_detached_child(sockets);
    } else {
        rules::linger_after(sockets, || {
            let _ = cut(published, &new);
        });
    }
    done.map(drop)
}

/// Cuts the flows of clients in these networks: they began when the container answered them through
/// the host, and would go on unmasqueraded.
fn cut(published: &Published, clients: &[IpNetwork]) -> Result<(), pontoon_netlink::Error> {
    let mut conntrack = Conntrack::open()?;
    if conntrack.count()? == 0 {
        return Ok(());
    }
    for address in [published.v4, published.v6].into_iter().flatten() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let own = published.ports.iter();
            let ports: Vec<u16> = own
                .filter(|port| port.protocol == protocol)
                .map(|port| port.host_port)
                .collect();
            if ports.is_empty() {
                continue;
            }
            let flows = conntrack.flows_to(address.is_ipv4(), protocol.number(), &ports)?;
            let ours = flows.iter().filter(|flow| {
                flow.answered_by == address.ip()
                    && clients.iter().any(|net| net.contains(flow.source))
            });
            for flow in ours {
                conntrack.cut(&Filter {
                    v4: address.is_ipv4(),
                    protocol: Some(protocol.number()),
                    original_port: Some(flow.port),
                    original_source: Some(flow.source),
                    reply_source: Some(flow.answered_by),
                    ..Filter::default()
                })?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_a_network_is_not_the_container_itself() {
        let is = |own: &str, expected: Option<&str>| {
            let found = client(own.parse().unwrap());
            assert_eq!(found, expected.map(|ip| ip.parse().unwrap()), "{own}");
        };
        is("10.1.0.2/24", Some("10.1.0.1"));
        is("10.1.0.1/24", Some("10.1.0.2"));
        is("10.1.0.0/31", Some("10.1.0.1"));
        is("10.1.0.1/31", Some("10.1.0.0"));
        is("10.1.0.1/32", None);
        is("255.255.255.255/32", None);
        is("fd00::2/64", Some("fd00::1"));
        is("fd00::1/128", None);
    }
}
