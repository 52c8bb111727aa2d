//! `macvlan` and `host-device`: packets to the outside over a device of the host, without its
//! addresses; and the device as before when the container has gone.

use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Chained, Container, Failure, HOST_V4, Network, OUTSIDE_V4,
    OUTSIDE_V6, Outcome, Site, cable, chained_faults,
};
use pontoon_netlink::{LinkChange, RouteSocket, Setup};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

fn network(kind: &str, keys: Value) -> Network {
    let mut plugin = json!({
        "type": kind,
        "ipam": {
            "type": "static",
            "addresses": [{ "address": "198.18.7.50/24" }, { "address": "2001:db8:fe::50/64" }],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "198.18.7.2" }],
        },
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    Network::from_list(json!({ "cniVersion": "1.1.0", "name": "devices", "plugins": [plugin] }))
}

/// With leases, to see that they are released.
fn leased(site: &Site, kind: &str, keys: Value) -> Network {
    network(kind, keys).with(
        kind,
        "ipam",
        json!({
            "type": "host-local", "dataDir": site.leases.path(),
            "ranges": [[{ "subnet": "198.18.7.0/24", "rangeStart": "198.18.7.100" }], [{ "subnet": "2001:db8:fe::/64", "rangeStart": "2001:db8:fe::100" }]],
        }),
    )
}

fn site() -> Outcome<Site> {
    Site::new(Backend::Nftables)
}

/// A second cable between host and outside, which a container may have.
fn spare(site: &Site) -> Outcome {
    let lay = || -> Result<u32, pontoon_netlink::Error> {
        let mut socket = RouteSocket::open()?;
        let mut spec = cable("spare0", site.host.outside(), [2, 0, 0, 0, 8, 2]);
        (spec.mac, spec.alias, spec.mtu) = (Some([2, 0, 0, 0, 8, 1]), Some("a note"), Some(1400));
        socket.create_veth(&spec).map(|veth| veth.peer_index)
    };
    let act = "lay a second cable";
    let beyond = site.host.run(lay)?.map_err(Failure::act(act))?;
    let equip = || -> Result<(), pontoon_netlink::Error> {
        let addresses =
            ["198.18.8.2/24", "2001:db8:ff::2/64"].map(|text| text.parse().expect("a network"));
        RouteSocket::open()?.configure(&Setup {
            index: beyond,
            addresses: &addresses,
            up: true,
            ..Setup::default()
        })
    };
    site.host.run_outside(equip)?.map_err(Failure::act(act))
}

fn reaches(container: &Container, targets: [std::net::IpAddr; 2]) -> Outcome {
    for (name, ask) in BOTH {
        for target in targets {
            let got = container.run(|| ask(SocketAddr::new(target, 80), Duration::from_secs(3)))?;
            match got {
                Ok(reply) if reply.server == "outside" => {}
                other => return wrong(format!("{name} to {target}: {other:?}")),
            }
        }
    }
    Ok(())
}

#[test]
fn macvlan_packets() -> Outcome {
    let site = site()?;
    let before = site.snapshot()?;
    let network = network(
        "macvlan",
        json!({ "mode": "bridge", "mtu": 1400, "capabilities": { "mac": true } }),
    );
    site.runtime().status(&network)?;
    let container = Container::new("macvlan")?;
    let mut attachment = Attachment::new(&container);
    attachment
        .capabilities
        .insert("mac".to_owned(), json!("02:42:0A:00:00:50"));
    let result = site.runtime().add(&network, &mut attachment)?;
    let interface = &result["interfaces"][0];
    if interface["name"] != "eth0"
        || interface["mac"] != "02:42:0a:00:00:50"
        || interface["mtu"] != 1400
        || result["ips"][0]["interface"] != 0
    {
        return wrong(result.to_string());
    }
    let _outside = site.host.serve_outside(80)?;
    reaches(&container, [OUTSIDE_V4, OUTSIDE_V6])?;
    // A macvlan never talks to its own master.
    let host = container
        .run(|| pontoon_lab::udp(SocketAddr::new(HOST_V4, 80), Duration::from_millis(300)))?;
    if host.is_ok() {
        return wrong("the host answered");
    }
    site.runtime().check(&network, &attachment)?;
    let changed = network.clone().with("macvlan", "mode", json!("private"));
    match site.runtime().check(&changed, &attachment) {
        Err(error)
            if error.code == 104
                && error
                    .msg
                    .contains("mode bridge does not match expected value: private") => {}
        other => return wrong(format!("{other:?}")),
    }
    for _ in 0..2 {
        site.runtime().del(&network, &attachment)?;
        if container
            .details()?
            .iter()
            .any(|line| line.starts_with("eth0"))
        {
            return wrong("eth0 is still there");
        }
    }
    before.same_as(&site.snapshot()?, "DEL")
}

#[test]
fn macvlan_faults() -> Outcome {
    let make = || {
        let site = site()?;
        let network = leased(&site, "macvlan", json!({ "master": "eth0" }));
        Ok((site, network))
    };
    chained_faults(make, 0, 5)
}

#[test]
fn macvlan_refused() -> Outcome {
    let site = site()?;
    for (keys, words) in [
        (
            json!({ "mtu": 9000 }),
            "invalid MTU 9000, must be [0, master MTU(1500)]",
        ),
        (json!({ "mode": "tree" }), "unknown macvlan mode: \"tree\""),
        (
            json!({ "master": "nothing0" }),
            "failed to lookup master \"nothing0\"",
        ),
    ] {
        let mut scene = Chained::new(
            Site::new(Backend::Nftables)?,
            leased(&site, "macvlan", keys),
            0,
        )?;
        let before = scene.state()?;
        match scene.add() {
            Err(error) if error.code == 7 && error.msg.contains(words) => {}
            other => return wrong(format!("{words}: {other:?}")),
        }
        before.same_as(&scene.state()?, words)?;
    }
    Ok(())
}

/// The master is in the container, and no address plugin is asked.
#[test]
fn macvlan_in_the_container() -> Outcome {
    let site = site()?;
    let network = network(
        "macvlan",
        json!({ "master": "eth0", "linkInContainer": true, "ipam": {} }),
    );
    let bridge = site
        .network("below", "below0", &["10.84.0.0/24"])
        .first_only();
    let (container, _) = site.join("nested", &bridge)?;
    let mut second = Attachment {
        ifname: "eth1".to_owned(),
        ..Attachment::new(&container)
    };
    let before = container.details()?;
    site.runtime().add(&network, &mut second)?;
    site.runtime().check(&network, &second)?;
    if !container
        .details()?
        .iter()
        .any(|line| line.starts_with("eth1 Some(\"macvlan\")") && line.contains("up true"))
    {
        return wrong(format!("{:#?}", container.details()?));
    }
    site.runtime().del(&network, &second)?;
    if container.details()? == before {
        Ok(())
    } else {
        wrong("the container is not as before")
    }
}

#[test]
fn every_version() -> Outcome {
    let site = site()?;
    spare(&site)?;
    let before = site.snapshot()?;
    for (kind, keys) in [
        ("macvlan", json!({})),
        ("host-device", json!({ "device": "spare0" })),
    ] {
        let base = leased(&site, kind, keys);
        for version in VERSIONS {
            let network = base.clone().in_version(version);
            let (_container, mut attachment) = site.join("versions", &network)?;
            if version >= "0.4.0" {
                site.runtime().check(&network, &attachment)?;
            }
            attachment.result = None;
            for _ in 0..2 {
                site.runtime().del(&network, &attachment)?;
            }
            before.same_as(&site.snapshot()?, &format!("{kind} in {version}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_device_goes_and_comes_back() -> Outcome {
    let site = site()?;
    spare(&site)?;
    let before = site.snapshot()?;
    let _outside = site.host.serve_outside(80)?;
    for selector in [
        json!({ "device": "spare0" }),
        json!({ "hwaddr": "02:00:00:00:08:01" }),
    ] {
        let network = network("host-device", selector)
            .with_ipam(
                "addresses",
                json!([{ "address": "198.18.8.1/24" }, { "address": "2001:db8:ff::1/64" }]),
            )
            .with_ipam("routes", json!([]));
        let (container, attachment) = site.join("moved", &network)?;
        reaches(
            &container,
            [
                "198.18.8.2".parse().map_err(Failure::act("parse"))?,
                "2001:db8:ff::2".parse().map_err(Failure::act("parse"))?,
            ],
        )?;
        if site
            .snapshot()?
            .lines("links")
            .iter()
            .any(|line| line.starts_with("spare0"))
        {
            return wrong("spare0 is still on the host");
        }
        site.runtime().check(&network, &attachment)?;
        // What happens to it in the container does not come home with it.
        let spoil = || -> Result<(), pontoon_netlink::Error> {
            let mut socket = RouteSocket::open()?;
            let index = socket
                .link_by_name("eth0")?
                .map(|link| link.index)
                .unwrap_or_default();
            socket.set_link(
                index,
                &LinkChange {
                    mtu: Some(1300),
                    mac: Some([2, 0, 0, 0, 0, 9]),
                    ..LinkChange::default()
                },
            )
        };
        container.run(spoil)?.map_err(Failure::act("change eth0"))?;
        for _ in 0..2 {
            site.runtime().del(&network, &attachment)?;
            before.same_as(&site.snapshot()?, "DEL")?;
        }
    }
    Ok(())
}

#[test]
fn host_device_faults() -> Outcome {
    let make = || {
        let site = site()?;
        spare(&site)?;
        let network = leased(&site, "host-device", json!({ "device": "spare0" }));
        Ok((site, network))
    };
    chained_faults(make, 0, 4)
}

/// plugins#1196: the address is released although there is no namespace; and a namespace that is
/// gone is no error.
#[test]
fn without_a_namespace() -> Outcome {
    for kind in ["empty path", "dead namespace"] {
        let site = site()?;
        spare(&site)?;
        let network = leased(&site, "host-device", json!({ "device": "spare0" }));
        let (container, mut attachment) = site.join("gone", &network)?;
        if site.snapshot()?.lines("leases").len() != 2 {
            return wrong("no leases");
        }
        container.kill()?;
        if kind == "empty path" {
            attachment.netns.clear();
        }
        for _ in 0..2 {
            site.runtime().del(&network, &attachment)?;
        }
        let left = site.snapshot()?;
        if !left.lines("leases").is_empty() || !left.lines("state").is_empty() {
            return wrong(format!("{kind}: {left:?}"));
        }
    }
    Ok(())
}

/// A device that the reference plugin has moved: its old name is its note, and nothing else is
/// known.
#[test]
fn made_by_the_reference_plugin() -> Outcome {
    let site = site()?;
    spare(&site)?;
    let network = leased(&site, "host-device", json!({ "device": "spare0" }));
    let (_container, mut attachment) = site.join("theirs", &network)?;
    std::fs::remove_dir_all(site.host.state_dir()).map_err(Failure::act("lose the state"))?;
    attachment.result = None;
    site.runtime().del(&network, &attachment)?;
    let back = site.snapshot()?;
    let found = back
        .lines("links")
        .iter()
        .any(|line| line.starts_with("spare0 veth"));
    if found && back.lines("leases").is_empty() {
        Ok(())
    } else {
        wrong(format!("{back:?}"))
    }
}

#[test]
fn gc() -> Outcome {
    let site = site()?;
    spare(&site)?;
    let before = site.snapshot()?;
    for (kind, keys) in [
        ("macvlan", json!({})),
        ("host-device", json!({ "device": "spare0" })),
    ] {
        let network = leased(&site, kind, keys);
        let (lost, _) = site.join("lost", &network)?;
        site.runtime().gc(&network, &[])?;
        before.same_as(&site.snapshot()?, &format!("GC of {kind}"))?;
        if lost.details()?.iter().any(|line| line.starts_with("eth0")) {
            return wrong(format!("{kind}: eth0 is still in the container"));
        }
    }
    Ok(())
}

#[test]
fn host_device_refused() -> Outcome {
    for (keys, words) in [
        (
            json!({}),
            "specify either \"device\", \"hwaddr\", \"kernelpath\" or \"pciBusID\"",
        ),
        (
            json!({ "device": "nothing0" }),
            "failed to find host device",
        ),
        (json!({ "device": "lo" }), "loopback stays"),
        (
            json!({ "kernelpath": "/etc" }),
            "must be absolute and begin with /sys/devices/",
        ),
        (
            json!({ "pciBusID": "ffff:00:00.0" }),
            "failed to find host device",
        ),
    ] {
        let site = site()?;
        let network = leased(&site, "host-device", keys);
        let mut scene = Chained::new(site, network, 0)?;
        let before = scene.state()?;
        match scene.add() {
            Err(error) if error.code == 7 && error.msg.contains(words) => {}
            other => return wrong(format!("{words}: {other:?}")),
        }
        before.same_as(&scene.state()?, words)?;
    }
    Ok(())
}
