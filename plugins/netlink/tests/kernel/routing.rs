use pontoon_netlink::{RouteSpec, sysctl};

use crate::scene::{Scene, ip, net};

#[test]
fn addresses_come_and_go_once() {
    let mut scene = Scene::new();
    let bridge = scene.bridge("br0").index;
    for address in ["10.9.0.1/24", "fd09::1/64"] {
        let address = net(address);
        assert!(
            scene
                .outer
                .add_address(bridge, address, true)
                .expect("added")
        );
        assert!(
            !scene
                .outer
                .add_address(bridge, address, true)
                .expect("there already")
        );
        let listed = scene.outer.addresses(bridge).expect("addresses");
        assert!(
            listed
                .iter()
                .any(|known| known.cidr == address && known.index == bridge),
            "{listed:?}"
        );
        assert!(
            scene
                .outer
                .remove_address(bridge, address)
                .expect("removed")
        );
        assert!(
            !scene
                .outer
                .remove_address(bridge, address)
                .expect("gone already")
        );
    }
    assert!(
        scene.outer.addresses(1).expect("addresses").is_empty(),
        "loopback is down and has none"
    );
    assert!(
        scene
            .outer
            .addresses(4000)
            .expect("no such link")
            .is_empty()
    );
}

#[test]
fn routes_come_and_go_once() {
    let (mut scene, bridge, _) = Scene::connected();
    for (dst, gateway, probe) in [
        ("10.40.0.0/16", "10.9.0.2", "10.40.1.1"),
        ("fd40::/64", "fd09::2", "fd40::1"),
    ] {
        let route = RouteSpec {
            gateway: Some(ip(gateway)),
            interface: Some(bridge.index),
            ..RouteSpec::to(net(dst))
        };
        assert_eq!(scene.outer.route_to(ip(probe)).expect("an answer"), None);
        assert!(scene.outer.add_route(&route).expect("added"));
        assert!(!scene.outer.add_route(&route).expect("there already"));
        let way = scene
            .outer
            .route_to(ip(probe))
            .expect("an answer")
            .expect("a way");
        assert_eq!(
            (way.interface, way.gateway),
            (Some(bridge.index), Some(ip(gateway)))
        );
        assert!(scene.outer.remove_route(&route).expect("removed"));
        assert!(!scene.outer.remove_route(&route).expect("gone already"));
    }
    assert_eq!(scene.outer.uplink().expect("an answer"), None);
    let local = scene
        .outer
        .route_to(ip("10.9.0.1"))
        .expect("an answer")
        .expect("a way");
    assert_eq!(local.kind, 2, "RTN_LOCAL");
}

#[test]
fn a_parameter_is_written_when_it_differs() {
    let scene = Scene::new();
    let twice = || {
        let path = "net/ipv4/ip_forward";
        let before = sysctl::read(path).expect("the parameter");
        let changed = [
            sysctl::write_if_different(path, "1"),
            sysctl::write_if_different(path, "1"),
        ];
        (
            before,
            changed.map(|done| done.expect("written")),
            sysctl::read(path).expect("the parameter"),
        )
    };
    let (before, changed, after) = scene.host.run(twice).expect("the namespace");
    assert_eq!(
        (before.as_str(), changed, after.as_str()),
        ("0", [true, false], "1")
    );
    let missing =
        sysctl::write_if_different("net/ipv4/no_such_thing", "1").expect_err("no such parameter");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
}
