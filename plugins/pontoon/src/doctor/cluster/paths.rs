//! Whether packets get to the other hosts: through the tunnel and beneath it, large ones, and TCP's.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use pontoon_ledger::overlay::{self, OverlayMode, OverlayPeer};
use pontoon_overlay::tunnel::Wanted;

use super::packets::{Answer, CLOSED_PORT, Probe, Question, Wire};
use super::{CheckInput, Finding};
use crate::report::Failure;

/// Bytes of an echo that passes everywhere.
const SMALL: usize = 64;
/// Sizes that are tried when the largest packets are lost, in bytes.
const SIZES: [usize; 8] = [1400, 1350, 1300, 1200, 1000, 800, 576, 296];
/// For how long the kernel may try to connect: it asks again after 1 s.
const CONNECTION: Duration = Duration::from_millis(2500);
/// Clocks that differ by more are told, in milliseconds.
const APART_MS: i64 = 10_000;
/// Hosts that are tried to connect to at the same time.
const AT_ONCE: usize = 32;

/// Another host, and the way to it.
#[derive(Debug)]
struct Way {
    network: String,
    host: String,
    port: u16,
    /// This host's and its address beneath the tunnel, where both have IPv4.
    beneath: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The addresses of both in the tunnel.
    within: (Ipv4Addr, Ipv4Addr),
    /// The largest packet that containers send, in bytes.
    largest: usize,
    /// The interface by which packets leave, and whether they do in UDP.
    interface: String,
    by_tunnel: bool,
}

pub(super) fn check(
    ground: &mut CheckInput,
    networks: &[Wanted],
    dead: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let mut ways = Vec::new();
    for wanted in networks {
        for peer in &wanted.peers.peers {
            if !dead.contains(&peer.host) {
                ways.extend(way(ground, wanted, peer)?);
            }
        }
    }
    if ways.is_empty() {
        return Ok(());
    }
    let wire = match Wire::open() {
        Ok(wire) => wire,
        Err(error) => {
            eprintln!("pontoon: whether packets get to other hosts is not looked at: {error}");
            return Ok(());
        }
    };
    clocks(&wire, &ways, findings);
    for (way, seen) in ways.iter().zip(look(&wire, &ways)) {
        findings.extend(seen.judge(way, &wire));
    }
    Ok(())
}

/// The way to a host; `None` where the tunnel's addresses are not there, which the tables tell.
fn way(
    ground: &mut CheckInput,
    wanted: &Wanted,
    peer: &OverlayPeer,
) -> Result<Option<Way>, Failure> {
    let network = &wanted.network;
    let first = |mut blocks: Box<dyn Iterator<Item = IpAddr> + '_>| match blocks.next() {
        Some(IpAddr::V4(first)) => Some(first),
        _ => None,
    };
    let own = first(Box::new(
        network.blocks_of(true).map(|block| block.network().addr()),
    ));
    let theirs = peer.blocks.iter().filter(|block| block.is_ipv4());
    let theirs = first(Box::new(theirs.map(|block| block.network().addr())));
    let (Some(own), Some(theirs), false) = (own, theirs, network.mode == OverlayMode::Direct)
    else {
        return Ok(None);
    };
    let device = overlay::device(&network.network);
    let Some(device) = ground.host.socket.link_by_name(&device)? else {
        return Ok(None);
    };
    let addresses = ground.host.socket.addresses(device.index)?;
    if !addresses.iter().any(|it| it.cidr.ip() == IpAddr::V4(own)) {
        return Ok(None);
    }
    let route = ground.host.socket.route_to(IpAddr::V4(theirs))?;
    let Some(interface) = route.and_then(|route| route.interface) else {
        return Ok(None);
    };
    let by_tunnel = interface == device.index;
    let interface = match ground.host.link(interface) {
        Some(link) => link.name.clone(),
        None => device.name.clone(),
    };
    let containers = ground
        .attachments
        .iter()
        .filter(|one| one.network == network.network);
    let sizes = containers.filter_map(|one| Some(ground.insides.get(&one.key())?.mtu));
    let largest = sizes.max().filter(|mtu| *mtu > 0).unwrap_or(device.mtu);
    Ok(Some(Way {
        network: network.network.clone(),
        host: peer.host.clone(),
        port: network.port,
        beneath: network.underlay.v4.zip(peer.underlay.v4),
        within: (own, theirs),
        largest: largest as usize,
        interface,
        by_tunnel,
    }))
}

/// What was seen of a way.
struct Seen {
    /// `None` where nothing was asked.
    beneath: Option<bool>,
    small: bool,
    large: bool,
    /// A connection whose checksum was written in software, and one of the kernel's.
    connection: bool,
    connects: bool,
}

fn probe((from, to): (Ipv4Addr, Ipv4Addr), question: Question) -> Probe {
    Probe { from, to, question }
}

fn look(wire: &Wire, ways: &[Way]) -> Vec<Seen> {
    let questions = |way: &Way| {
        [
            probe(way.within, Question::Echo(SMALL)),
            probe(way.within, Question::Echo(way.largest)),
            probe(way.within, Question::Connection),
            probe(way.beneath.unwrap_or(way.within), Question::Echo(SMALL)),
        ]
    };
    let probes: Vec<Probe> = ways.iter().flat_map(questions).collect();
    let answers = wire.ask(&probes);
    let mut seen: Vec<Seen> = ways
        .iter()
        .zip(answers.chunks(4))
        .map(|(way, answers)| Seen {
            beneath: way.beneath.map(|_| answers[3].is_some()),
            small: answers[0].is_some(),
            large: answers[1].is_some(),
            connection: answers[2].is_some(),
            connects: true,
        })
        .collect();
    let pairs: Vec<(&Way, &mut Seen)> = ways
        .iter()
        .zip(&mut seen)
        .filter(|(_, seen)| seen.connection)
        .collect();
    let mut pairs = pairs.into_iter().peekable();
    while pairs.peek().is_some() {
        thread::scope(|scope| {
            for (way, seen) in pairs.by_ref().take(AT_ONCE) {
                scope.spawn(move || seen.connects = connects(way.within.1));
            }
        });
    }
    seen
}

/// Whether the kernel's own connection is answered, by a refusal as well.
fn connects(to: Ipv4Addr) -> bool {
    let to = SocketAddr::from((to, CLOSED_PORT));
    match TcpStream::connect_timeout(&to, CONNECTION) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock),
    }
}

impl Seen {
    fn judge(&self, way: &Way, wire: &Wire) -> Option<Finding> {
        let Way {
            network,
            host,
            port,
            ..
        } = way;
        let object = format!("host {host} on network {network}");
        let to = way.within.1;
        if !self.small && !self.connection {
            return Some(match self.beneath {
                Some(true) => self.blocked(way, object),
                _ => Finding::new("host-unreachable", object)
                    .means("containers of the two hosts do not reach each other")
                    .seen(match way.beneath {
                        Some((_, beneath)) => format!("no answer from {beneath} beneath the tunnel, and none from {to} in it"),
                        None => format!("no answer from {to} in the tunnel"),
                    })
                    .advice(format!(
                        "see whether the host is on and its uplink is connected, and whether this host reaches it: ping {}",
                        way.beneath.map_or(to, |(_, beneath)| beneath)
                    )),
            });
        }
        if self.small && !self.large {
            let sizes: Vec<usize> = SIZES
                .into_iter()
                .filter(|size| *size < way.largest)
                .collect();
            let probes: Vec<Probe> = sizes
                .iter()
                .map(|size| probe(way.within, Question::Echo(*size)))
                .collect();
            let answers = wire.ask(&probes);
            let passes = sizes
                .iter()
                .zip(answers)
                .find(|(_, answer)| answer.is_some());
            let passes = passes.map_or(SMALL, |(size, _)| *size);
            let below = if way.by_tunnel {
                way.largest + OVERHEAD
            } else {
                way.largest
            };
            return Some(
                Finding::new("tunnel-mtu", object)
                    .means("small packets arrive and large ones are lost: connections open, and hang with the first large answer")
                    .seen(format!("of {} bytes none arrives, of {passes} bytes they do", way.largest))
                    .advice(format!(
                        "let packets of {below} bytes pass between the hosts (the MTU of each switch and uplink on the way), or give \
                         the uplink the MTU that the way has: the tunnel follows it. For containers that are started anew: key \
                         \"mtu\": {passes} in the network's configuration"
                    )),
            );
        }
        if self.connection && !self.connects {
            return Some(
                Finding::new("checksum-offload-broken", object)
                    .means("ping works, and no TCP connection to the host's containers opens")
                    .seen(format!(
                        "{to} answers TCP whose checksum was computed in software, and not TCP whose checksum {} or the \
                         uplink below it was left to compute",
                        way.interface
                    ))
                    .mend(format!("ethtool -K {} tx-checksum-ip-generic off", way.interface))
                    .advice(format!("the setting is gone with the interface; an update of the network card's driver may mend it (UDP port {port})")),
            );
        }
        None
    }

    fn blocked(&self, way: &Way, object: String) -> Finding {
        let beneath = way.beneath.map_or(way.within.1, |(_, beneath)| beneath);
        let finding = Finding::new("tunnel-blocked", object)
            .means("containers of the two hosts do not reach each other, while the hosts do");
        match way.by_tunnel {
            true => finding
                .seen(format!(
                    "{beneath} answers, and {} in the tunnel does not: UDP port {} is filtered on the way there or back",
                    way.within.1, way.port
                ))
                .advice(format!(
                    "let UDP port {0} pass both ways between the hosts: their own filters, security groups, switches; \
                     some platforms drop this port, then make the network with another --port. See pontoon doctor on \
                     {1} as well: a tunnel that is not there, or a filter that drops what comes out of it to the host \
                     itself, looks the same from here",
                    way.port, way.host
                )),
            false => finding
                .seen(format!("{beneath} answers, and {} does not", way.within.1))
                .advice(
                    "let packets with the network's addresses pass between the hosts (filters, source checks of the \
                     platform), or make the network with --mode vxlan",
                ),
        }
    }
}

/// Bytes that a packet in the tunnel has before its own, with IPv4 beneath.
const OVERHEAD: usize = 50;

/// Clocks of all hosts, each once.
fn clocks(wire: &Wire, ways: &[Way], findings: &mut Vec<Finding>) {
    let mut hosts: Vec<(&str, Probe)> = Vec::new();
    for way in ways {
        if let Some(beneath) = way.beneath
            && hosts.iter().all(|(host, _)| *host != way.host)
        {
            hosts.push((&way.host, probe(beneath, Question::Clock)));
        }
    }
    let probes: Vec<Probe> = hosts.iter().map(|(_, probe)| *probe).collect();
    for ((host, _), answer) in hosts.iter().zip(wire.ask(&probes)) {
        let Some(Answer::Clock(ahead)) = answer else {
            continue;
        };
        if ahead.abs() > APART_MS {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            findings.push(
                Finding::new("clocks-apart", format!("host {host}"))
                    .means("a certificate may be valid on one host and not on another, and logs do not tell what came first")
                    .seen(format!("its clock is {} s {which} this host's", ahead.abs() / 1000))
                    .advice("let all hosts take their time from the network: timedatectl set-ntp true"),
            );
        }
    }
}
