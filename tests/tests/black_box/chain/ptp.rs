//! `ptp`: packets to and from the host, the outside and a neighbour, by the host's routing alone.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Chained, Container, Failure, HOST_V4, Network, NoReply, OUTSIDE_V4,
    OUTSIDE_V6, Outcome, Reply, Site, chained_faults,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(2);

fn network(site: &Site) -> Network {
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "pair",
        "plugins": [
            {
                "type": "ptp", "ipMasq": true, "ipMasqBackend": site.backend.key(), "mtu": 1450,
                "ipam": {
                    "type": "host-local", "dataDir": site.leases.path(),
                    "ranges": [[{ "subnet": "10.83.0.0/24" }], [{ "subnet": "fd00:83::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            },
            { "type": "portmap", "backend": site.backend.key(), "capabilities": { "portMappings": true } },
        ],
    }))
}

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

fn parse(text: Option<String>) -> Outcome<IpAddr> {
    text.unwrap_or_default()
        .parse()
        .map_err(Failure::act("read an address"))
}

fn answered(
    got: Result<Reply, NoReply>,
    server: &str,
    peer: Option<IpAddr>,
    what: &str,
) -> Outcome {
    match got {
        Ok(reply) if reply.server == server && peer.is_none_or(|peer| peer == reply.peer) => Ok(()),
        other => wrong(format!("{what}: {other:?}")),
    }
}

#[test]
fn packets() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let network = network(&site);
        site.runtime().status(&network)?;
        let one = Container::new("one")?;
        let mut first = Attachment::new(&one)
            .publish("", 8080, 80, "tcp")
            .publish("", 8080, 80, "udp");
        site.runtime().add(&network, &mut first)?;
        let (two, second) = site.join("two", &network)?;
        let servers = [one.serve(80)?, two.serve(80)?];
        let outside = site.host.serve_outside(80)?;
        for (name, ask) in BOTH {
            for v6 in [false, true] {
                let what = |what: &str| format!("{backend} {name} IPv6 {v6}: {what}");
                let own = parse(first.address(v6))?;
                let other = parse(second.address(v6))?;
                let target = if v6 { OUTSIDE_V6 } else { OUTSIDE_V4 };
                let masqueraded = if v6 { pontoon_lab::HOST_V6 } else { HOST_V4 };
                let to = |address: IpAddr, port: u16| SocketAddr::new(address, port);
                let got = one.run(|| ask(to(target, 80), PATIENCE))?;
                answered(got, "outside", Some(masqueraded), &what("to the outside"))?;
                // A neighbour of the subnet sees who it is.
                let got = one.run(|| ask(to(other, 80), PATIENCE))?;
                answered(got, &two.id, Some(own), &what("to a neighbour"))?;
                let got = site.host.run(|| ask(to(own, 80), PATIENCE))?;
                answered(got, &one.id, None, &what("from the host"))?;
                let got = site
                    .host
                    .run_outside(|| ask(to(masqueraded, 8080), PATIENCE))?;
                answered(
                    got,
                    &one.id,
                    Some(target),
                    &what("a published port from the outside"),
                )?;
                let got = site.host.run(|| ask(to(masqueraded, 8080), PATIENCE))?;
                answered(got, &one.id, None, &what("a published port from the host"))?;
            }
        }
        for attachment in [&first, &second] {
            site.runtime().check(&network, attachment)?;
        }
        drop((servers, outside));
        // One goes without a namespace, the other without a result.
        first.netns.clear();
        let bare = Attachment {
            result: None,
            ..second
        };
        for attachment in [&first, &bare, &first, &bare] {
            site.runtime().del(&network, attachment)?;
        }
        drop((one, two));
        site.nothing_left(&before, &[&network], &format!("DEL ({backend})"))?;
    }
    Ok(())
}

/// The result and the routes are those of the reference plugin.
#[test]
fn what_is_made() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(&site);
    let (container, attachment) = site.join("made", &network)?;
    let result = attachment.result.clone().unwrap_or_default();
    let [host, inside] = [&result["interfaces"][0], &result["interfaces"][1]];
    if !host["name"]
        .as_str()
        .unwrap_or_default()
        .starts_with("veth")
        || inside["name"] != "eth0"
        || inside["sandbox"] != container.path_text()
        || result["ips"][0]["interface"] != 1
        || result["ips"][1]["interface"] != 1
        || inside["mtu"] != 1450
    {
        return wrong(result.to_string());
    }
    let mut routes: Vec<String> = container
        .details()?
        .into_iter()
        .filter(|line| {
            line.contains(" via ") && !line.starts_with("fe80") && !line.starts_with("ff00")
        })
        .collect();
    routes.sort();
    let expected = [
        "0.0.0.0/0 via Some(10.83.0.1)",
        "10.83.0.0/24 via Some(10.83.0.1)",
        "10.83.0.1/32 via None",
        "::/0 via Some(fd00:83::1)",
        "fd00:83::/64 via Some(fd00:83::1)",
        "fd00:83::1/128 via None",
    ];
    // The address itself is listed as a route of IPv6 without the subnet's.
    routes.retain(|route| !route.starts_with("fd00:83::2/128"));
    if routes != expected {
        return wrong(format!("{routes:#?}"));
    }
    Ok(())
}

#[test]
fn check_names_what_is_missing() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(&site);
    let mut scene = Chained::new(site, network, 0)?;
    let result = scene.add()?;
    scene.verb("CHECK")?;
    let name = result["interfaces"][0]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    scene.site.host.set("net/ipv4/ip_forward", "0")?;
    scene.check_fails("forwarding is off")?;
    scene.site.host.set("net/ipv4/ip_forward", "1")?;
    let remove = || -> Result<(), pontoon_netlink::Error> {
        let mut socket = pontoon_netlink::RouteSocket::open()?;
        let index = socket
            .link_by_name(&name)?
            .map(|link| link.index)
            .unwrap_or_default();
        for address in socket
            .addresses(index)?
            .iter()
            .filter(|address| address.cidr.is_ipv4())
        {
            socket.remove_address(index, address.cidr)?;
        }
        Ok(())
    };
    scene
        .site
        .host
        .run(remove)?
        .map_err(Failure::act("remove the gateway's address"))?;
    scene.check_fails("lacks the gateway address 10.83.0.1/32")
}

#[test]
fn faults() -> Outcome {
    for backend in [Backend::Nftables, Backend::IptablesNft] {
        let make = || {
            let site = Site::new(backend)?;
            let network = network(&site).first_only();
            Ok((site, network))
        };
        chained_faults(make, 0, 6)?;
    }
    Ok(())
}

#[test]
fn an_interface_name_in_use() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(&site).first_only();
    let (container, _kept) = site.join("busy", &network)?;
    let before = site.snapshot()?;
    let mut other = Attachment {
        container_id: "other".to_owned(),
        ..Attachment::new(&container)
    };
    match site.runtime().add(&network, &mut other) {
        Err(error) if error.code == 103 && error.msg.contains("(\"eth0\") already exists") => {}
        outcome => return wrong(format!("{outcome:?}")),
    }
    site.runtime().del(&network, &other)?;
    before.same_as(&site.snapshot()?, "a refused ADD and its DEL")
}

#[test]
fn gc() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = network(&site);
    let (_keep, kept) = site.join("keep", &network)?;
    let before = site.snapshot()?;
    let (_lost, _) = site.join("lost", &network)?;
    let (dead, _) = site.join("dead", &network)?;
    dead.kill()?;
    site.runtime().gc(&network, &[&kept])?;
    before.same_as(&site.snapshot()?, "GC")?;
    Ok(site.runtime().check(&network, &kept)?)
}

#[test]
fn every_version() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let base = network(&site);
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
