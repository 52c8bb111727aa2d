//! Tunnels against the real kernel, in namespaces of the tests' own. Needs root. That packets pass is shown by the
//! black-box tests.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test runs programs, and ends where something fails"
)]

use std::process::Command;

use pontoon_conf::Cidr;
use pontoon_ledger::overlay::{
    OverlayMode, OverlayNetwork, OverlayPeer, OverlayPeers, OverlaySubnet, Underlay, tunnel_mac,
};
use pontoon_netlink::{Netns, RouteSocket, Setup, VethSpec};
use pontoon_overlay::tunnel::{self, Changes, PROTOCOL, TunnelError, Wanted};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A host with an uplink of both families, number 1 of its network below.
fn host() -> (Netns, Netns) {
    let (host, beyond) = (
        Netns::create_unnamed().unwrap(),
        Netns::create_unnamed().unwrap(),
    );
    let mut socket = RouteSocket::open_in(&host).unwrap();
    let veth = socket
        .create_veth(&VethSpec::new("eth0", "eth0", &beyond))
        .unwrap();
    let addresses = ["198.18.60.1/24", "2001:db8:60::1/64"].map(|it| it.parse().unwrap());
    let setup = Setup {
        lo_up: true,
        index: veth.index,
        addresses: &addresses,
        up: true,
        ..Setup::default()
    };
    socket.configure(&setup).unwrap();
    (host, beyond)
}

fn network(mode: OverlayMode) -> OverlayNetwork {
    let subnet = |subnet, block_prefix| OverlaySubnet {
        subnet: cidr(subnet),
        block_prefix,
    };
    OverlayNetwork {
        network: "lan".to_owned(),
        subnets: vec![subnet("10.5.0.0/16", 24), subnet("fd05::/48", 64)],
        vni: 5,
        port: 4789,
        mode,
        host: "h1".to_owned(),
        underlay: Underlay {
            v4: Some("198.18.60.1".parse().unwrap()),
            v6: Some("2001:db8:60::1".parse().unwrap()),
        },
        blocks: vec![cidr("10.5.1.0/24"), cidr("fd05:0:0:1::/64")],
        services: Vec::new(),
    }
}

fn peer(number: u8) -> OverlayPeer {
    OverlayPeer {
        host: format!("h{number}"),
        underlay: Underlay {
            v4: Some([198, 18, 60, number].into()),
            v6: Some(format!("2001:db8:60::{number:x}").parse().unwrap()),
        },
        mac: tunnel_mac(&format!("h{number}")),
        blocks: vec![
            cidr(&format!("10.5.{number}.0/24")),
            cidr(&format!("fd05:0:0:{number:x}::/64")),
        ],
        direct: None,
        public_key: None,
    }
}

fn wanted(mode: OverlayMode, peers: &[u8]) -> Wanted {
    Wanted {
        network: network(mode),
        peers: OverlayPeers {
            peers: peers.iter().copied().map(peer).collect(),
        },
    }
}

#[track_caller]
fn apply(host: &Netns, wanted: &Wanted) -> Changes {
    try_apply(host, wanted).expect("a tunnel")
}

fn try_apply(host: &Netns, wanted: &Wanted) -> Result<Changes, TunnelError> {
    let apply = || tunnel::apply(&mut RouteSocket::open().unwrap(), wanted);
    host.run(apply).unwrap()
}

/// Added, changed, removed; fails when something could not be made, and unless a second call changes nothing.
#[track_caller]
fn counts(host: &Netns, wanted: &Wanted) -> [usize; 3] {
    let changes = apply(host, wanted);
    assert!(changes.failed.is_empty(), "{changes:?}");
    let again = apply(host, wanted);
    assert!(again.is_none(), "{again:?}");
    [changes.added, changes.changed, changes.removed]
}

#[track_caller]
fn ip(host: &Netns, program: &str, arguments: &str) -> String {
    let mut command = Command::new(program);
    let run = || command.args(arguments.split_whitespace()).output();
    let output = host.run(run).unwrap().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// The tables as `ip` and `bridge` print them, sorted, without what the kernel adds by itself.
fn tables(host: &Netns) -> String {
    let list = |program, arguments: &str| ip(host, program, arguments);
    let listed = [
        list("ip", &format!("route show proto {PROTOCOL}")),
        list("ip", &format!("-6 route show proto {PROTOCOL}")),
        list("ip", "neigh show nud permanent"),
        list("bridge", "fdb show"),
    ]
    .join("");
    let multicast = |line: &&str| line.contains("33:33:") || line.contains("01:00:5e");
    let mut lines: Vec<&str> = listed.lines().filter(|line| !multicast(line)).collect();
    lines.sort_unstable();
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn a_network_by_vxlan() {
    let (host, _beyond) = host();
    let two = wanted(OverlayMode::Vxlan, &[2, 3]);
    // The rules, the device and two addresses, two routes that refuse; of each host two routes, two neighbours, an entry.
    assert_eq!(counts(&host, &two), [4 + 2 + 10, 0, 0]);
    let listed = tables(&host);
    for line in [
        "unreachable 10.5.0.0/16 metric 2147483647",
        "10.5.2.0/24 via 10.5.2.0 dev vx-lan onlink",
        "10.5.3.0 dev vx-lan lladdr",
        "dev vx-lan dst 198.18.60.3 self permanent",
        "fd05:0:0:2::/64 via fe80::",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    let device = ip(&host, "ip", "-d link show vx-lan");
    for part in [
        "mtu 1450",
        "id 5",
        "local 198.18.60.1",
        "dstport 4789",
        "nolearning",
        &tunnel_mac("h1").to_string(),
        "alias pontoon lan",
    ] {
        assert!(device.contains(part), "{part} in\n{device}");
    }
    let own = ip(&host, "ip", "-o addr show vx-lan");
    assert!(
        own.contains("10.5.1.0/32") && own.contains("fd05:0:0:1::/128"),
        "{own}"
    );
    let read = |key: &str| ip(&host, "cat", &format!("/proc/sys/net/{key}"));
    assert_eq!(read("ipv4/conf/vx-lan/rp_filter"), "2\n");

    let one = wanted(OverlayMode::Vxlan, &[3]);
    assert_eq!(counts(&host, &one), [0, 1, 5]);
    let mut moved = one.clone();
    moved.peers.peers[0].underlay.v4 = Some([198, 18, 60, 33].into());
    moved.peers.peers[0].blocks.push(cidr("10.5.9.0/24"));
    assert_eq!(counts(&host, &moved), [1, 2, 0]);
    let remove = || {
        let subnets = [cidr("10.5.0.0/16"), cidr("fd05::/48")];
        tunnel::remove(&mut RouteSocket::open().unwrap(), "lan", &subnets)
    };
    let removed = host.run(remove).unwrap().unwrap();
    assert_eq!((removed.removed, removed.added), (2 + 2 + 6, 0));
    assert!(host.run(remove).unwrap().unwrap().is_none());
    assert!(!tables(&host).contains("10.5"), "{}", tables(&host));
}

#[test]
fn what_others_change_is_mended_and_what_is_theirs_is_left() {
    let (host, _beyond) = host();
    let two = wanted(OverlayMode::Vxlan, &[2, 3]);
    apply(&host, &two);
    let before = tables(&host);
    let mac = tunnel_mac("h2");
    for (program, change, expected) in [
        (
            "bridge",
            format!("fdb del {mac} dev vx-lan self"),
            [1, 0, 0],
        ),
        (
            "bridge",
            format!("fdb replace {mac} dev vx-lan dst 198.18.60.9 self permanent"),
            [0, 1, 0],
        ),
        (
            "bridge",
            "fdb append 02:70:09:09:09:09 dev vx-lan dst 198.18.60.9 self permanent".into(),
            [0, 0, 1],
        ),
        ("ip", "neigh del 10.5.2.0 dev vx-lan".into(), [1, 0, 0]),
        (
            "ip",
            "neigh replace 10.5.2.0 lladdr 02:00:00:00:00:09 dev vx-lan nud permanent".into(),
            [0, 1, 0],
        ),
        (
            "ip",
            "neigh add 10.5.77.0 lladdr 02:00:00:00:00:09 dev vx-lan nud permanent".into(),
            [0, 0, 1],
        ),
        ("ip", "route del 10.5.3.0/24".into(), [1, 0, 0]),
        (
            "ip",
            format!("route replace 10.5.3.0/24 via 10.5.2.0 dev vx-lan onlink proto {PROTOCOL}"),
            [0, 1, 0],
        ),
        (
            "ip",
            format!("route add 10.5.88.0/24 via 198.18.60.9 proto {PROTOCOL}"),
            [0, 0, 1],
        ),
        ("ip", "-6 route del fd05:0:0:2::/64".into(), [1, 0, 0]),
        ("ip", "route del unreachable 10.5.0.0/16".into(), [1, 0, 0]),
        ("ip", "link set vx-lan mtu 1300".into(), [0, 1, 0]),
        ("ip", "addr del 10.5.1.0/32 dev vx-lan".into(), [5, 0, 0]),
        ("ip", "addr add 10.5.1.9/32 dev vx-lan".into(), [0, 0, 1]),
    ] {
        ip(&host, program, &change);
        assert_eq!(counts(&host, &two), expected, "{program} {change}");
        assert_eq!(tables(&host), before, "{program} {change}");
    }
    // Down takes the routes and, of IPv6, the addresses along.
    ip(&host, "ip", "link set vx-lan down");
    counts(&host, &two);
    assert_eq!(tables(&host), before);
    ip(&host, "ip", "link del vx-lan");
    counts(&host, &two);
    assert_eq!(tables(&host), before);
    // Another program's routes are its own, inside the subnet, too.
    ip(
        &host,
        "ip",
        "route add 10.5.99.0/24 via 198.18.60.9 proto static",
    );
    assert_eq!(counts(&host, &two), [0, 0, 0]);
    let theirs = ip(&host, "ip", "route show proto static");
    assert!(theirs.contains("10.5.99.0/24"), "{theirs}");
}

#[test]
fn hosts_on_the_same_link_are_reached_directly() {
    let (host, _beyond) = host();
    assert_eq!(
        counts(&host, &wanted(OverlayMode::Direct, &[2])),
        [1 + 2 + 2, 0, 0]
    );
    let listed = tables(&host);
    for line in [
        "10.5.2.0/24 via 198.18.60.2 dev eth0",
        "fd05:0:0:2::/64 via 2001:db8:60::2 dev eth0",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    assert!(!ip(&host, "ip", "link").contains("vx-lan"));
    let mut auto = wanted(OverlayMode::Auto, &[2, 3]);
    // Host 3 is somewhere else.
    auto.peers.peers[1].underlay.v4 = Some([203, 0, 113, 3].into());
    auto.peers.peers[1].underlay.v6 = None;
    ip(&host, "ip", "route add default via 198.18.60.254 mtu 1400");
    assert_eq!(counts(&host, &auto), [3 + 5, 1, 0]);
    let listed = tables(&host);
    for line in [
        "10.5.2.0/24 via 198.18.60.2 dev eth0",
        "10.5.3.0/24 via 10.5.3.0 dev vx-lan onlink",
        "dst 203.0.113.3 self permanent",
    ] {
        assert!(listed.contains(line), "{line} in\n{listed}");
    }
    let device = ip(&host, "ip", "link show vx-lan");
    assert!(device.contains("mtu 1350"), "1400 less 50: {device}");
    // The agent knows better.
    auto.peers.peers[0].direct = Some(false);
    let changed = counts(&host, &auto);
    assert_eq!(changed, [3, 2, 0]);
    let mut direct = wanted(OverlayMode::Direct, &[2, 3]);
    direct.peers.peers[1].underlay = auto.peers.peers[1].underlay;
    let changes = apply(&host, &direct);
    assert_eq!(changes.failed.len(), 2, "{changes:?}");
    assert!(
        changes.failed[0].contains("host h3 is not on the same link"),
        "{changes:?}"
    );
}

#[test]
fn an_underlay_of_ipv6() {
    let (host, _beyond) = host();
    let mut six = wanted(OverlayMode::Vxlan, &[2]);
    six.network.underlay.v4 = None;
    assert_eq!(counts(&host, &six), [4 + 2 + 5, 0, 0]);
    let device = ip(&host, "ip", "-d link show vx-lan");
    assert!(
        device.contains("mtu 1430") && device.contains("local 2001:db8:60::1"),
        "{device}"
    );
    assert!(
        tables(&host).contains("dst 2001:db8:60::2"),
        "{}",
        tables(&host)
    );
    // IPv4 blocks by IPv6 next hops.
    let mut direct = wanted(OverlayMode::Direct, &[2]);
    direct.network.underlay.v4 = None;
    direct.peers.peers[0].underlay.v4 = None;
    counts(&host, &direct);
    let listed = tables(&host);
    assert!(
        listed.contains("10.5.2.0/24 via inet6 2001:db8:60::2 dev eth0"),
        "{listed}"
    );
    // A host without an address of this family is told by name.
    six.peers.peers[0].underlay.v6 = None;
    let changes = apply(&host, &six);
    assert_eq!(changes.failed.len(), 1, "{changes:?}");
    assert!(
        changes.failed[0].contains("host h2 has no IPv6 address"),
        "{changes:?}"
    );
    assert!(!tables(&host).contains("10.5.2.0"), "{}", tables(&host));
}

#[test]
fn devices_that_are_in_the_way() {
    let (host, _beyond) = host();
    let wanted = wanted(OverlayMode::Vxlan, &[2]);
    // The tunnel address changes: the device is made anew.
    ip(
        &host,
        "ip",
        "link add vx-lan type vxlan id 5 local 198.18.60.77 dstport 4789 nolearning",
    );
    assert_eq!(counts(&host, &wanted), [4 + 2 + 5, 0, 1]);
    ip(&host, "ip", "link del vx-lan");
    // An older network of ours had this number.
    ip(
        &host,
        "ip",
        "link add vx-old type vxlan id 5 local 198.18.60.1 dstport 4789 nolearning",
    );
    ip(&host, "ip", "link set vx-old alias pontoon_old");
    let error = try_apply(&host, &wanted).unwrap_err();
    assert!(
        error.to_string().contains("vx-old has the VNI 5"),
        "{error}"
    );
    let mut alias = Command::new("ip");
    let alias = alias.args(["link", "set", "vx-old", "alias", "pontoon old"]);
    assert!(host.run(|| alias.status()).unwrap().unwrap().success());
    counts(&host, &wanted);
    ip(&host, "ip", "link del vx-lan");
    ip(&host, "ip", "link add vx-lan type bridge");
    let error = try_apply(&host, &wanted).unwrap_err();
    assert!(
        error.to_string().contains("vx-lan is there already"),
        "{error}"
    );
    ip(&host, "ip", "link del vx-lan");
    let mut elsewhere = wanted.clone();
    elsewhere.network.underlay = Underlay::of("198.18.60.7".parse().unwrap());
    let error = try_apply(&host, &elsewhere).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no interface of this host has 198.18.60.7"),
        "{error}"
    );
}

#[test]
fn contradictions_of_other_hosts_harm_no_one_else() {
    let (host, _beyond) = host();
    let mut wanted = wanted(OverlayMode::Vxlan, &[2, 3, 4, 1]);
    wanted.peers.peers[1].blocks[0] = cidr("10.5.1.0/24");
    wanted.peers.peers[2].blocks = vec![cidr("10.6.0.0/24")];
    let changes = apply(&host, &wanted);
    let told = changes.failed.join("\n");
    for part in [
        "block 10.5.1.0/24 of host h3 is a block of this host",
        "block 10.6.0.0/24 of host h4 is no part",
        "host h1 is this host itself",
    ] {
        assert!(told.contains(part), "{part} in\n{told}");
    }
    let listed = tables(&host);
    assert!(listed.contains("10.5.2.0/24 via 10.5.2.0"), "{listed}");
    assert!(
        !listed.contains("10.5.1.0/24") && !listed.contains("10.6."),
        "{listed}"
    );
}

#[test]
fn what_old_networks_have_left_is_swept() {
    let (host, _beyond) = host();
    let lan = wanted(OverlayMode::Vxlan, &[2]);
    let mut old = wanted(OverlayMode::Vxlan, &[2]);
    old.network.network = "old".to_owned();
    old.network.vni = 6;
    old.network.subnets = vec![OverlaySubnet {
        subnet: cidr("10.7.0.0/16"),
        block_prefix: 24,
    }];
    old.network.blocks = vec![cidr("10.7.1.0/24")];
    old.peers.peers[0].blocks = vec![cidr("10.7.2.0/24")];
    for wanted in [&lan, &old] {
        apply(&host, wanted);
    }
    ip(
        &host,
        "ip",
        "link add vx-theirs type vxlan id 9 local 198.18.60.1 dstport 4790 nolearning",
    );
    let sweep = || {
        tunnel::sweep(
            &mut RouteSocket::open().unwrap(),
            std::slice::from_ref(&lan),
        )
    };
    // The device, its rules, and the route that refuses.
    assert_eq!(host.run(sweep).unwrap().unwrap().removed, 3);
    assert!(apply(&host, &lan).is_none());
    let links = ip(&host, "ip", "link");
    assert!(
        links.contains("vx-theirs") && !links.contains("vx-old"),
        "{links}"
    );
}
