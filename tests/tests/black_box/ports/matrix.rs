//! Published ports and masquerade as packets: every backend, both families, both protocols, from
//! everywhere a client can be, with bridged packets passing the IP hooks and without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, HOST_V6, NoReply, OUTSIDE_V4, OUTSIDE_V6,
    Outcome, Reply, Site, tcp, udp,
};

const PUBLISHED: u16 = 8080;
const SERVED: u16 = 80;
const ABROAD: u16 = 7000;
const WAIT: Duration = Duration::from_secs(3);

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Outside,
    HostAddress,
    HostLoopback,
    Sibling,
    OtherNetwork,
    Itself,
}

const PLACES: [From; 6] = [
    From::HostLoopback,
    From::Outside,
    From::HostAddress,
    From::Sibling,
    From::OtherNetwork,
    From::Itself,
];

/// Three containers on two networks of one host.
struct Scene {
    site: Site,
    target: (Container, Attachment),
    sibling: (Container, Attachment),
    stranger: (Container, Attachment),
}

impl Scene {
    fn ask(&self, from: From, v6: bool, is_udp: bool) -> Outcome<Result<Reply, NoReply>> {
        let address = match (from, v6) {
            (From::HostLoopback, false) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            (From::HostLoopback, true) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            (_, false) => HOST_V4,
            (_, true) => HOST_V6,
        };
        let target = SocketAddr::new(address, PUBLISHED);
        // The one cell that may stay closed is not worth waiting for.
        let wait = if from == From::HostLoopback && v6 {
            Duration::from_millis(300)
        } else {
            WAIT
        };
        let ask = || {
            if is_udp {
                udp(target, wait)
            } else {
                tcp(target, wait)
            }
        };
        match from {
            From::Outside => self.site.host.run_outside(ask),
            From::HostAddress | From::HostLoopback => self.site.host.run(ask),
            From::Sibling => self.sibling.0.run(ask),
            From::OtherNetwork => self.stranger.0.run(ask),
            From::Itself => self.target.0.run(ask),
        }
    }

    /// The client's address, in the cells where nothing on the way may hide it.
    fn survives(&self, from: From, v6: bool) -> Option<IpAddr> {
        match from {
            From::Outside => Some(if v6 { OUTSIDE_V6 } else { OUTSIDE_V4 }),
            From::HostAddress => Some(if v6 { HOST_V6 } else { HOST_V4 }),
            From::OtherNetwork => self.stranger.1.address(v6)?.parse().ok(),
            From::HostLoopback | From::Sibling | From::Itself => None,
        }
    }

    fn cell(&self, from: From, v6: bool, is_udp: bool) -> Outcome<Option<String>> {
        let wrong = match self.ask(from, v6, is_udp)? {
            // Rules alone cannot open [::1]: the kernel drops the reply. Closed is right.
            Err(_) if from == From::HostLoopback && v6 => return Ok(None),
            Err(silence) => silence.to_string(),
            Ok(reply) if reply.server != self.target.0.id => {
                format!("answered by {}", reply.server)
            }
            Ok(reply) => match self.survives(from, v6) {
                Some(client) if client != reply.peer => {
                    format!("client {client} was seen as {}", reply.peer)
                }
                _ => return Ok(None),
            },
        };
        let (family, protocol) = (
            if v6 { "IPv6" } else { "IPv4" },
            if is_udp { "UDP" } else { "TCP" },
        );
        Ok(Some(format!("{family} {protocol} from {from:?}: {wrong}")))
    }
}

fn matrix(backend: Backend, bridge_nf_call: bool) -> Outcome {
    let site = Site::new(backend)?;
    site.host.bridge_nf_call(bridge_nf_call)?;
    let before = site.snapshot()?;
    let front = site.network("front", "front0", &["10.61.0.0/24", "fd00:61::/64"]);
    let back = site.network("back", "back0", &["10.62.0.0/24", "fd00:62::/64"]);
    let container = Container::new("target")?;
    let mut attachment = Attachment::new(&container)
        .publish("", PUBLISHED, SERVED, "tcp")
        .publish("", PUBLISHED, SERVED, "udp");
    site.runtime().add(&front, &mut attachment)?;
    let (sibling, stranger) = (site.join("sibling", &front)?, site.join("stranger", &back)?);
    let scene = Scene {
        target: (container, attachment),
        sibling,
        stranger,
        site,
    };
    let server = scene.target.0.serve(SERVED)?;
    let abroad = scene.site.host.serve_outside(ABROAD)?;

    let mut wrong = Vec::new();
    for v6 in [false, true] {
        for is_udp in [false, true] {
            for from in PLACES {
                wrong.extend(scene.cell(from, v6, is_udp)?);
            }
            wrong.extend(masquerade(&scene, v6, is_udp)?);
        }
    }
    drop((server, abroad));
    let setting = format!(
        "{backend}, bridge-nf-call {}",
        if bridge_nf_call { "on" } else { "off" }
    );
    if !wrong.is_empty() {
        return Err(Failure::new(format!(
            "{setting}:\n  {}",
            wrong.join("\n  ")
        )));
    }
    let runtime = scene.site.runtime();
    runtime.check(&front, &scene.target.1)?;
    runtime.del(&front, &scene.target.1)?;
    runtime.del(&front, &scene.sibling.1)?;
    runtime.del(&back, &scene.stranger.1)?;
    scene.site.nothing_left(
        &before,
        &[&front, &back],
        &format!("ADD and DEL ({setting})"),
    )
}

/// A container's connection to the outside, which must see the host's address.
fn masquerade(scene: &Scene, v6: bool, is_udp: bool) -> Outcome<Option<String>> {
    let (outside, host) = if v6 {
        (OUTSIDE_V6, HOST_V6)
    } else {
        (OUTSIDE_V4, HOST_V4)
    };
    let target = SocketAddr::new(outside, ABROAD);
    let answer = scene.target.0.run(|| {
        if is_udp {
            udp(target, WAIT)
        } else {
            tcp(target, WAIT)
        }
    })?;
    let wrong = match answer {
        Ok(reply) if reply.peer == host => return Ok(None),
        Ok(reply) => format!("seen as {} instead of the host's {host}", reply.peer),
        Err(silence) => silence.to_string(),
    };
    Ok(Some(format!(
        "container to {target}{}: {wrong}",
        if is_udp { " UDP" } else { " TCP" }
    )))
}

#[test]
fn iptables_nft_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, true)
}

#[test]
fn iptables_nft_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, false)
}

#[test]
fn iptables_legacy_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, true)
}

#[test]
fn iptables_legacy_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, false)
}

#[test]
fn nftables_with_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, true)
}

#[test]
fn nftables_without_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, false)
}
