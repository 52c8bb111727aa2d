//! What must stay shut: a port published on one address of the host is reached by that address and
//! by no other, and 127.0.0.1 belongs to the host alone.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{Attachment, BOTH, Backend, Container, Failure, HOST_V4, Host, Outcome, Site};
use pontoon_netlink::{RouteSocket, RouteSpec};

const LONG: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(400);

/// One attempt: from where, to what, and whether it may get through.
struct Attempt<'a> {
    from: &'a str,
    to: &'a str,
    open: bool,
}

fn check(site: &Site, sibling: &Container, attempts: &[Attempt<'_>]) -> Outcome {
    let mut wrong = Vec::new();
    for attempt in attempts {
        let target: SocketAddr = attempt.to.parse().map_err(Failure::act(attempt.to))?;
        let wait = if attempt.open { LONG } else { SHORT };
        for (name, ask) in BOTH {
            let answer = match attempt.from {
                "outside" => site.host.run_outside(|| ask(target, wait))?,
                "host" => site.host.run(|| ask(target, wait))?,
                _ => sibling.run(|| ask(target, wait))?,
            };
            if answer.is_ok() != attempt.open {
                wrong.push(format!(
                    "{name} from {} to {}: {answer:?}",
                    attempt.from, attempt.to
                ));
            }
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{}:\n  {}",
            site.backend,
            wrong.join("\n  ")
        )))
    }
}

/// Makes the outside send packets for 127.0.0.1 to the host. Its own loopback is down, so nothing
/// there claims the address.
fn send_loopback_abroad(host: &Host) -> Outcome {
    let act = "route 127.0.0.1 from the outside to the host";
    host.run_outside(|| fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))?
        .map_err(Failure::act(act))?;
    host.run_outside(|| -> Outcome {
        let mut socket = RouteSocket::open().map_err(Failure::act(act))?;
        let eth0 = socket
            .link_by_name("eth0")
            .map_err(Failure::act(act))?
            .map(|link| link.index);
        let spec = RouteSpec {
            gateway: Some(HOST_V4),
            interface: eth0,
            ..RouteSpec::to("127.0.0.1/32".parse().map_err(Failure::act(act))?)
        };
        socket.add_route(&spec).map_err(Failure::act(act)).map(drop)
    })?
}

fn doors(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    send_loopback_abroad(&site.host)?;
    let network = site.network("doors", "doors0", &["10.63.0.0/24"]);
    let container = Container::new("keeper")?;
    let mut attachment = Attachment::new(&container);
    for protocol in ["tcp", "udp"] {
        attachment = attachment
            .publish("127.0.0.1", 9090, 80, protocol)
            .publish("198.18.7.1", 9091, 80, protocol)
            .publish("", 9092, 80, protocol);
    }
    site.runtime().add(&network, &mut attachment)?;
    let (sibling, _) = site.join("sibling", &network)?;
    let _server = container.serve(80)?;
    let open = |from, to| Attempt {
        from,
        to,
        open: true,
    };
    let shut = |from, to| Attempt {
        from,
        to,
        open: false,
    };
    check(
        &site,
        &sibling,
        &[
            open("host", "127.0.0.1:9090"),
            shut("host", "198.18.7.1:9090"),
            shut("outside", "198.18.7.1:9090"),
            shut("outside", "127.0.0.1:9090"),
            shut("sibling", "10.63.0.1:9090"),
            open("outside", "198.18.7.1:9091"),
            open("sibling", "198.18.7.1:9091"),
            shut("host", "127.0.0.1:9091"),
            shut("sibling", "10.63.0.1:9091"),
            open("sibling", "10.63.0.1:9092"),
            open("host", "127.0.0.1:9092"),
            shut("outside", "127.0.0.1:9092"),
            shut("outside", "198.18.7.1:9093"),
        ],
    )
}

#[test]
fn doors_of_iptables_nft() -> Outcome {
    doors(Backend::IptablesNft)
}

#[test]
fn doors_of_iptables_legacy() -> Outcome {
    doors(Backend::IptablesLegacy)
}

#[test]
fn doors_of_nftables() -> Outcome {
    doors(Backend::Nftables)
}
