//! Whether addresses live: asked before leases are dropped that look older than the boot. A file's time says
//! so too when the clock was wrong at boot and has been set since.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_netlink::{Error, RouteSocket};

/// An answer to ARP or neighbour discovery comes from the other end's kernel, within a millisecond on a
/// bridge. It is waited for once a boot, and only where the host has an interface in the network.
const PATIENCE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(10);
/// RFC 863: nothing answers there, and what does, does no harm.
const DISCARD: u16 = 9;

/// Those of the addresses that a link of the host leads to and that answer there.
///
/// # Errors
/// The kernel could not be asked.
pub(crate) fn answering(addresses: &[IpAddr]) -> Result<HashSet<IpAddr>, Error> {
    let mut host = RouteSocket::open()?;
    let mut asked: HashMap<IpAddr, u32> = HashMap::new();
    for address in addresses {
        let route = host.route_to(*address)?;
        let on_link = route.filter(|route| route.gateway.is_none());
        // After a boot the bridge is not there yet: no link leads to any of them.
        if let Some(interface) = on_link.and_then(|route| route.interface) {
            asked.insert(*address, interface);
        }
    }
    let mut found = HashSet::new();
    let until = Instant::now() + PATIENCE;
    for address in asked.keys() {
        ask(*address);
    }
    while found.len() < asked.len() {
        let known = host.neighbours()?.into_iter().filter(|neighbour| {
            neighbour.mac.is_some() && asked.get(&neighbour.address) == Some(&neighbour.interface)
        });
        found.extend(known.map(|neighbour| neighbour.address));
        if Instant::now() > until {
            break;
        }
        sleep(PAUSE);
    }
    Ok(found)
}

/// Makes the kernel look for a neighbour: it has to before it can send. A packet that cannot be sent asks
/// nothing, and the address counts as silent.
fn ask(address: IpAddr) {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = UdpSocket::bind((any, 0)).and_then(|socket| socket.send_to(&[], (address, DISCARD)));
    drop(sent);
}
