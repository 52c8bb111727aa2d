//! `bandwidth` behind `bridge`: bytes that really take their time, in both directions, and traffic
//! control that goes again.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Chained, Container, Failure, Network, Outcome, Site, Snapshot,
    chained_faults,
};
use pontoon_netlink::{LinkChange, RouteSocket, TokenBucket};
use serde_json::{Value, json};

/// 8 Mbit/s are 1,000,000 bytes a second.
const RATE: u64 = 8_000_000;
const BYTES: usize = 700_000;
/// 64,000 bytes pass at once.
const BURST: u64 = 512_000;

fn limited(site: &Site, keys: Value) -> Network {
    let base = site.network("limited", "limited0", &["10.82.0.0/24", "fd00:82::/64"]);
    let mut list = base.list().clone();
    let mut plugin = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
    for (key, value) in keys.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    list["plugins"][1] = plugin;
    Network::from_list(list)
}

fn both() -> Value {
    json!({ "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST })
}

fn site() -> Outcome<Site> {
    Site::new(Backend::Nftables)
}

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// What `ip link` and `tc qdisc` would tell of the host, with the names of its veths.
fn control(site: &Site) -> Outcome<Snapshot> {
    let look = || -> Result<Vec<String>, pontoon_netlink::Error> {
        let mut socket = RouteSocket::open()?;
        let mut lines = Vec::new();
        for link in socket.links()? {
            let qdisc = socket.root_qdisc(link.index)?;
            let to = socket.ingress_redirection(link.index)?;
            lines.push(format!("{} {qdisc:?} ingress to {to:?}", link.name));
        }
        Ok(lines)
    };
    let lines = site.host.run(look)?.map_err(Failure::act("list qdiscs"))?;
    Ok(site.snapshot()?.without("sysctls").with("qdiscs", lines))
}

/// How long `BYTES` take from one side to the other over TCP.
fn transfer(
    listener: TcpListener,
    connect: impl FnOnce(SocketAddr) -> Outcome<TcpStream> + Send,
    target: IpAddr,
) -> Outcome<Duration> {
    let address = SocketAddr::new(
        target,
        listener.local_addr().map_err(Failure::act("bind"))?.port(),
    );
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut all = Vec::new();
            stream.read_to_end(&mut all)
        });
        let started = Instant::now();
        let mut stream = connect(address)?;
        stream
            .write_all(&vec![7; BYTES])
            .map_err(Failure::act("send"))?;
        drop(stream);
        let got = receiver
            .join()
            .map_err(|_| Failure::new("the receiver panicked"))?
            .map_err(Failure::act("receive"))?;
        if got == BYTES {
            Ok(started.elapsed())
        } else {
            Err(Failure::new(format!("{got} bytes of {BYTES} arrived")))
        }
    })
}

/// Seconds for a transfer into the container, and for one out of it.
fn seconds(
    site: &Site,
    container: &Container,
    attachment: &Attachment,
    v6: bool,
) -> Outcome<[f64; 2]> {
    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
    let listen = || TcpListener::bind(any);
    let parse = |text: Option<String>| -> Outcome<IpAddr> {
        text.unwrap_or_default()
            .parse()
            .map_err(Failure::act("read an address"))
    };
    let own = parse(attachment.address(v6))?;
    let gateway = parse(attachment.gateway(v6))?;
    let dial = |address: SocketAddr| {
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(Failure::act("connect"))
    };
    let inside = container
        .run(listen)?
        .map_err(Failure::act("listen inside"))?;
    let into = transfer(inside, |address| site.host.run(|| dial(address))?, own)?;
    let outside = site
        .host
        .run(listen)?
        .map_err(Failure::act("listen on the host"))?;
    let out = transfer(outside, |address| container.run(|| dial(address))?, gateway)?;
    Ok([into.as_secs_f64(), out.as_secs_f64()])
}

/// 700,000 bytes less the 64,000 of the bucket take 0.64 s at 1,000,000 bytes a second. Headers add
/// some, and a busy machine delays; unlimited it is a few milliseconds.
fn is_limited(seconds: f64) -> bool {
    (0.55..3.0).contains(&seconds)
}

#[test]
fn the_rate_is_kept_in_both_directions() -> Outcome {
    let site = site()?;
    let before = control(&site)?;
    let network = limited(&site, both());
    let (container, attachment) = site.join("limited", &network)?;
    let result = attachment.result.clone().unwrap_or_default();
    let ifb = result["interfaces"][3]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !(ifb.starts_with("bwp") && ifb.len() == 15) || result["interfaces"][3]["mac"].is_null() {
        return wrong(format!("no ifb in the result: {result}"));
    }
    for v6 in [false, true] {
        let seconds = seconds(&site, &container, &attachment, v6)?;
        if !seconds.into_iter().all(is_limited) {
            return wrong(format!(
                "IPv6 {v6}: into and out of the container: {seconds:?} s"
            ));
        }
    }
    site.runtime().check(&network, &attachment)?;
    for _ in 0..2 {
        site.runtime().del(&network, &attachment)?;
    }
    drop(container);
    site.nothing_left(&before.without("qdiscs"), &[&network], "DEL")
}

/// One direction only; a container beside it is not held back.
#[test]
fn one_direction_and_one_container() -> Outcome {
    let site = site()?;
    let network = limited(&site, json!({}));
    let rates = |ingress: u64, egress: u64| {
        let burst = |rate: u64| {
            if rate == 0 {
                0
            } else {
                4_294_967_295u64.min(BURST)
            }
        };
        // Spelled as containerd spells it.
        json!({ "IngressRate": ingress, "IngressBurst": burst(ingress), "EgressRate": egress, "EgressBurst": burst(egress) })
    };
    for (ingress, egress) in [(RATE, 0), (0, RATE), (0, 0)] {
        let container = Container::new("half")?;
        let mut attachment = Attachment::new(&container);
        attachment
            .capabilities
            .insert("bandwidth".to_owned(), rates(ingress, egress));
        let result = site.runtime().add(&network, &mut attachment)?;
        let seconds = seconds(&site, &container, &attachment, false)?;
        let expected = [ingress != 0, egress != 0];
        if seconds.map(is_limited) != expected
            || seconds.iter().any(|s| !is_limited(*s) && *s > 0.5)
        {
            return wrong(format!("wanted {expected:?}: {seconds:?} s"));
        }
        let interfaces = result["interfaces"].as_array().map(Vec::len);
        if interfaces != Some(if egress == 0 { 3 } else { 4 }) {
            return wrong(result.to_string());
        }
        site.runtime().check(&network, &attachment)?;
    }
    Ok(())
}

/// containerd orders the largest burst there is; the reference plugin computes its ticks modulo
/// 2^32. A bucket that no packet fits into stops all traffic there.
#[test]
fn bursts_out_of_the_ordinary() -> Outcome {
    let site = site()?;
    for burst in [4_294_967_295u64, 8] {
        let network = limited(
            &site,
            json!({
                "ingressRate": RATE, "ingressBurst": burst, "egressRate": RATE, "egressBurst": burst,
            }),
        );
        let (container, attachment) = site.join("burst", &network)?;
        site.runtime().check(&network, &attachment)?;
        let seconds = seconds(&site, &container, &attachment, false)?;
        let fine = if burst == 8 {
            seconds.into_iter().all(is_limited)
        } else {
            // The bucket holds all of it.
            seconds.into_iter().all(|seconds| seconds < 0.5)
        };
        if !fine {
            return wrong(format!("burst {burst}: {seconds:?} s"));
        }
    }
    Ok(())
}

#[test]
fn check_names_what_is_missing() -> Outcome {
    let site = site()?;
    let network = limited(&site, both());
    let mut scene = Chained::new(site, network, 1)?;
    let port = scene
        .attachment
        .result
        .as_ref()
        .and_then(|result| result["interfaces"][1]["name"].as_str())
        .unwrap_or_default()
        .to_owned();
    scene.add()?;
    scene.verb("CHECK")?;
    let on_host = |act: &(
                        dyn Fn(&mut RouteSocket, u32, u32) -> Result<(), pontoon_netlink::Error>
                            + Sync
                    )|
     -> Outcome {
        let port = port.clone();
        scene
            .site
            .host
            .run(move || -> Result<(), pontoon_netlink::Error> {
                let mut socket = RouteSocket::open()?;
                let port = socket
                    .link_by_name(&port)?
                    .map(|link| link.index)
                    .unwrap_or_default();
                let ifb = socket
                    .links_of_kind("ifb")?
                    .first()
                    .map(|link| link.index)
                    .unwrap_or_default();
                act(&mut socket, port, ifb)
            })?
            .map_err(Failure::act("spoil"))
    };
    on_host(&|socket, port, _| socket.remove_token_bucket(port).map(drop))?;
    scene.check_fails("into the container")?;
    let other = TokenBucket {
        rate: 5000,
        burst: 64_000,
        limit: 89_000,
    };
    on_host(&|socket, port, _| socket.add_token_bucket(port, &other))?;
    scene.check_fails("but tbf of 5000 bytes a second")?;
    on_host(&|socket, port, _| {
        socket.remove_token_bucket(port)?;
        socket.add_token_bucket(
            port,
            &TokenBucket {
                rate: 1_000_000,
                burst: 64_000,
                limit: 89_000,
            },
        )
    })?;
    scene.verb("CHECK")?;
    on_host(&|socket, _, ifb| {
        socket.set_link(
            ifb,
            &LinkChange {
                up: Some(false),
                ..LinkChange::default()
            },
        )
    })?;
    scene.check_fails("is down")?;
    on_host(&|socket, port, _| socket.remove_ingress(port).map(drop))?;
    scene.check_fails("is not redirected")
}

/// A DEL of this plugin alone frees the traffic of a pair that lives on, the links' own included.
#[test]
fn del_frees_the_pair() -> Outcome {
    let site = site()?;
    let network = limited(&site, both());
    let mut scene = Chained::new(site, network, 1)?;
    let before = control(&scene.site)?;
    scene.add()?;
    if before.changes(&control(&scene.site)?).lines().count() < 3 {
        return wrong("ADD has changed nothing that this test sees");
    }
    for _ in 0..2 {
        scene.verb("DEL")?;
        before.same_as(&control(&scene.site)?, "DEL")?;
    }
    Ok(())
}

#[test]
fn faults() -> Outcome {
    let make = || {
        let site = site()?;
        let network = limited(&site, both());
        Ok((site, network))
    };
    chained_faults(make, 1, 5)
}

/// Two interfaces of one container on one network: one name in the reference plugin.
#[test]
fn two_interfaces_of_one_container() -> Outcome {
    let site = site()?;
    let before = control(&site)?.without("qdiscs");
    let network = limited(&site, both());
    let (container, first) = site.join("twin", &network)?;
    let mut second = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&container)
    };
    let with_one = control(&site)?;
    site.runtime().add(&network, &mut second)?;
    site.runtime().check(&network, &first)?;
    site.runtime().check(&network, &second)?;
    second.result = None;
    site.runtime().del(&network, &second)?;
    with_one.same_as(&control(&site)?, "DEL of the second interface")?;
    site.runtime().check(&network, &first)?;
    site.runtime().del(&network, &first)?;
    site.nothing_left(&before, &[&network], "DEL of both")
}

/// An ifb that the reference plugin made: its name, and no note.
#[test]
fn made_by_the_reference_plugin() -> Outcome {
    let site = site()?;
    let network = limited(&site, both());
    let mut scene = Chained::new(site, network, 1)?;
    let before = scene.state()?;
    let result = scene.add()?;
    let name = result["interfaces"][3]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let strip = || -> Result<(), pontoon_netlink::Error> {
        let mut socket = RouteSocket::open()?;
        let index = socket
            .link_by_name(&name)?
            .map(|link| link.index)
            .unwrap_or_default();
        socket.set_link(
            index,
            &LinkChange {
                alias: Some(String::new()),
                ..LinkChange::default()
            },
        )
    };
    scene
        .site
        .host
        .run(strip)?
        .map_err(Failure::act("take the alias away"))?;
    std::fs::remove_dir_all(scene.site.host.state_dir().join("bandwidth"))
        .map_err(Failure::act("lose the state"))?;
    scene.attachment.netns.clear();
    scene.attachment.result = None;
    scene.verb("DEL")?;
    before.same_as(&scene.state()?, "DEL of the reference plugin's attachment")
}

#[test]
fn gc() -> Outcome {
    let site = site()?;
    let network = limited(&site, both());
    let (_keep, kept) = site.join("keep", &network)?;
    let before = control(&site)?;
    let (_lost, _) = site.join("lost", &network)?;
    let (dead, _) = site.join("dead", &network)?;
    dead.kill()?;
    site.runtime().gc(&network, &[&kept])?;
    before.same_as(&control(&site)?, "GC")?;
    Ok(site.runtime().check(&network, &kept)?)
}

#[test]
fn every_version() -> Outcome {
    let site = site()?;
    let before = site.snapshot()?;
    let base = limited(&site, both());
    for version in [
        "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
    ] {
        let network = base.clone().in_version(version);
        let (_container, mut attachment) = site.join("versions", &network)?;
        if version >= "0.4.0" {
            site.runtime().check(&network, &attachment)?;
        }
        attachment.netns.clear();
        attachment.result = None;
        site.runtime().del(&network, &attachment)?;
        site.nothing_left(&before, &[&network], version)?;
    }
    Ok(())
}

#[test]
fn refused() -> Outcome {
    let site = site()?;
    let network = limited(&site, json!({ "ingressRate": 8000 }));
    let scene = Chained::new(site, network, 1)?;
    match scene.verb("ADD") {
        Err(error) if error.code == 7 && error.msg.contains("burst must also be set") => Ok(()),
        other => wrong(format!("{other:?}")),
    }
}
