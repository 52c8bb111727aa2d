use pontoon_netlink::{Error, LinkChange, PortFlags, VethSpec};

use crate::scene::{MAC, Scene};

#[test]
fn both_ends_are_born_in_place() {
    let mut scene = Scene::new();
    let bridge = scene.bridge("br0");
    let port = PortFlags {
        hairpin: true,
        isolated: true,
    };
    let mac = [2, 0x42, 0, 0, 9, 9];
    let spec = VethSpec {
        master: Some(bridge.index),
        mtu: Some(1400),
        mac: Some(mac),
        peer_mac: Some(MAC),
        alias: Some("net/container/eth0"),
        port,
        ..VethSpec::new("veth0", "eth0", &scene.container)
    };
    let veth = scene.outer.create_veth(&spec).expect("a veth pair");

    let host = scene
        .outer
        .link_by_index(veth.index)
        .expect("an answer")
        .expect("the host's end");
    assert_eq!(
        (host.name.as_str(), host.kind.as_deref(), host.up),
        ("veth0", Some("veth"), true)
    );
    assert_eq!(
        (host.master, host.mtu, host.mac),
        (Some(bridge.index), 1400, Some(mac))
    );
    assert_eq!(
        (host.alias.as_deref(), host.port),
        (Some("net/container/eth0"), Some(port))
    );
    assert_eq!((host.peer, veth.mac), (Some(veth.peer_index), mac));

    let peer = scene
        .inner
        .link_by_name("eth0")
        .expect("an answer")
        .expect("the container's end");
    assert_eq!(
        (peer.index, peer.up, peer.mtu, peer.mac),
        (veth.peer_index, false, 1400, Some(MAC))
    );
    assert_eq!(peer.peer, Some(veth.index));
}

#[test]
fn a_pair_needs_nothing_but_names() {
    let mut scene = Scene::new();
    let spec = VethSpec::new("a", "b", &scene.container);
    let veth = scene.outer.create_veth(&spec).expect("a veth pair");
    let host = scene
        .outer
        .link_by_name("a")
        .expect("an answer")
        .expect("the host's end");
    assert_eq!(
        (host.index, host.up, host.master, host.alias),
        (veth.index, true, None, None)
    );
    assert_eq!(host.mac, Some(veth.mac));
}

#[test]
fn a_taken_name_is_told_from_a_taken_peer_name() {
    let mut scene = Scene::new();
    let first = scene.plug(None);
    let theirs = LinkChange {
        alias: Some("theirs".into()),
        ..LinkChange::default()
    };
    scene
        .outer
        .set_link(first.index, &theirs)
        .expect("an alias");

    let same = VethSpec {
        alias: Some("ours"),
        ..VethSpec::new("veth0", "eth1", &scene.container)
    };
    let error = scene
        .outer
        .create_veth(&same)
        .expect_err("the host's name is taken");
    assert!(
        matches!(error, Error::NameTaken { ref name } if name == "veth0") && error.is_exists(),
        "{error:?}"
    );
    let link = scene
        .outer
        .link_by_name("veth0")
        .expect("an answer")
        .expect("the first pair");
    assert_eq!(
        link.alias.as_deref(),
        Some("theirs"),
        "another owner's link is not touched"
    );

    let same = VethSpec {
        alias: Some("ours"),
        ..VethSpec::new("veth1", "eth0", &scene.container)
    };
    let error = scene
        .outer
        .create_veth(&same)
        .expect_err("the container's name is taken");
    assert!(
        matches!(error, Error::PeerNameTaken { .. }) && error.to_string().contains("eth0"),
        "{error:?}"
    );
    assert_eq!(scene.outer.link_by_name("veth1").expect("an answer"), None);
}

#[test]
fn a_master_must_be_a_bridge_and_have_room() {
    let mut scene = Scene::new();
    for master in [1, 4000] {
        let spec = VethSpec {
            master: Some(master),
            ..VethSpec::new("veth0", "eth0", &scene.container)
        };
        let error = scene.outer.create_veth(&spec).expect_err("no bridge");
        assert!(
            matches!(error, Error::NoBridge { master: named, .. } if named == master),
            "{error:?}"
        );
        assert_eq!(scene.outer.link_by_name("veth0").expect("an answer"), None);
        assert_eq!(scene.inner.link_by_name("eth0").expect("an answer"), None);
    }
    let bridge = scene.bridge("br0").index;
    for port in 0..1023 {
        let (name, peer) = (format!("v{port}"), format!("e{port}"));
        let spec = VethSpec {
            master: Some(bridge),
            ..VethSpec::new(&name, &peer, &scene.container)
        };
        scene.outer.create_veth(&spec).expect("a port");
    }
    let spec = VethSpec {
        master: Some(bridge),
        ..VethSpec::new("veth0", "eth0", &scene.container)
    };
    let error = scene.outer.create_veth(&spec).expect_err("a full bridge");
    assert!(
        matches!(error, Error::BridgeFull { .. }) && error.is_bridge_full(),
        "{error:?}"
    );
    assert_eq!(
        scene.outer.links_of_bridge(bridge).expect("ports").len(),
        1023
    );
    assert_eq!(scene.inner.link_by_name("eth0").expect("an answer"), None);
}

#[test]
fn an_mtu_out_of_range_is_named() {
    let mut scene = Scene::new();
    let spec = VethSpec {
        mtu: Some(20),
        ..VethSpec::new("veth0", "eth0", &scene.container)
    };
    let error = scene.outer.create_veth(&spec).expect_err("too small");
    assert!(error.to_string().contains("MTU 20"), "{error}");
}

#[test]
fn a_port_has_no_address_of_its_own() {
    let (mut scene, _, veth) = Scene::connected();
    let addresses = scene.outer.addresses(veth.index).expect("an answer");
    assert_eq!(addresses, [], "not even a link-local one");
    let inside = scene.inner.addresses(veth.peer_index).expect("an answer");
    assert!(
        inside
            .iter()
            .any(|address| address.cidr.to_string().starts_with("fe80:")),
        "the container's end does: {inside:?}"
    );
}

#[test]
fn a_port_too_small_for_ipv6_is_tagged_all_the_same() {
    let mut scene = Scene::new();
    let bridge = scene.bridge("br0");
    let spec = VethSpec {
        master: Some(bridge.index),
        mtu: Some(600),
        alias: Some("ours"),
        ..VethSpec::new("veth0", "eth0", &scene.container)
    };
    let veth = scene.outer.create_veth(&spec).expect("a veth pair");
    let link = scene.outer.link_by_index(veth.index).expect("an answer");
    let link = link.expect("the host's end");
    assert_eq!((link.alias.as_deref(), link.mtu), (Some("ours"), 600));
}

/// prevResult may hold any text as a name: 66,000 bytes of it must neither panic nor be cut.
#[test]
fn a_name_or_an_alias_that_is_too_long_is_refused() {
    let mut scene = Scene::new();
    let long = "x".repeat(66_000);
    #[track_caller]
    fn check<T: std::fmt::Debug>(outcome: Result<T, Error>, limit: &str) {
        let error = outcome.expect_err("refused").to_string();
        assert!(error.contains(limit) && error.len() < 200, "{error}");
    }
    let name_limit = "66000 bytes, and 15 are the most";
    check(scene.outer.link_by_name(&long), name_limit);
    for (name, peer) in [(long.as_str(), "eth0"), ("veth0", long.as_str())] {
        let spec = VethSpec::new(name, peer, &scene.container);
        check(scene.outer.create_veth(&spec), name_limit);
    }
    let name = LinkChange {
        name: Some(long.clone()),
        ..LinkChange::default()
    };
    check(scene.outer.set_link(1, &name), name_limit);
    let alias = LinkChange {
        alias: Some(long),
        ..LinkChange::default()
    };
    let alias_limit = "66000 bytes, and 255 are the most";
    check(scene.outer.set_link(1, &alias), alias_limit);
}
