//! Results: the exact text of every version, and what survives the way through each.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use pontoon_conf::{AddResult, Cidr, Dns, Error, Interface, IpConfig, Route, Version, code};
use serde_json::{Value, json};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// One of everything.
fn full() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface {
                name: "cni0".into(),
                mac: Some("02:42:00:00:00:01".into()),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mac: Some("02:42:00:00:00:02".into()),
                mtu: Some(1400),
                sandbox: Some("/run/netns/c1".into()),
                socket_path: Some("/run/vhost.sock".into()),
                pci_id: Some("0000:00:1f.6".into()),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: cidr("10.1.2.3/24"),
                gateway: Some("10.1.2.1".parse().unwrap()),
            },
            IpConfig {
                interface: Some(1),
                address: cidr("2001:db8::3/64"),
                gateway: None,
            },
        ],
        routes: vec![
            Route {
                gw: Some("10.1.2.1".parse().unwrap()),
                mtu: Some(1300),
                advmss: Some(1200),
                priority: Some(5),
                table: Some(100),
                scope: Some(0),
                ..Route::to(cidr("0.0.0.0/0"))
            },
            Route::to(cidr("::/0")),
        ],
        dns: Dns {
            nameservers: vec!["10.1.2.1".into()],
            domain: Some("local".into()),
            search: vec!["local".into()],
            options: vec!["ndots:0".into()],
        },
    }
}

fn write(attached: &AddResult, version: Version) -> String {
    attached
        .to_json(version)
        .expect("the version has a place for it")
}

#[track_caller]
fn check(attached: &AddResult, version: Version, expected: Value) {
    let text = write(attached, version);
    // Compared as text, so that the order of the keys counts.
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value.to_string(), expected.to_string());
}

#[test]
fn addresses_are_the_containers_unless_they_name_another_interface() {
    let text = |index: Value| json!({ "address": "10.9.0.2/24", "interface": index });
    let given = |ip: Value, name: &str| {
        let result = json!({
            "interfaces": [{ "name": "eth0" }, { "name": "eth0", "sandbox": "/run/netns/c" }],
            "ips": [ip],
        });
        let attached = AddResult::parse(&result, Version::V1_0_0).unwrap();
        attached.ips_of(name).count()
    };
    for (index, counts) in [(json!(1), 1), (json!(0), 0), (json!(2), 1), (json!(-1), 1)] {
        assert_eq!(given(text(index.clone()), "eth0"), counts, "{index}");
    }
    assert_eq!(given(json!({ "address": "10.9.0.2/24" }), "eth0"), 1);
    assert_eq!(given(text(json!(1)), "eth1"), 0);
}

#[test]
fn addresses_are_canonical() {
    let result = json!({
        "ips": [{ "address": "::ffff:10.9.0.2/120", "gateway": "::ffff:10.9.0.1" }],
        "routes": [{ "dst": "::ffff:0.0.0.0/96", "gw": "::ffff:10.9.0.1" }],
    });
    let attached = AddResult::parse(&result, Version::V1_0_0).unwrap();
    let gateway = Some("10.9.0.1".parse().unwrap());
    assert_eq!(attached.ips[0].address, cidr("10.9.0.2/24"));
    assert_eq!(attached.ips[0].gateway, gateway);
    assert_eq!(attached.routes[0].dst, cidr("0.0.0.0/0"));
    assert_eq!(attached.routes[0].gw, gateway);
}

#[test]
fn shape_of_0_1_and_0_2() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        check(
            &full(),
            version,
            json!({
                "cniVersion": version.as_str(),
                "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1",
                    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]},
                "ip6": {"ip": "2001:db8::3/64", "routes": [{"dst": "::/0"}]},
                "dns": {"nameservers": ["10.1.2.1"], "domain": "local", "search": ["local"],
                    "options": ["ndots:0"]},
            }),
        );
    }
}

#[test]
fn the_old_shape_takes_one_address_of_each_family() {
    let mut many = full();
    many.ips.insert(1, many.ips[0].clone());
    many.ips[1].address = cidr("10.9.9.9/8");
    many.routes.clear();
    many.dns = Dns::default();
    check(
        &many,
        Version::V0_2_0,
        json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1"},
            "ip6": {"ip": "2001:db8::3/64"},
            "dns": {},
        }),
    );
}

#[test]
fn the_old_shape_needs_an_address() {
    let none = AddResult {
        ips: Vec::new(),
        ..full()
    };
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let error = none.to_json(version).unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert_eq!(error.msg, "cannot convert: no valid IP addresses");
        assert!(error.details.contains("0.3.1"), "{error}");
    }
    assert!(none.to_json(Version::V0_3_0).is_ok());
}

#[test]
fn shape_of_0_3_and_0_4() {
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
        check(
            &full(),
            version,
            json!({
                "cniVersion": version.as_str(),
                "interfaces": [
                    {"name": "cni0", "mac": "02:42:00:00:00:01"},
                    {"name": "eth0", "mac": "02:42:00:00:00:02", "sandbox": "/run/netns/c1"},
                ],
                "ips": [
                    {"version": "4", "interface": 1, "address": "10.1.2.3/24",
                        "gateway": "10.1.2.1"},
                    {"version": "6", "interface": 1, "address": "2001:db8::3/64"},
                ],
                "routes": [
                    {"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1300, "advmss": 1200,
                        "priority": 5, "table": 100, "scope": 0},
                    {"dst": "::/0"},
                ],
                "dns": {"nameservers": ["10.1.2.1"], "domain": "local", "search": ["local"],
                    "options": ["ndots:0"]},
            }),
        );
    }
}

#[test]
fn shape_of_1_0() {
    check(
        &full(),
        Version::V1_0_0,
        json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:42:00:00:00:01"},
                {"name": "eth0", "mac": "02:42:00:00:00:02", "sandbox": "/run/netns/c1"},
            ],
            "ips": [
                {"interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                {"interface": 1, "address": "2001:db8::3/64"},
            ],
            "routes": [
                    {"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1300, "advmss": 1200,
                        "priority": 5, "table": 100, "scope": 0},
                    {"dst": "::/0"},
                ],
            "dns": {"nameservers": ["10.1.2.1"], "domain": "local", "search": ["local"],
                "options": ["ndots:0"]},
        }),
    );
}

#[test]
fn shape_of_1_1() {
    check(
        &full(),
        Version::V1_1_0,
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:42:00:00:00:01"},
                {"name": "eth0", "mac": "02:42:00:00:00:02", "mtu": 1400,
                    "sandbox": "/run/netns/c1", "socketPath": "/run/vhost.sock",
                    "pciID": "0000:00:1f.6"},
            ],
            "ips": [
                {"interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                {"interface": 1, "address": "2001:db8::3/64"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1300, "advmss": 1200,
                    "priority": 5, "table": 100, "scope": 0},
                {"dst": "::/0"},
            ],
            "dns": {"nameservers": ["10.1.2.1"], "domain": "local", "search": ["local"],
                "options": ["ndots:0"]},
        }),
    );
}

#[test]
fn an_empty_result() {
    for version in &Version::ALL[2..] {
        let expected = match *version < Version::V1_0_0 {
            true => json!({"cniVersion": version.as_str(), "dns": {}}),
            false => json!({"cniVersion": version.as_str()}),
        };
        check(&AddResult::default(), *version, expected);
    }
}

#[test]
fn four_spaces() {
    let attached = AddResult {
        ips: vec![IpConfig {
            interface: None,
            address: cidr("10.1.2.3/24"),
            gateway: None,
        }],
        ..AddResult::default()
    };
    assert_eq!(
        write(&attached, Version::V0_4_0),
        r#"{
    "cniVersion": "0.4.0",
    "ips": [
        {
            "version": "4",
            "address": "10.1.2.3/24"
        }
    ],
    "dns": {}
}"#
    );
}

#[track_caller]
fn read(value: Value) -> Result<AddResult, Error> {
    AddResult::parse(&value, Version::V1_0_0)
}

#[test]
fn an_address_managers_result() {
    let result = read(json!({
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.1.2.3/24", "gateway": ""}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "", "mtu": 0, "priority": 0, "scope": 253}],
        "dns": {"domain": ""},
    }))
    .unwrap();
    assert_eq!(result.interfaces, []);
    assert_eq!(
        (result.ips[0].interface, result.ips[0].gateway),
        (None, None)
    );
    let expected = Route {
        scope: Some(253),
        ..Route::to(cidr("0.0.0.0/0"))
    };
    assert_eq!(result.routes, [expected]);
    assert!(result.dns.is_empty());
}

#[test]
fn old_ways_of_writing() {
    // The text of 0.3.0 called the list `ip`; its plugins wrote -1 for no interface.
    let result = read(json!({
        "cniVersion": "0.3.0",
        "ip": [{"version": "4", "address": "10.1.2.3/24", "interface": -1}],
    }))
    .unwrap();
    assert_eq!(result.ips[0].address, cidr("10.1.2.3/24"));
    assert_eq!(result.ips[0].interface, None);
    // Go's decoder knows no case.
    let result = read(json!({"IP4": {"IP": "10.1.2.3/24"}, "Interfaces": null})).unwrap();
    assert_eq!(result.ips[0].address, cidr("10.1.2.3/24"));
}

#[test]
fn unreadable_results() {
    let refused = |value: Value, code: u32, msg: &str| {
        let error = read(value).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (code, msg));
    };
    refused(json!("x"), code::DECODE, "the result is not a JSON object");
    refused(
        json!({"cniVersion": "2.0.0"}),
        code::INCOMPATIBLE_VERSION,
        "unsupported CNI result version \"2.0.0\"",
    );
    refused(
        json!({"cniVersion": 1}),
        code::INCOMPATIBLE_VERSION,
        "unsupported CNI result version 1",
    );
    refused(
        json!({"ips": [{"address": "10.1.2.3"}]}),
        code::DECODE,
        "cannot read the result: ips[0].address: \"10.1.2.3\" has no prefix length; write it \
         like \"10.1.2.0/24\"",
    );
    refused(
        json!({"ips": [{"address": "10.1.2.3/24", "gateway": "x"}]}),
        code::DECODE,
        "cannot read the result: ips[0].gateway: \"x\": invalid IP address syntax",
    );
}
