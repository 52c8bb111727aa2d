//! Containers ignore router advertisements of their network, with IPv6 addresses and without: they take no address, no
//! default route and no MTU from them, unless the network wants it by the key `acceptRA`.

use std::net::Ipv6Addr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Advertisement, Attachment, Backend, Container, Failure, Network, Outcome, Site, advertise,
    cable,
};
use pontoon_netlink::RouteSocket;
use serde_json::{Value, json};

const SUBNETS: [&str; 2] = ["10.86.0.0/24", "fd00:86::/64"];
const ADVERTISEMENT: Advertisement = Advertisement {
    prefix: Some(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0)),
    mtu: Some(1280),
    preferred: true,
};

fn inside(container: &Container, line: &str) -> Outcome<String> {
    let output = container.run(|| Command::new("sh").args(["-c", line]).output())?;
    let output = output.map_err(Failure::act(line))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

/// Waits until the kernel of a container has received an advertisement, and has had time for its word.
fn received(container: &Container) -> Outcome {
    let count = "grep Icmp6InRouterAdvertisements /proc/thread-self/net/snmp6";
    eventually("an advertisement in the container", || {
        let text = inside(container, count)?;
        Ok(text
            .split_whitespace()
            .nth(1)
            .is_some_and(|count| count != "0"))
    })
}

fn taken(container: &Container) -> Outcome<String> {
    let look = "ip -6 route show default proto ra; ip -6 addr show | grep 2001:db8:7:; \
                cat /proc/sys/net/ipv6/conf/eth0/mtu | grep 1280";
    inside(container, look)
}

fn refused(container: &Container, what: &str) -> Outcome {
    received(container).map_err(|error| Failure::new(format!("{what}: {error}")))?;
    let taken = taken(container)?;
    if taken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: the container took {taken}")))
}

#[test]
fn a_sibling_does_not_become_the_router() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let networks = [
            site.network("v4", "br-v4", &SUBNETS[..1]),
            site.network("dual", "br-dual", &["10.86.1.0/24", "fd00:86:1::/64"]),
            site.firewalled("docker", &["10.86.2.0/24"], json!({ "profile": "docker" })),
        ];
        for network in &networks {
            let (bad, _) = site.join("bad", network)?;
            let (good, attachment) = site.join("good", network)?;
            advertise(bad.netns(), "eth0", &ADVERTISEMENT)?;
            refused(&good, &format!("{backend} {}", network.name()))?;
            site.runtime().check(network, &attachment)?;
            // Nor that of the host.
            let host = site
                .host
                .command(Command::new("ip").args(["-6", "route", "show", "proto", "ra"]))?;
            assert!(host.is_empty(), "{host}");
        }
    }
    Ok(())
}

#[test]
fn nor_on_a_bridge_that_was_there_before() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let make = "ip link add own0 type bridge && ip link set own0 up && sysctl -q -w net/ipv6/conf/own0/accept_ra=1 \
                net/ipv6/conf/all/forwarding=0 && ip -6 route del default";
    site.host.command(Command::new("sh").args(["-c", make]))?;
    let network = site.network("own", "own0", &SUBNETS[..1]);
    let (bad, _) = site.join("bad", &network)?;
    let (good, _) = site.join("good", &network)?;
    advertise(bad.netns(), "eth0", &ADVERTISEMENT)?;
    refused(&good, "a bridge of the administrator")?;
    let host = site
        .host
        .command(Command::new("ip").args(["-6", "route", "show", "proto", "ra"]))?;
    assert!(host.is_empty(), "{host}");
    Ok(())
}

fn on_the_lan(kind: &str, addresses: &[&str], keys: Value) -> Network {
    let addresses: Vec<Value> = addresses
        .iter()
        .map(|it| json!({ "address": it }))
        .collect();
    let mut plugin = json!({ "type": kind, "ipam": { "type": "static", "addresses": addresses } });
    for (key, value) in keys.as_object().into_iter().flatten() {
        plugin[key] = value.clone();
    }
    Network::from_list(json!({ "cniVersion": "1.1.0", "name": "lan", "plugins": [plugin] }))
}

const LAN: [&str; 2] = ["198.18.7.50/24", "2001:db8:fe::50/64"];

#[test]
fn the_lans_router_is_taken_by_key_only() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for addresses in [&LAN[..1], &LAN[..]] {
        let network = on_the_lan("macvlan", addresses, json!({ "master": "eth0" }));
        let (container, attachment) = site.join("lan", &network)?;
        advertise(site.host.outside(), "eth0", &ADVERTISEMENT)?;
        refused(&container, &format!("macvlan {addresses:?}"))?;
        site.runtime().check(&network, &attachment)?;
        site.runtime().del(&network, &attachment)?;
    }
    let network = on_the_lan(
        "macvlan",
        &LAN[..1],
        json!({ "master": "eth0", "acceptRA": true }),
    );
    let (container, attachment) = site.join("lan", &network)?;
    eventually("a default route by the key", || {
        advertise(site.host.outside(), "eth0", &ADVERTISEMENT)?;
        let taken = taken(&container)?;
        Ok(taken.contains("default") && taken.contains("2001:db8:7:") && taken.contains("1280"))
    })?;
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

#[test]
fn a_device_of_the_host_with_addresses_of_ours() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let lay = || -> Result<(), pontoon_netlink::Error> {
        let spec = cable("spare0", site.host.outside(), [2, 0, 0, 0, 8, 2]);
        RouteSocket::open()?.create_veth(&spec).map(drop)
    };
    site.host
        .run(lay)?
        .map_err(Failure::act("lay a second cable"))?;
    let up = || {
        Command::new("ip")
            .args(["link", "set", "spare0", "up"])
            .status()
    };
    site.host.run_outside(up)?.map_err(Failure::act("run ip"))?;
    let network = on_the_lan(
        "host-device",
        &["198.18.8.1/24"],
        json!({ "device": "spare0" }),
    );
    let (container, attachment) = site.join("device", &network)?;
    advertise(site.host.outside(), "spare0", &ADVERTISEMENT)?;
    refused(&container, "host-device")?;
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    Ok(())
}

#[test]
fn nor_does_the_host_give_a_pair_a_route() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = on_the_lan("ptp", &["10.86.3.2/24"], json!({}));
    let (container, attachment) = site.join("pair", &network)?;
    let result = attachment.result.clone().unwrap_or_default();
    let veth = result["interfaces"][0]["name"].as_str().unwrap_or_default();
    advertise(site.host.netns(), veth, &ADVERTISEMENT)?;
    refused(&container, "ptp")?;
    site.runtime().check(&network, &attachment)?;
    Ok(())
}

fn check_tells(site: &Site, network: &Network, attachment: &Attachment, words: &str) -> Outcome {
    match site.runtime().check(network, attachment) {
        Err(error) if error.code == 104 && error.msg.contains(words) => Ok(()),
        other => Err(Failure::new(format!(
            "CHECK does not say {words:?}: {other:?}"
        ))),
    }
}

#[test]
fn check_sees_a_foreign_default_route() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.network("dual", "br-dual", &SUBNETS);
    let (bad, other) = site.join("bad", &network)?;
    let (good, attachment) = site.join("good", &network)?;
    // As an ADD of another plugin, or of an earlier release, leaves it.
    inside(&good, "sysctl -q -w net/ipv6/conf/eth0/accept_ra=1")?;
    eventually("a route by advertisement", || {
        advertise(bad.netns(), "eth0", &ADVERTISEMENT)?;
        Ok(taken(&good)?.contains("default"))
    })?;
    check_tells(&site, &network, &attachment, "by router advertisement")?;
    inside(&good, "ip -6 route del default proto ra")?;
    site.runtime().check(&network, &attachment)?;
    // A default route that the admin has made, of either family.
    for (family, v6) in [("-4", false), ("-6", true)] {
        let to = other.address(v6).unwrap_or_default();
        // IPv4's route of the network has the best metric there is: it is replaced.
        let metric = if v6 { "metric 1" } else { "" };
        let before = inside(&good, &format!("ip {family} route show default"))?;
        inside(
            &good,
            &format!("ip {family} route replace default via {to} dev eth0 {metric}"),
        )?;
        check_tells(
            &site,
            &network,
            &attachment,
            &format!("default route via {to}"),
        )?;
        inside(&good, &format!("ip {family} route del default via {to}"))?;
        if !v6 {
            inside(
                &good,
                &format!("ip {family} route replace {}", before.trim()),
            )?;
        }
        site.runtime().check(&network, &attachment)?;
    }
    Ok(())
}
