//! What is said of host addresses that no packet, or no container, has.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

use pontoon_conf::AddResult;
use pontoon_ledger::Key;
use pontoon_netfilter::{Port, Published};
use pontoon_plugin::warn;

use crate::error::PlanError;

/// Ports that one warning names.
const NAMED: usize = 3;

/// Addresses that the kernel is asked for: a host has few, and each costs three system calls.
const ASKED: usize = 64;

/// One line on standard error for the ports of a request that nothing can come in by.
///
/// # Errors
/// Code 7 when none of the ports is published because the container lacks their family.
pub(crate) fn of_host_addresses(
    key: &Key,
    ports: &[Port],
    previous: &AddResult,
    published: Option<&Published>,
) -> Result<(), PlanError> {
    let Some(first) = ports.first() else {
        return Ok(());
    };
    let container = &key.container;
    let has = |v4: bool| {
        let mut ips = previous.ips_of(&key.interface);
        ips.any(|ip| ip.address.is_ipv4() == v4)
    };
    let (v4, v6) = (has(true), has(false));
    if !v4 && !v6 {
        warn(format_args!(
            "portmap: warning: network {} gives container {container} no address: host port {} is \
             not published through it",
            key.network,
            name(first)
        ));
        return Ok(());
    }
    let lacks = |ip: IpAddr| !if ip.is_ipv4() { v4 } else { v6 };
    let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut known: Option<(IpAddr, Option<&'static str>)> = None;
    let mut words = Vec::new();
    let mut asked_for = 0;
    for port in ports {
        let Some(ip) = port.host_ip else { continue };
        if lacks(ip) {
            words.push(format!(
                "host port {} is not published: the container has no {} address",
                name(port),
                family(ip)
            ));
            continue;
        }
        // Ports of a range stand together, and ask once.
        let trouble = match known {
            Some((asked, trouble)) if asked == ip => trouble,
            _ if asked_for == ASKED => None,
            _ => {
                asked_for += 1;
                unreachable_at(ip)
            }
        };
        known = Some((ip, trouble));
        if let Some(trouble) = trouble {
            words.push(format!(
                "host port {} cannot be reached: {trouble}",
                name(port)
            ));
        }
    }
    let more = match words.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} ports more"),
    };
    let none = words.is_empty();
    words.truncate(NAMED);
    let words = words.join("; ") + &more;
    if published.is_none() {
        return Err(PlanError::NoFamily {
            container: container.clone(),
            ports: words,
        });
    }
    if !none {
        warn(format_args!(
            "portmap: warning: container {container}: {words}"
        ));
    }
    Ok(())
}

fn name(port: &Port) -> String {
    let at = port
        .host_ip
        .map(|ip| format!(" at {ip}"))
        .unwrap_or_default();
    format!("{}/{}{at}", port.host_port, port.protocol)
}

/// Why no packet to this address comes to a published port.
fn unreachable_at(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => None,
        _ if ip.is_multicast() => Some("that is a multicast address"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("that is a broadcast address"),
        IpAddr::V6(ip) if ip.is_loopback() => {
            Some("IPv6 has no route_localnet, use 127.0.0.1 or another address of the host")
        }
        // A socket can be bound to an address of the host only (ip(7)); nothing is sent.
        _ => match UdpSocket::bind((ip, 0)) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                Some("no interface of the host has that address now")
            }
            _ => None,
        },
    }
}
