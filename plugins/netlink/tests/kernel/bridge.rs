use pontoon_netlink::{
    BridgeSpec, Error, LinkChange, VethSpec, VlanRange, vlan_filtering_supported,
};

use crate::scene::Scene;

#[test]
fn a_bridge_is_born_up_with_its_own_address() {
    let mut scene = Scene::new();
    let mac = [2, 0x42, 1, 2, 3, 4];
    let spec = BridgeSpec {
        name: "br0",
        mac,
        mtu: Some(1400),
        alias: Some("ours"),
        ..BridgeSpec::default()
    };
    let made = scene.outer.create_bridge(&spec).expect("a bridge");
    assert_eq!(
        (made.name.as_str(), made.mac, made.mtu, made.up),
        ("br0", Some(mac), 1400, true)
    );
    scene.plug(Some(made.index));
    let found = scene
        .outer
        .link_by_name("br0")
        .expect("an answer")
        .expect("the bridge");
    assert_eq!(
        (found.mac, found.alias.as_deref()),
        (Some(mac), Some("ours")),
        "ports do not change its address"
    );
    assert_eq!(found.kind.as_deref(), Some("bridge"));

    let error = scene.outer.create_bridge(&spec).expect_err("made already");
    assert!(
        matches!(error, Error::NameTaken { .. }) && error.is_exists(),
        "{error:?}"
    );
}

#[test]
fn vlan_filtering_works_or_is_refused() {
    let mut scene = Scene::new();
    let spec = BridgeSpec {
        name: "br0",
        mac: [2, 0, 0, 0, 0, 1],
        vlan_filtering: true,
        ..BridgeSpec::default()
    };
    let made = scene.outer.create_bridge(&spec);
    if vlan_filtering_supported() {
        let bridge = made.expect("a bridge");
        assert_eq!(
            bridge
                .bridge
                .map(|info| (info.vlan_filtering, info.vlan_supported)),
            Some((true, true))
        );
        let veth = scene.plug(Some(bridge.index));
        let range = VlanRange {
            first: 10,
            last: 20,
            ..VlanRange::default()
        };
        scene
            .outer
            .port_vlans(veth.index, &[range], &[])
            .expect("VLANs");
    } else {
        let error = made.expect_err("no VLAN filtering");
        assert!(matches!(error, Error::NoVlanFiltering { .. }), "{error:?}");
        assert_eq!(
            scene.outer.link_by_name("br0").expect("an answer"),
            None,
            "nothing is left"
        );
        let bridge = scene.bridge("br1");
        let veth = scene.plug(Some(bridge.index));
        let range = VlanRange {
            first: 10,
            last: 10,
            ..VlanRange::default()
        };
        assert!(scene.outer.port_vlans(veth.index, &[range], &[]).is_err());
    }
}

#[test]
fn the_kernel_chooses_what_is_listed() {
    let mut scene = Scene::new();
    let (first, second) = (scene.bridge("br0").index, scene.bridge("br1").index);
    for (name, peer, master) in [
        ("v1", "e1", first),
        ("v2", "e2", first),
        ("v3", "e3", second),
    ] {
        let spec = VethSpec {
            master: Some(master),
            ..VethSpec::new(name, peer, &scene.container)
        };
        scene.outer.create_veth(&spec).expect("a veth pair");
    }
    let mut names: Vec<_> = scene
        .outer
        .links_of_bridge(first)
        .expect("ports")
        .into_iter()
        .map(|l| l.name)
        .collect();
    names.sort();
    assert_eq!(names, ["v1", "v2"]);
    assert_eq!(
        scene.outer.links_of_kind("bridge").expect("bridges").len(),
        2
    );
    assert_eq!(
        scene.outer.links().expect("all").len(),
        6,
        "loopback, two bridges, three ports"
    );
}

#[test]
fn a_link_changes_and_goes() {
    let mut scene = Scene::new();
    let bridge = scene.bridge("br0").index;
    let veth = scene.plug(Some(bridge));
    let change = LinkChange {
        promisc: Some(true),
        mtu: Some(1300),
        hairpin: Some(true),
        alias: Some("note".into()),
        group: Some(7),
        ..LinkChange::default()
    };
    scene.outer.set_link(veth.index, &change).expect("a change");
    let link = scene
        .outer
        .link_by_index(veth.index)
        .expect("an answer")
        .expect("the link");
    assert_eq!(
        (link.promisc, link.mtu, link.group, link.up),
        (true, 1300, 7, true)
    );
    assert_eq!(
        (
            link.port.map(|port| (port.hairpin, port.isolated)),
            link.alias.as_deref()
        ),
        (Some((true, false)), Some("note"))
    );

    for on in [false, true] {
        scene
            .outer
            .set_hairpin(veth.index, on)
            .expect("hairpin mode");
        let link = scene.outer.link_by_index(veth.index).expect("an answer");
        let port = link.expect("the link").port;
        assert_eq!(port.map(|port| port.hairpin), Some(on));
    }
    scene
        .outer
        .set_hairpin(bridge, true)
        .expect_err("a bridge is no port");

    let back = LinkChange {
        promisc: Some(false),
        master: Some(None),
        up: Some(false),
        ..LinkChange::default()
    };
    scene.outer.set_link(veth.index, &back).expect("a change");
    let link = scene
        .outer
        .link_by_index(veth.index)
        .expect("an answer")
        .expect("the link");
    assert_eq!(
        (link.promisc, link.master, link.up, link.port),
        (false, None, false, None)
    );

    assert!(scene.outer.delete_link(veth.index).expect("a deletion"));
    assert!(!scene.outer.delete_link(veth.index).expect("gone already"));
    assert_eq!(
        scene.inner.link_by_name("eth0").expect("an answer"),
        None,
        "the peer went too"
    );
}
