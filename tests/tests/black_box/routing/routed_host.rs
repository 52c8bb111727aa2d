//! A host that has its IPv6 default route by router advertisement keeps it when it begins to forward for containers; where
//! it was lost, STATUS, `ip-forward` and `doctor` know, and mend it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Advertisement, Attachment, BOTH, Backend, Container, Failure, Network, Outcome, Router, Site,
    advertise,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(2);
/// Reached by the default route only.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x70, 0, 0, 0, 0, 0);
const SUBNETS: [&str; 2] = ["10.85.0.0/24", "fd00:85::/64"];
const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
const ACCEPT_RA: &str = "net/ipv6/conf/eth0/accept_ra";

fn advertisement() -> Advertisement {
    Advertisement {
        prefix: Some(PREFIX),
        ..Advertisement::default()
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> Outcome<bool>) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is()? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("not in time: {what}")));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn wants(site: &Site, path: &str, value: &str) -> Outcome {
    let got = site.host.get(path)?;
    if got.as_deref() == Some(value) {
        return Ok(());
    }
    Err(Failure::new(format!("{path} is {got:?}, not {value}")))
}

fn ip(site: &Site, line: &str) -> Outcome<String> {
    site.host.command(Command::new("ip").args(line.split(' ')))
}

fn has_default(site: &Site) -> Outcome<bool> {
    Ok(!ip(site, "-6 route show default")?.is_empty())
}

/// A host that forwards nothing, whose default route is taken from `eth0` and comes by advertisement.
fn host(backend: Backend) -> Outcome<Site> {
    let site = Site::new(backend)?;
    site.host.set("net/ipv4/ip_forward", "0")?;
    site.host.set(FORWARDING, "0")?;
    site.host.set(ACCEPT_RA, "1")?;
    ip(&site, "-6 route del default")?;
    // A neighbour that says it is no router loses the routes through it. Its far address is the only one, so that it
    // answers a datagram from there.
    let far = format!(
        "sysctl -q -w {FORWARDING}=1 && ip -6 addr flush dev eth0 scope global && ip -6 addr add {FAR}/128 dev eth0 \
         nodad && ip -6 route replace 2001:db8:fe::/64 dev eth0 && ip -6 route replace default via 2001:db8:fe::1"
    );
    let status = site
        .host
        .run_outside(|| Command::new("sh").args(["-c", &far]).status())?;
    assert!(status.map_err(Failure::act("make a router"))?.success());
    Ok(site)
}

/// The same, and the route has come.
fn routed(backend: Backend) -> Outcome<Site> {
    let site = host(backend)?;
    hear(&site)?;
    Ok(site)
}

fn hear(site: &Site) -> Outcome {
    eventually("a default route by advertisement", || {
        advertise(site.host.outside(), "eth0", &advertisement())?;
        has_default(site)
    })
}

fn ptp(site: &Site) -> Network {
    let mut list = site.network("pair", "", &SUBNETS).list().clone();
    list["plugins"][0]["type"] = json!("ptp");
    for key in ["bridge", "isGateway", "hairpinMode"] {
        list["plugins"][0][key].take();
    }
    let own = list["plugins"][0].as_object_mut();
    own.into_iter()
        .for_each(|own| own.retain(|_, value| !value.is_null()));
    Network::from_list(list)
}

#[test]
fn the_first_dual_stack_add_keeps_the_hosts_default_route() -> Outcome {
    for backend in Backend::ALL {
        for kind in ["bridge", "ptp"] {
            let site = routed(backend)?;
            // Another interface that would take advertisements, and has none.
            let _second = site.host.neighbour()?;
            site.host.set("net/ipv6/conf/eth1/accept_ra", "1")?;
            let network = match kind {
                "ptp" => ptp(&site),
                _ => site.network("lan", "lan0", &SUBNETS),
            };
            let (container, attachment) = site.join("web", &network)?;
            wants(&site, FORWARDING, "1")?;
            wants(&site, ACCEPT_RA, "2")?;
            wants(&site, "net/ipv6/conf/eth1/accept_ra", "1")?;
            assert!(has_default(&site)?, "{backend} {kind}: the route is gone");
            let _far = site.host.serve_outside(80)?;
            let far = SocketAddr::new(IpAddr::V6(FAR), 80);
            for (name, ask) in BOTH {
                let from_host = site.host.run(|| ask(far, PATIENCE))?;
                let from_container = container.run(|| ask(far, PATIENCE))?;
                let both = (from_host.is_ok(), from_container.is_ok());
                assert_eq!(both, (true, true), "{backend} {kind} {name}");
            }
            site.runtime().check(&network, &attachment)?;
            site.runtime().status(&network)?;
            site.pontoon_ends(&["ip-forward"], 0)?;
            // It is no leftover of the first one: the host goes on hearing routers, after DEL too.
            site.runtime().del(&network, &attachment)?;
            ip(&site, "-6 route del default")?;
            hear(&site)?;
            wants(&site, ACCEPT_RA, "2")?;
        }
    }
    Ok(())
}

#[test]
fn who_has_no_route_by_advertisement_is_left_alone() -> Outcome {
    let site = host(Backend::Nftables)?;
    let network = site.network("lan", "lan0", &SUBNETS);
    let (_web, attachment) = site.join("web", &network)?;
    wants(&site, FORWARDING, "1")?;
    wants(&site, ACCEPT_RA, "1")?;
    site.runtime().del(&network, &attachment)?;
    // An IPv4 network has no use for it.
    let site = routed(Backend::Nftables)?;
    let (_web, _) = site.join("web", &site.network("lan", "lan0", &SUBNETS[..1]))?;
    wants(&site, FORWARDING, "0")?;
    wants(&site, ACCEPT_RA, "1")
}

#[test]
fn an_internal_network_does_not_make_the_host_a_router() -> Outcome {
    let site = routed(Backend::Nftables)?;
    let network = site
        .network("inner", "inner0", &SUBNETS)
        .with("bridge", "internal", json!(true));
    let (one, first) = site.join("one", &network)?;
    let (two, second) = site.join("two", &network)?;
    for path in ["net/ipv4/ip_forward", FORWARDING] {
        wants(&site, path, "0")?;
    }
    wants(&site, ACCEPT_RA, "1")?;
    assert!(has_default(&site)?);
    let _server = two.serve(80)?;
    for (name, ask) in BOTH {
        for v6 in [false, true] {
            let to = second.address(v6).unwrap_or_default();
            let to = SocketAddr::new(to.parse().map_err(Failure::act("read"))?, 80);
            let sibling = one.run(|| ask(to, PATIENCE))?;
            let host = site.host.run(|| ask(to, PATIENCE))?;
            assert_eq!((sibling.is_ok(), host.is_ok()), (true, true), "{name} {to}");
        }
    }
    // It needs none: nothing says that something is wrong.
    site.runtime().check(&network, &first)?;
    site.runtime().status(&network)?;
    let text = site.pontoon_ends(&["ip-forward"], 0)?;
    assert!(text.contains("every network is internal"), "{text}");
    let report = site.pontoon_json(&["doctor"])?;
    assert!(!report.to_string().contains("forwarding-off"), "{report}");
    Ok(())
}

#[test]
fn links_of_an_internal_network_are_forwarded() -> Outcome {
    let site = routed(Backend::Nftables)?;
    let keys = json!({ "profile": "docker", "internal": true, "icc": false });
    let network = site
        .firewalled("inner", &SUBNETS, keys)
        .with("bridge", "internal", json!(true));
    let join = |name: &str, links: serde_json::Value| -> Outcome<(Container, Attachment)> {
        let container = Container::new(name)?;
        let mut attachment = Attachment::new(&container);
        attachment.args = format!("IgnoreUnknown=1;K8S_POD_NAME={name}");
        attachment.capabilities.insert("links".to_owned(), links);
        site.runtime().add(&network, &mut attachment)?;
        Ok((container, attachment))
    };
    let (back, target) = join("back", json!([]))?;
    let ports = json!([{ "port": 80, "protocol": "tcp" }, { "port": 80, "protocol": "udp" }]);
    let (front, _) = join("front", json!([{ "container": "back", "ports": ports }]))?;
    assert!(has_default(&site)?);
    let _server = back.serve(80)?;
    for (name, ask) in BOTH {
        for v6 in [false, true] {
            let to = target.address(v6).unwrap_or_default();
            let to = SocketAddr::new(to.parse().map_err(Failure::act("read"))?, 80);
            assert!(front.run(|| ask(to, PATIENCE))?.is_ok(), "{name} {to}");
        }
    }
    Ok(())
}

/// Forwarding was switched off by hand, so that the host lives by advertisements again: what mends the one does not take
/// away the other.
#[test]
fn mending_forwarding_keeps_the_default_route() -> Outcome {
    for doctor in [false, true] {
        let site = host(Backend::Nftables)?;
        let network = site.network("lan", "lan0", &SUBNETS);
        let (_web, _attachment) = site.join("web", &network)?;
        for key in ["all", "lan0"] {
            site.host
                .set(&format!("net/ipv6/conf/{key}/forwarding"), "0")?;
        }
        site.host.set(ACCEPT_RA, "1")?;
        hear(&site)?;
        if doctor {
            let mut fix = Command::new(site.runtime().programs().program("pontoon"));
            fix.args(["doctor", "--fix"])
                .env("PATH", site.admins_path());
            // Its exit code tells of findings that are not ours to mend.
            site.host
                .run(|| fix.output())?
                .map_err(Failure::act("run doctor"))?;
        } else {
            site.pontoon_ends(&["ip-forward", "--fix"], 0)?;
        }
        wants(&site, FORWARDING, "1")?;
        wants(&site, ACCEPT_RA, "2")?;
        assert!(has_default(&site)?, "doctor {doctor}: the route is gone");
        site.runtime().status(&network)?;
    }
    Ok(())
}

fn finds(site: &Site) -> Outcome<bool> {
    let report = site.pontoon_json(&["doctor"])?;
    let mut findings = report["findings"].as_array().into_iter().flatten();
    Ok(findings.any(|it| it["id"] == "router-advertisements-ignored"))
}

#[test]
fn a_lost_default_route_is_told_and_comes_back() -> Outcome {
    for doctor in [false, true] {
        let site = host(Backend::Nftables)?;
        let network = site.network("lan", "lan0", &SUBNETS);
        let (web, _attachment) = site.join("web", &network)?;
        // No router: nothing is lost.
        site.runtime().status(&network)?;
        assert!(!finds(&site)?);
        // Routers whose advertisements the host ignores.
        advertise(site.host.outside(), "eth0", &advertisement())?;
        eventually("doctor sees it", || finds(&site))?;
        assert!(!has_default(&site)?);
        let status = site.runtime().status(&network);
        let told = status.err().map(|error| (error.code, error.msg));
        let (code, msg) = told.ok_or_else(|| Failure::new("STATUS found nothing"))?;
        assert!(
            code == 51 && msg.contains("eth0 ignores router"),
            "{code} {msg}"
        );
        let text = site.pontoon_ends(&["ip-forward"], 1)?;
        assert!(text.contains("eth0 ignores router"), "{text}");
        // A way to the outside by other means, and nothing is wrong.
        ip(
            &site,
            &format!("-6 route add default via {FAR} dev eth0 onlink"),
        )?;
        assert!(!finds(&site)?);
        site.runtime().status(&network)?;
        site.pontoon_ends(&["ip-forward"], 0)?;
        ip(&site, "-6 route del default")?;
        let _router = Router::start(site.host.outside(), "eth0", advertisement())?;
        let _far = site.host.serve_outside(80)?;
        if doctor {
            let mut fix = Command::new(site.runtime().programs().program("pontoon"));
            fix.args(["doctor", "--fix"])
                .env("PATH", site.admins_path());
            site.host
                .run(|| fix.output())?
                .map_err(Failure::act("run doctor"))?;
        } else {
            site.pontoon_ends(&["ip-forward", "--fix"], 0)?;
        }
        assert!(
            has_default(&site)?,
            "doctor {doctor}: the route is not back"
        );
        assert!(!finds(&site)?);
        site.runtime().status(&network)?;
        let far = SocketAddr::new(IpAddr::V6(FAR), 80);
        for (name, ask) in BOTH {
            assert!(web.run(|| ask(far, PATIENCE))?.is_ok(), "{name}");
        }
    }
    Ok(())
}
