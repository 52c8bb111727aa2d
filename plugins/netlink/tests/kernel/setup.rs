use pontoon_netlink::{Error, RouteSpec, Setup, Step, sysctl};

use crate::scene::{Scene, ip, net, talk};

#[test]
fn a_container_talks_at_once() {
    let (mut scene, _, veth) = Scene::connected();
    for address in scene.inner.addresses(veth.peer_index).expect("addresses") {
        assert!(
            address.scope != 0 || !address.tentative,
            "no wait for duplicates: {address:?}"
        );
    }
    for address in ["10.9.0.1", "fd09::1"] {
        assert!(
            talk(&scene.container, &scene.host, address, 4000),
            "{address}"
        );
    }
    assert!(
        scene
            .inner
            .link_by_name("lo")
            .expect("an answer")
            .is_some_and(|lo| lo.up)
    );
}

#[test]
fn routes_have_all_their_attributes() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let routes = [
        RouteSpec {
            gateway: Some(ip("10.9.0.1")),
            mtu: Some(1200),
            advmss: Some(1100),
            ..RouteSpec::to(net("0.0.0.0/0"))
        },
        RouteSpec {
            priority: Some(77),
            ..RouteSpec::to(net("10.50.0.0/16"))
        },
        RouteSpec {
            gateway: Some(ip("10.9.0.9")),
            table: Some(1000),
            ..RouteSpec::to(net("10.60.0.0/16"))
        },
        RouteSpec {
            gateway: Some(ip("fd09::1")),
            mtu: Some(1280),
            ..RouteSpec::to(net("::/0"))
        },
        // The gateway is reached through the route before it.
        RouteSpec::to(net("169.254.1.1/32")),
        RouteSpec {
            gateway: Some(ip("169.254.1.1")),
            ..RouteSpec::to(net("10.70.0.0/16"))
        },
    ];
    let addresses = [net("10.9.0.2/24"), net("fd09::2/64")];
    let setup = Setup {
        lo_up: true,
        index: veth.peer_index,
        addresses: &addresses,
        up: true,
        routes: &routes,
        arp_notify: true,
        ..Setup::default()
    };
    scene.inner.configure(&setup).expect("the container's side");

    let v4 = scene.inner.routes(true).expect("routes");
    let find = |dst: &str| {
        v4.iter()
            .find(|route| route.destination == net(dst))
            .unwrap_or_else(|| panic!("{dst}: {v4:?}"))
    };
    let default = find("0.0.0.0/0");
    assert_eq!(
        (default.gateway, default.mtu, default.advmss),
        (Some(ip("10.9.0.1")), Some(1200), Some(1100))
    );
    assert_eq!(
        (find("10.50.0.0/16").priority, find("10.50.0.0/16").scope),
        (Some(77), 253)
    );
    assert_eq!(find("10.70.0.0/16").gateway, Some(ip("169.254.1.1")));
    assert!(
        v4.iter().all(|route| route.table == 254),
        "only the main table: {v4:?}"
    );
    assert_eq!(
        scene
            .inner
            .routes_of_table(true, 1000)
            .expect("routes")
            .len(),
        1
    );
    assert_eq!(
        scene
            .inner
            .routes_of_table(true, 1001)
            .expect("no such table"),
        []
    );
    let v6 = scene.inner.routes(false).expect("routes");
    let default = v6
        .iter()
        .find(|route| route.destination == net("::/0"))
        .expect("a default route");
    assert_eq!(
        (default.gateway, default.mtu),
        (Some(ip("fd09::1")), Some(1280))
    );
    assert_eq!(
        scene
            .inner
            .uplink()
            .expect("an answer")
            .map(|link| link.name),
        Some("eth0".into())
    );

    let notify = scene
        .container
        .run(|| sysctl::read("net/ipv4/conf/eth0/arp_notify"))
        .expect("the namespace");
    assert_eq!(notify.expect("the parameter"), "1");
}

#[test]
fn several_gateways_share_one_destination() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let via = |dst: &str, gateway: &str| RouteSpec {
        gateway: Some(ip(gateway)),
        ..RouteSpec::to(net(dst))
    };
    let routes = [
        via("10.80.0.0/16", "10.9.0.1"),
        via("10.80.0.0/16", "10.9.0.3"),
        via("10.80.0.0/16", "10.9.0.1"),
        via("fd80::/64", "fd09::1"),
        via("fd80::/64", "fd09::3"),
    ];
    let addresses = [net("10.9.0.2/24"), net("fd09::2/64")];
    let setup = Setup {
        index: veth.peer_index,
        addresses: &addresses,
        up: true,
        routes: &routes,
        ..Setup::default()
    };
    scene.inner.configure(&setup).expect("the container's side");
    for (v4, dst, gateways) in [
        (true, "10.80.0.0/16", ["10.9.0.1", "10.9.0.3"]),
        (false, "fd80::/64", ["fd09::1", "fd09::3"]),
    ] {
        let routes = scene.inner.routes(v4).expect("routes");
        let found: Vec<_> = routes
            .iter()
            .filter(|route| route.destination == net(dst))
            .collect();
        assert_eq!(found.len(), 1, "{routes:?}");
        let mut seen: Vec<_> = found[0]
            .next_hops
            .iter()
            .filter_map(|hop| hop.gateway)
            .collect();
        seen.sort();
        assert_eq!(seen, gateways.map(ip));
    }
}

#[test]
fn failures_name_their_step() {
    let mut scene = Scene::new();
    let veth = scene.plug(None);
    let lost = [RouteSpec {
        gateway: Some(ip("192.0.2.1")),
        ..RouteSpec::to(net("0.0.0.0/0"))
    }];
    let addresses = [net("10.9.0.2/24")];
    let setup = Setup {
        index: veth.peer_index,
        addresses: &addresses,
        up: true,
        routes: &lost,
        ..Setup::default()
    };
    let error = scene
        .inner
        .configure(&setup)
        .expect_err("a gateway that is nowhere");
    assert!(
        matches!(&error, Error::Setup { step, .. } if matches!(**step, Step::Route(route) if route.gateway == lost[0].gateway)),
        "{error:?}"
    );
    assert!(error.to_string().contains("192.0.2.1"), "{error}");

    let error = scene
        .inner
        .configure(&setup)
        .expect_err("the address is there");
    assert!(matches!(error, Error::AddressTaken { .. }), "{error:?}");

    let off = || sysctl::write_if_different("net/ipv6/conf/eth0/disable_ipv6", "1");
    assert!(
        scene
            .container
            .run(off)
            .expect("the namespace")
            .expect("the parameter")
    );
    let addresses = [net("fd09::2/64")];
    let setup = Setup {
        index: veth.peer_index,
        addresses: &addresses,
        up: true,
        ..Setup::default()
    };
    let error = scene.inner.configure(&setup).expect_err("IPv6 is off");
    assert!(matches!(error, Error::Ipv6Disabled { .. }), "{error:?}");
    let error = scene
        .inner
        .add_address(veth.peer_index, addresses[0], true)
        .expect_err("IPv6 is off");
    assert!(matches!(error, Error::Ipv6Disabled { .. }), "{error:?}");
}
