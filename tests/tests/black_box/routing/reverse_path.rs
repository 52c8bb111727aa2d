//! Strict reverse-path filters, as RHEL sets them: a container on two networks answers by the one
//! with its default route, also what came in by the other.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, Network, OUTSIDE_V4, Outcome, SECOND_V4,
    SECOND_V6, Site, tcp, udp,
};
use pontoon_netlink::{Netns, sysctl};
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(2);
const ONE: [&str; 1] = ["10.66.1.0/24"];
const TWO: [&str; 1] = ["10.66.2.0/24"];

fn strict() -> std::io::Result<()> {
    for interface in ["all", "default"] {
        sysctl::write_if_different(&format!("net/ipv4/conf/{interface}/rp_filter"), "1")?;
    }
    Ok(())
}

/// A network that publishes ports, of this kind.
fn publishing(site: &Site, kind: &str) -> Network {
    let mut list = site.network("two", "br-two", &TWO).list().clone();
    if kind == "ptp" {
        let mut plugin = list["plugins"][0].clone();
        plugin["type"] = json!("ptp");
        for key in ["bridge", "isGateway", "hairpinMode"] {
            plugin[key].take();
        }
        list["plugins"][0] = plugin;
    }
    Network::from_list(list)
}

fn answers(backend: Backend, kind: &str, on_host: bool, inside: bool) -> Outcome {
    let place = format!("{backend}, {kind}, strict on the host: {on_host}, inside: {inside}");
    let site = Site::new(backend)?;
    let container = Container::new("web")?;
    let act = "set the filters";
    if on_host {
        site.host.run(strict)?.map_err(Failure::act(act))?;
    }
    if inside {
        container.run(strict)?.map_err(Failure::act(act))?;
    }
    let one = site.network("one", "br-one", &ONE).first_only();
    let two = publishing(&site, kind);
    let runtime = site.runtime();
    let mut first = Attachment::new(&container);
    runtime.add(&one, &mut first)?;
    let mut second = Attachment::new(&container)
        .publish("", 8081, 81, "tcp")
        .publish("", 8080, 80, "udp");
    second.ifname = "eth1".to_owned();
    runtime.add(&two, &mut second)?;
    if on_host {
        // The admin makes the filter stricter later.
        site.host.run(strict)?.map_err(Failure::act(act))?;
    }
    let _server = container.serve(81)?;
    let answer = site
        .host
        .run_outside(|| tcp(SocketAddr::new(HOST_V4, 8081), WAIT))?;
    match answer {
        Ok(reply) if reply.peer == OUTSIDE_V4 => {}
        other => return Err(Failure::new(format!("{place}: TCP: {other:?}"))),
    }
    // A server at any address answers from that of the default route, which is another matter.
    let own: IpAddr = second
        .address(false)
        .unwrap_or_default()
        .parse()
        .map_err(Failure::act("read an address"))?;
    let socket = container.run(|| UdpSocket::bind((own, 80)))?;
    let socket = socket.map_err(Failure::act("bind"))?;
    socket
        .set_read_timeout(Some(WAIT))
        .map_err(Failure::act("bind"))?;
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            let mut request = [0; 16];
            if let Ok((_, peer)) = socket.recv_from(&mut request) {
                let _ = socket.send_to(format!("web {}", peer.ip()).as_bytes(), peer);
            }
        });
        site.host
            .run_outside(|| udp(SocketAddr::new(HOST_V4, 8080), WAIT))
    })?;
    if let Err(silence) = answer {
        return Err(Failure::new(format!("{place}: UDP: {silence}")));
    }
    runtime.check(&two, &second)?;
    runtime.del(&two, &second)?;
    Ok(runtime.del(&one, &first)?)
}

#[test]
fn a_port_of_the_second_network_answers_past_strict_filters() -> Outcome {
    for (on_host, inside) in [(true, false), (false, true), (true, true)] {
        for backend in [Backend::Nftables, Backend::IptablesNft] {
            answers(backend, "bridge", on_host, inside)?;
        }
        answers(Backend::Nftables, "ptp", on_host, inside)?;
    }
    Ok(())
}

/// A bridge that was there before is loosened as well.
#[test]
fn a_bridge_that_was_there_is_loosened() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let mut shell = Command::new("sh");
    site.host.command(shell.args([
        "-c",
        "ip link add br-net type bridge; ip link set br-net up",
    ]))?;
    site.host.set("net/ipv4/conf/br-net/rp_filter", "1")?;
    let network = site.network("net", "br-net", &ONE);
    let (_container, attachment) = site.join("web", &network)?;
    let now = site.host.get("net/ipv4/conf/br-net/rp_filter")?;
    if now.as_deref() != Some("2") {
        return Err(Failure::new(format!("rp_filter is {now:?}")));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}

/// A second uplink whose answers go back by a rule on their source: the host's own do, those of a
/// container have its address while they are routed. doctor says so, and what it says mends it.
#[test]
fn a_second_uplink_with_routes_by_source_is_told_and_mended() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        for v6 in [false, true] {
            by_source(backend, v6)?;
        }
    }
    Ok(())
}

fn by_source(backend: Backend, v6: bool) -> Outcome {
    let site = Site::new(backend)?;
    let neighbour = site.host.neighbour()?;
    let (host, router, client, family) = match v6 {
        false => (SECOND_V4, "198.18.8.2", "203.0.113.50", "-4"),
        true => (SECOND_V6, "2001:db8:fd::2", "2001:db8:99::50", "-6"),
    };
    let run = |on: Option<&Netns>, line: &str| -> Outcome {
        let mut shell = Command::new("sh");
        shell.args(["-ec", line]).env("PATH", site.admins_path());
        let done = match on {
            Some(netns) => netns.run(|| shell.output()),
            None => return site.host.command(&mut shell).map(drop),
        };
        let output = done
            .map_err(Failure::act("enter the neighbour"))?
            .map_err(Failure::act("run a command"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "{line}: {}",
                String::from_utf8_lossy(&output.stderr)
            ))),
        }
    };
    // A client behind the router of the second uplink.
    run(
        Some(&neighbour),
        &format!(
            "ip link set lo up; ip addr add {client} dev lo; ip {family} route add {host} dev eth1 src {client}"
        ),
    )?;
    run(
        None,
        &format!(
            "ip {family} route add default via {router} table 108; ip {family} rule add from {host} lookup 108"
        ),
    )?;
    let subnets: &[&str] = if v6 { &["fd00:66::/64"] } else { &ONE };
    let network = site.network("one", "br-one", subnets);
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    let told = || site.pontoon(&["doctor"]).map(|said| said.stdout);
    if told()?.contains("uplink-by-source") {
        return Err(Failure::new("told where no port is published"));
    }
    site.runtime().add(&network, &mut attachment)?;
    let _server = container.serve(80)?;
    let ask = |wait| {
        let asked = neighbour.run(|| tcp(SocketAddr::new(host, 8080), wait));
        asked.map_err(Failure::act("enter the neighbour"))
    };
    if ask(Duration::from_millis(500))?.is_ok() {
        return Err(Failure::new("it answers before it was mended"));
    }
    let report = site.pontoon(&["doctor", "--json"])?.stdout;
    let report: Value = serde_json::from_str(&report).map_err(Failure::act("read the report"))?;
    let mut findings = report["findings"].as_array().into_iter().flatten();
    let found = findings.find(|finding| finding["id"] == "uplink-by-source");
    let Some(finding) = found else {
        return Err(Failure::new(format!("not told: {report}")));
    };
    run(None, finding["mend"].as_str().unwrap_or_default())?;
    if let Err(silence) = ask(WAIT)? {
        return Err(Failure::new(format!(
            "{backend}, mended: {silence}: {finding}"
        )));
    }
    if told()?.contains("uplink-by-source") {
        return Err(Failure::new("told still"));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}
