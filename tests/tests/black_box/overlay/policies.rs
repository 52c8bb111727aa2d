//! What policies say of packets between hosts, and who is no host of the network.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use pontoon_lab::{BOTH, Backend, Failure, Outcome, udp, whole};
use pontoon_netlink::{Netns, RouteSocket, Setup};
use serde_json::{Value, json};

use super::scene::{Below, DIRECT, Member, PATIENCE, SILENCE, Scene, VXLAN, under};

fn cases() -> Vec<(Backend, Below)> {
    let mut cases = vec![(Backend::Nftables, VXLAN), (Backend::IptablesNft, DIRECT)];
    if whole() {
        cases.extend([
            (Backend::IptablesNft, VXLAN),
            (Backend::Nftables, DIRECT),
            (Backend::IptablesLegacy, VXLAN),
        ]);
    }
    cases
}

/// Whether a container reaches another one's port 80, by both protocols and families alike.
fn reaches(from: &Member, to: &Member, expected: bool) -> Outcome<bool> {
    let mut seen = Vec::new();
    for v6 in [false, true] {
        let target = SocketAddr::new(to.address(v6)?, 80);
        for (name, ask) in BOTH {
            // What is dropped is waited for only so long.
            let patience = if expected { PATIENCE } else { SILENCE };
            let reply = from.container.run(|| ask(target, patience))?;
            seen.push((format!("{name} to {target}"), reply.is_ok()));
        }
    }
    let all = seen.iter().all(|(_, reached)| *reached);
    let none = seen.iter().all(|(_, reached)| !*reached);
    match all || none {
        true => Ok(all),
        false => Err(Failure::new(format!("some pass and some do not: {seen:?}"))),
    }
}

#[track_caller]
fn expect(what: &str, from: &Member, to: &Member, expected: bool) -> Outcome {
    let seen = reaches(from, to, expected)?;
    assert_eq!(seen, expected, "{what}");
    Ok(())
}

#[test]
fn dockers_policy_lets_the_network_pass_between_its_hosts() -> Outcome {
    for (backend, below) in cases() {
        let scene = Scene::new(backend, below, 2)?;
        scene.write()?;
        scene.write_of("other", 6)?;
        let docker = || json!({ "profile": "docker" });
        let lan = [0, 1].map(|host| scene.network(host, "lan", Value::Null, docker()));
        let other = [0, 1].map(|host| scene.network(host, "other", Value::Null, docker()));
        let a = scene.join(0, &lan[0])?;
        let b = scene.join(1, &lan[1])?;
        let c = scene.join(0, &other[0])?;
        let d = scene.join(1, &other[1])?;
        let told = |what: &str| format!("{backend} {below:?}: {what}");
        expect(&told("one network, two hosts"), &a, &b, true)?;
        expect(&told("and back"), &b, &a, true)?;
        expect(&told("the other network"), &c, &d, true)?;
        for (what, from, to) in [
            ("another network on the other host", &a, &d),
            ("another network on the same host", &a, &c),
            ("the other way", &d, &a),
            ("and from the same host", &c, &b),
        ] {
            expect(&told(what), from, to, false)?;
        }
        for (host, network, member) in [(0, &lan[0], &a), (1, &other[1], &d)] {
            let runtime = scene.sites[host].runtime();
            runtime.check(network, &member.attachment)?;
        }
    }
    Ok(())
}

#[test]
fn containers_of_other_networks_do_not_reach_the_tunnel_without_any_policy() -> Outcome {
    let scene = Scene::new(Backend::Nftables, VXLAN, 2)?;
    scene.write()?;
    let a = scene.join(0, &scene.plain(0))?;
    let b = scene.join(1, &scene.plain(1))?;
    let site = &scene.sites[0];
    let bridge = site.network("plain", "br-plain", &["10.77.0.0/24", "fd77::/64"]);
    let c = scene.join(0, &bridge)?;
    expect("the network itself", &a, &b, true)?;
    expect("a container of a bridge network", &c, &b, false)?;
    // It writes an address of the network as its own: one of its host's block, and one of another's.
    for address in ["10.5.1.77/32", "10.5.2.77/32"] {
        c.container
            .run(|| -> Result<(), pontoon_netlink::Error> {
                let mut socket = RouteSocket::open()?;
                let link = socket.link_by_name("eth0")?.map_or(0, |link| link.index);
                let address = address
                    .parse()
                    .map_err(|_| pontoon_netlink::Error::Unstable)?;
                socket.add_address(link, address, true).map(drop)
            })?
            .map_err(Failure::act("add an address"))?;
        let source: IpAddr = address[..address.len() - 3]
            .parse()
            .map_err(Failure::act("parse"))?;
        assert!(
            !arrives(&c, source, &b)?,
            "{address} reached the other host"
        );
    }
    assert!(
        arrives(&a, a.address(false)?, &b)?,
        "the way of looking works"
    );
    Ok(())
}

/// Whether a datagram from this source gets to a container: answers have another way.
fn arrives(from: &Member, source: IpAddr, to: &Member) -> Outcome<bool> {
    let act = "listen for a datagram";
    let server = to
        .container
        .run(|| UdpSocket::bind("0.0.0.0:0"))?
        .map_err(Failure::act(act))?;
    let port = server.local_addr().map_err(Failure::act(act))?.port();
    let target = SocketAddr::new(to.address(false)?, port);
    from.container
        .run(|| UdpSocket::bind((source, 0)).and_then(|socket| socket.send_to(b"x", target)))?
        .map_err(Failure::act("send a datagram"))?;
    server
        .set_read_timeout(Some(SILENCE))
        .map_err(Failure::act(act))?;
    Ok(server.recv(&mut [0; 8]).is_ok())
}

#[test]
fn without_icc_nothing_new_comes_through_the_tunnel() -> Outcome {
    for (backend, below) in cases() {
        let scene = Scene::new(backend, below, 2)?;
        scene.write()?;
        let icc_off = |host| scene.network(host, "lan", Value::Null, json!({ "icc": false }));
        let open = |host| scene.network(host, "lan", Value::Null, json!({}));
        // Only the second host has it off: what comes through the tunnel is judged there.
        let a = scene.join(0, &open(0))?;
        let b = scene.join(1, &icc_off(1))?;
        expect("from a host with icc", &a, &b, false)?;
        expect("to a host with icc", &b, &a, false)?;
    }
    Ok(())
}

#[test]
fn an_internal_network_spans_its_hosts_and_has_no_other_way() -> Outcome {
    for (backend, below) in cases() {
        let scene = Scene::new(backend, below, 2)?;
        scene.write()?;
        let internal = |host| {
            let keys = json!({ "internal": true, "ipMasq": false });
            scene.network(host, "lan", keys, json!({ "internal": true }))
        };
        let networks = [internal(0), internal(1)];
        // An internal network needs no forwarding of its own host, and this one does.
        for site in &scene.sites {
            site.host.set("net/ipv4/ip_forward", "1")?;
            site.host.set("net/ipv6/conf/all/forwarding", "1")?;
        }
        let a = scene.join(0, &networks[0])?;
        let b = scene.join(1, &networks[1])?;
        expect(&format!("{backend} {below:?}"), &a, &b, true)?;
        let routes = a.container.details()?;
        let routes: Vec<&String> = routes
            .iter()
            .filter(|line| line.contains(" via "))
            .collect();
        assert!(
            routes
                .iter()
                .any(|line| line.starts_with("10.5.0.0/16 via Some")),
            "{routes:?}"
        );
        assert!(
            !routes.iter().any(|line| line.starts_with("0.0.0.0/0")),
            "{routes:?}"
        );
        let outside = scene.sites[0].host.serve_outside(90)?;
        let target = SocketAddr::new(pontoon_lab::OUTSIDE_V4, 90);
        assert!(a.container.run(|| udp(target, SILENCE))?.is_err());
        drop(outside);
    }
    Ok(())
}

/// A VXLAN packet of network `vni` with an IPv4 datagram in it.
fn packet(vni: u32, mac: [u8; 6], to_mac: [u8; 6], source: IpAddr, target: SocketAddr) -> Vec<u8> {
    let (IpAddr::V4(source), SocketAddr::V4(target)) = (source, target) else {
        return Vec::new();
    };
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend(&vni.to_be_bytes()[1..]);
    bytes.push(0);
    bytes.extend(to_mac);
    bytes.extend(mac);
    bytes.extend([8, 0]);
    let mut header = vec![0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0];
    header.extend(source.octets());
    header.extend(target.ip().octets());
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(header);
    bytes.extend(7000_u16.to_be_bytes());
    bytes.extend(target.port().to_be_bytes());
    // Nine bytes, and no checksum, which UDP over IPv4 allows.
    bytes.extend([0, 9, 0, 0, b'x']);
    bytes
}

/// Sends a packet to a host's tunnel port from an address of the network below.
fn send(from: &Netns, address: IpAddr, host: u8, bytes: &[u8]) -> Outcome {
    let act = "send a packet of the tunnel";
    from.run(|| {
        let socket = UdpSocket::bind((address, 0))?;
        socket.send_to(bytes, (under(host, false), 4789)).map(drop)
    })
    .map_err(Failure::act(act))?
    .map_err(Failure::act(act))
}

#[test]
fn packets_of_the_tunnel_are_taken_from_its_hosts_only_and_of_each_its_own() -> Outcome {
    let scene = Scene::new(Backend::Nftables, VXLAN, 3)?;
    // Host 3 is on the switch, and of another network: its blocks are no one's in this one.
    for number in [1, 2] {
        let mut files = scene.files("lan", 5, number);
        files.peers.retain(|peer| peer.host != "h3");
        files.write(&scene.sites[usize::from(number) - 1].host)?;
    }
    let a = scene.join(0, &scene.plain(0))?;
    // A stranger on the switch itself.
    let stranger = under(99, false);
    let mut socket = RouteSocket::open_in(scene.switch.netns()).map_err(Failure::act("open"))?;
    let link = socket
        .link_by_name("switch")
        .map_err(Failure::act("look"))?;
    let addresses = [format!("{stranger}/24")
        .parse()
        .map_err(Failure::act("parse"))?];
    let setup = Setup {
        index: link.map_or(0, |link| link.index),
        addresses: &addresses,
        up: true,
        ..Setup::default()
    };
    socket
        .configure(&setup)
        .map_err(Failure::act("configure"))?;

    let act = "listen";
    let server = a
        .container
        .run(|| UdpSocket::bind("0.0.0.0:0"))?
        .map_err(Failure::act(act))?;
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .map_err(Failure::act(act))?;
    let port = server.local_addr().map_err(Failure::act(act))?.port();
    let target = SocketAddr::new(a.address(false)?, port);
    let own = pontoon_ledger::overlay::tunnel_mac("h1").0;
    let peer = pontoon_ledger::overlay::tunnel_mac("h2").0;
    let block2: IpAddr = [10, 5, 2, 9].into();
    let host2 = scene.sites[1].host.netns();
    let host3 = scene.sites[2].host.netns();
    for (what, from, address, mac, source, expected) in [
        (
            "a host's own block",
            host2,
            under(2, false),
            peer,
            block2,
            true,
        ),
        (
            "with any hardware address",
            host2,
            under(2, false),
            [2, 9, 9, 9, 9, 9],
            block2,
            true,
        ),
        (
            "another host's block",
            host2,
            under(2, false),
            peer,
            [10, 5, 3, 9].into(),
            false,
        ),
        (
            "this host's block",
            host2,
            under(2, false),
            peer,
            [10, 5, 1, 9].into(),
            false,
        ),
        (
            "no block at all",
            host2,
            under(2, false),
            peer,
            [192, 0, 2, 9].into(),
            false,
        ),
        (
            "a host that is not of the network",
            host3,
            under(3, false),
            peer,
            block2,
            false,
        ),
        (
            "a stranger",
            scene.switch.netns(),
            stranger,
            peer,
            block2,
            false,
        ),
    ] {
        send(from, address, 1, &packet(5, mac, own, source, target))?;
        let came = server.recv(&mut [0; 16]).is_ok();
        assert_eq!(came, expected, "{what}");
    }
    // What comes as it is, and says that it is of the network.
    let spoofed = |source: &str| -> Outcome<bool> {
        scene.shell(
            2,
            &format!(
                "ip addr add {source}/32 dev lo; ip route replace 10.5.1.0/24 via {}",
                under(1, false)
            ),
        )?;
        let source: IpAddr = source.parse().map_err(Failure::act("parse"))?;
        let act = "send a datagram";
        host3
            .run(|| UdpSocket::bind((source, 0)).and_then(|socket| socket.send_to(b"x", target)))
            .map_err(Failure::act(act))?
            .map_err(Failure::act(act))?;
        Ok(server.recv(&mut [0; 16]).is_ok())
    };
    for source in ["10.5.2.9", "10.5.1.9", "10.5.77.9"] {
        assert!(!spoofed(source)?, "{source} by the uplink");
    }
    assert!(
        spoofed("192.0.2.77")?,
        "without a policy the network is open, as with bridge"
    );
    Ok(())
}

#[test]
fn nothing_is_wrong_with_a_healthy_host_of_a_network() -> Outcome {
    let scene = Scene::new(Backend::Nftables, VXLAN, 2)?;
    scene.write()?;
    let docker = |host| scene.network(host, "lan", Value::Null, json!({ "profile": "docker" }));
    let a = scene.join(0, &docker(0))?;
    let b = scene.join(1, &docker(1))?;
    expect("it works", &a, &b, true)?;
    let rules = scene.shell(0, "nft list table inet pontoon-vx-lan")?;
    assert!(
        rules.contains("chain input") && rules.contains("from4_24"),
        "{rules}"
    );
    let filter = scene.shell(0, "cat /proc/sys/net/ipv4/conf/vx-lan/rp_filter")?;
    assert_eq!(filter, "2\n");
    let target = SocketAddr::new(b.address(false)?, 80);
    let reply = a.container.run(|| udp(target, PATIENCE))?;
    assert!(reply.is_ok(), "{reply:?}");
    Ok(())
}
