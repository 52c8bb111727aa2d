use pontoon_netlink::{
    Forwarding, Link, LinkChange, RouteSocket, RouteSpec, Setup, TableChange, TableEntry, VxlanSpec,
};

use crate::scene::{Scene, ip, net};

const PROTOCOL: u8 = 80;

fn device(socket: &mut RouteSocket, local: &str) -> Link {
    let loopback = Setup {
        lo_up: true,
        index: 1,
        up: true,
        ..Setup::default()
    };
    socket.configure(&loopback).expect("a loopback");
    let spec = VxlanSpec {
        name: "vx-lan",
        vni: 7,
        local: ip(local),
        port: 4790,
        mac: [2, 0x70, 0, 0, 0, 1],
        mtu: 1430,
        alias: Some("pontoon lan"),
    };
    socket.create_vxlan(&spec).expect("a vxlan device")
}

fn up(socket: &mut RouteSocket, link: &Link) -> u32 {
    let change = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    socket.set_link(link.index, &change).expect("up");
    link.index
}

#[test]
fn a_device_is_born_with_all_that_it_needs() {
    for local in ["198.18.60.1", "2001:db8::1"] {
        let mut scene = Scene::new();
        let made = device(&mut scene.outer, local);
        let found = scene.outer.link_by_name("vx-lan").expect("an answer");
        let found = found.expect("the device");
        for link in [&made, &found] {
            let info = link.vxlan.expect("what only vxlan devices have");
            assert_eq!((info.vni, info.port, info.learning), (7, 4790, false));
            assert_eq!(info.local, Some(ip(local)));
            assert_eq!(link.mac, Some([2, 0x70, 0, 0, 0, 1]));
            assert_eq!((link.mtu, link.up), (1430, false));
            assert_eq!(link.alias.as_deref(), Some("pontoon lan"));
        }
        let twin = VxlanSpec {
            name: "vx-other",
            vni: 7,
            local: ip(local),
            port: 4790,
            mac: [2, 0x70, 0, 0, 0, 1],
            mtu: 1430,
            alias: None,
        };
        let error = scene.outer.create_vxlan(&twin).expect_err("a second one");
        assert!(error.is_exists(), "{error}");
    }
}

/// Entry number `number` of each table, toward hosts of one family.
fn entries(device: u32, number: u8, v4: bool) -> [TableEntry; 5] {
    let mac = [2, 0x70, 0, 0, 1, number];
    let remote = match v4 {
        true => format!("198.18.61.{number}"),
        false => format!("2001:db8::1:{number}"),
    };
    let (next4, next6) = (format!("10.5.{number}.0"), format!("fe80::70:{number:x}"));
    let route = |dst: String, gateway: &str| {
        TableEntry::Route(RouteSpec {
            gateway: Some(ip(gateway)),
            interface: Some(device),
            protocol: Some(PROTOCOL),
            onlink: true,
            ..RouteSpec::to(net(&dst))
        })
    };
    let neighbour = |address: &str| TableEntry::Neighbour {
        interface: device,
        address: ip(address),
        mac,
    };
    [
        route(format!("10.5.{number}.0/24"), &next4),
        route(format!("fd05:0:0:{number:x}::/64"), &next6),
        neighbour(&next4),
        neighbour(&next6),
        TableEntry::Forwarding(Forwarding {
            interface: device,
            mac,
            remote: ip(&remote),
        }),
    ]
}

fn count(socket: &mut RouteSocket, device: u32) -> [usize; 4] {
    let neighbours = socket.neighbours_on(device).expect("neighbours");
    let permanent = neighbours.iter().filter(|it| it.permanent).count();
    let mut routes = |v4| {
        let routes = socket.routes_of_protocol(v4, PROTOCOL).expect("routes");
        assert!(routes.iter().all(|it| it.interface == Some(device)));
        routes.len()
    };
    let (v4, v6) = (routes(true), routes(false));
    let entries = socket.forwarding_of(device).expect("forwarding entries");
    [v4, v6, permanent, entries.len()]
}

#[test]
fn entries_by_the_hundred_come_and_go() {
    for v4 in [true, false] {
        let local = if v4 { "198.18.60.1" } else { "2001:db8::1" };
        let mut scene = Scene::new();
        let link = device(&mut scene.outer, local);
        let index = up(&mut scene.outer, &link);
        let all: Vec<TableEntry> = (1..=200)
            .flat_map(|number| entries(index, number, v4))
            .collect();
        let add: Vec<_> = all.iter().copied().map(TableChange::Add).collect();
        let failed = scene.outer.change_tables(&add).expect("added");
        assert!(failed.is_empty(), "{:?}", failed.first());
        assert_eq!(count(&mut scene.outer, index), [200, 200, 400, 200]);
        let again = scene.outer.change_tables(&add[..2]).expect("an answer");
        assert_eq!(again.len(), 2, "they are there: {again:?}");
        assert!(again[1].0 == 1 && again[1].1.is_exists(), "{again:?}");
        let replace: Vec<_> = all.iter().copied().map(TableChange::Replace).collect();
        let failed = scene.outer.change_tables(&replace).expect("replaced");
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(count(&mut scene.outer, index), [200, 200, 400, 200]);
        let remove: Vec<_> = all.iter().copied().map(TableChange::Remove).collect();
        for _ in 0..2 {
            let failed = scene.outer.change_tables(&remove).expect("removed");
            assert!(failed.is_empty(), "{failed:?}");
            assert_eq!(count(&mut scene.outer, index), [0; 4]);
        }
    }
}

#[test]
fn a_failure_is_told_with_its_position_and_the_rest_is_done() {
    let mut scene = Scene::new();
    let link = device(&mut scene.outer, "198.18.60.1");
    let index = up(&mut scene.outer, &link);
    let refuse = |subnet: &str| {
        TableEntry::Route(RouteSpec {
            unreachable: true,
            protocol: Some(PROTOCOL),
            priority: Some(9),
            ..RouteSpec::to(net(subnet))
        })
    };
    let gone = TableEntry::Neighbour {
        interface: 4000,
        address: ip("10.5.1.0"),
        mac: [2; 6],
    };
    let changes = [refuse("10.5.0.0/16"), gone, refuse("fd05::/48")].map(TableChange::Add);
    let failed = scene.outer.change_tables(&changes).expect("an answer");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].0, 1);
    let told = failed[0].1.to_string();
    assert!(told.contains("neighbour 10.5.1.0"), "{told}");
    for (v4, subnet) in [(true, "10.5.0.0/16"), (false, "fd05::/48")] {
        let routes = scene.outer.routes_of_protocol(v4, PROTOCOL);
        let routes = routes.expect("routes");
        assert_eq!(routes.len(), 1, "{routes:?}");
        // RTN_UNREACHABLE
        assert_eq!((routes[0].destination, routes[0].kind), (net(subnet), 7));
    }
    let change = changes.map(|change| TableChange::Remove(*change.entry()));
    assert!(scene.outer.change_tables(&change).expect("gone").is_empty());
    assert_eq!(count(&mut scene.outer, index)[..2], [0, 0]);
}
