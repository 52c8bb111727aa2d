//! Names, Ethernet addresses, addresses with a prefix.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::net::IpAddr;

use pontoon_conf::{Cidr, ContainerId, IfName, Mac, NetworkName, PluginType};

#[track_caller]
fn check<T: std::str::FromStr<Err: ToString>>(text: &str, expected: Result<(), &str>) {
    let told = text.parse::<T>().map(drop).map_err(|why| why.to_string());
    assert_eq!(told, expected.map_err(str::to_owned));
}

#[test]
fn container_ids_and_network_names() {
    for good in ["c", "0", "a.b_c-D", "web-1", &"x".repeat(200)] {
        check::<ContainerId>(good, Ok(()));
        check::<NetworkName>(good, Ok(()));
    }
    check::<ContainerId>("", Err("the container id is empty"));
    check::<NetworkName>("", Err("the network name is empty"));
    check::<NetworkName>(
        &"x".repeat(201),
        Err("the network name has 201 bytes; at most 200 are allowed"),
    );
    check::<ContainerId>(
        "../../x",
        Err("the container id \"../../x\" may not contain '.' at its start"),
    );
    check::<ContainerId>(
        "a/../b",
        Err("the container id \"a/../b\" may not contain '/'"),
    );
    check::<NetworkName>("a b", Err("the network name \"a b\" may not contain ' '"));
    check::<NetworkName>(
        "a\n",
        Err("the network name \"a\\n\" may not contain '\\n'"),
    );
    check::<NetworkName>(
        "a\"",
        Err("the network name \"a\\\"\" may not contain '\"'"),
    );
    check::<NetworkName>(
        "a\0",
        Err("the network name \"a\\0\" may not contain '\\0'"),
    );
    check::<NetworkName>("é", Err("the network name \"é\" may not contain 'é'"));
}

#[test]
fn interface_names() {
    for good in ["e", "eth0", "fifteen-bytes-x", "a.b@c", "...", "\"q\""] {
        check::<IfName>(good, Ok(()));
    }
    check::<IfName>("", Err("the interface name is empty"));
    check::<IfName>(
        "sixteen-bytes-xx",
        Err("the interface name has 16 bytes; at most 15 are allowed"),
    );
    check::<IfName>(".", Err("the interface name may not be \".\""));
    check::<IfName>("..", Err("the interface name may not be \"..\""));
    for bad in ['/', ':', '%', ' ', '\t', '\n', '\0', '\u{7f}', '\u{a0}'] {
        let name = format!("e{bad}");
        check::<IfName>(
            &name,
            Err(&format!(
                "the interface name {name:?} may not contain {bad:?}"
            )),
        );
    }
}

#[test]
fn plugin_types() {
    check::<PluginType>("host-local", Ok(()));
    check::<PluginType>("my plugin", Ok(()));
    check::<PluginType>("", Err("the plugin type is empty"));
    check::<PluginType>("..", Err("the plugin type may not be \"..\""));
    check::<PluginType>(
        "../bin/sh",
        Err("the plugin type \"../bin/sh\" may not contain '/'"),
    );
}

#[test]
fn names_are_seen_as_text() {
    let name = NetworkName::try_from("net").unwrap();
    assert_eq!((name.as_ref(), name.as_str()), ("net", "net"));
    assert_eq!(name.to_string(), "net");
    assert!(NetworkName::try_from("a").unwrap() < name);
    let text = serde_json::to_string(&name).unwrap();
    assert_eq!(serde_json::from_str::<NetworkName>(&text).unwrap(), name);
    assert!(serde_json::from_str::<NetworkName>("\"../net\"").is_err());
}

#[test]
fn ethernet_addresses() {
    let mac: Mac = "02:42:AC:11:00:0f".parse().unwrap();
    assert_eq!(mac, Mac([0x02, 0x42, 0xac, 0x11, 0x00, 0x0f]));
    assert_eq!(mac.to_string(), "02:42:ac:11:00:0f");
    assert_eq!("02-42-ac-11-00-0f".parse(), Ok(mac));
    assert_eq!(
        serde_json::to_string(&mac).unwrap(),
        "\"02:42:ac:11:00:0f\""
    );
    assert!(mac.is_unicast());
    assert!(!"01:00:5e:00:00:01".parse::<Mac>().unwrap().is_unicast());
    assert!(!"00:00:00:00:00:00".parse::<Mac>().unwrap().is_unicast());
    for bad in [
        "",
        "02:42:ac:11:00",
        "02:42:ac:11:00:0f:00",
        "2:42:ac:11:0:f",
        "02:42:ac:11:00:0g",
        "+2:42:ac:11:00:0f",
        "02-42:ac:11:00:0f",
        "0242ac11000f",
        " 02:42:ac:11:00:0f",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
}

#[test]
fn strict_cidrs() {
    let hint = "write it like \"10.1.2.0/24\"";
    for good in [
        "10.1.2.3/24",
        "0.0.0.0/0",
        "1.2.3.4/32",
        "::/0",
        "2001:db8::1/128",
    ] {
        check::<Cidr>(good, Ok(()));
        assert_eq!(good.parse::<Cidr>().unwrap().to_string(), good);
    }
    let bare = format!("\"10.1.2.3\" has no prefix length; {hint}");
    check::<Cidr>("10.1.2.3", Err(&bare));
    for bad in [
        "/24",
        "10.1.2/24",
        "010.1.2.3/24",
        "x/24",
        "fe80::1%eth0/64",
        " ::/0",
    ] {
        let text = format!("{bad:?} does not start with an IP address; {hint}");
        check::<Cidr>(bad, Err(&text));
    }
    for bad in [
        "10.1.2.3/",
        "10.1.2.3/255.255.255.0",
        "10.1.2.3/+24",
        "::/-1",
        "::/300",
        "::/0000",
    ] {
        let text = format!("{bad:?} does not end with a prefix length; {hint}");
        check::<Cidr>(bad, Err(&text));
    }
    check::<Cidr>(
        "10.1.2.3/33",
        Err("the prefix length 33 is too large for 10.1.2.3"),
    );
    check::<Cidr>("::1/129", Err("the prefix length 129 is too large for ::1"));
    assert!(serde_json::from_str::<Cidr>("\"10.1.2.3\"").is_err());
}

#[test]
fn an_ipv4_address_in_ipv6_notation_is_the_ipv4_address() {
    for (text, canonical) in [
        ("::ffff:10.1.2.3/120", "10.1.2.3/24"),
        ("::ffff:10.1.2.3/128", "10.1.2.3/32"),
        ("::ffff:0a01:0203/96", "10.1.2.3/0"),
    ] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), canonical);
    }
    for bad in ["::ffff:10.1.2.3/24", "::ffff:10.1.2.3/95"] {
        let told = format!(
            "the prefix length of the IPv4-mapped address {bad:?} is not between 96 and 128"
        );
        check::<Cidr>(bad, Err(&told));
    }
    let canonical = pontoon_conf::address("::ffff:10.1.2.3").unwrap();
    assert_eq!(canonical, "10.1.2.3".parse::<IpAddr>().unwrap());
    assert!(pontoon_conf::address("10.1.2.3/24").is_err());
}

#[track_caller]
fn network(text: &str, base: &str, first: &str, last: &str) {
    let cidr: Cidr = text.parse().unwrap();
    assert_eq!(cidr.network().to_string(), base);
    assert_eq!(cidr.first_host(), first.parse::<IpAddr>().unwrap());
    assert_eq!(cidr.broadcast(), last.parse::<IpAddr>().unwrap());
    assert!(cidr.contains(cidr.addr()) && cidr.contains(cidr.first_host()));
}

#[test]
fn networks() {
    network("10.1.2.3/24", "10.1.2.0/24", "10.1.2.1", "10.1.2.255");
    network("10.1.2.3/31", "10.1.2.2/31", "10.1.2.3", "10.1.2.3");
    network("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3", "10.1.2.3");
    network("1.2.3.4/0", "0.0.0.0/0", "0.0.0.1", "255.255.255.255");
    network(
        "2001:db8::5/126",
        "2001:db8::4/126",
        "2001:db8::5",
        "2001:db8::7",
    );
    network(
        "2001:db8::5/128",
        "2001:db8::5/128",
        "2001:db8::5",
        "2001:db8::5",
    );
}

#[test]
fn overlaps() {
    let overlap = |one: &str, other: &str| {
        let (one, other): (Cidr, Cidr) = (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(one.overlaps(&other), other.overlaps(&one));
        one.overlaps(&other)
    };
    assert!(overlap("10.0.0.0/8", "10.1.2.3/24"));
    assert!(overlap("10.1.2.3/24", "10.1.2.200/24"));
    assert!(overlap("0.0.0.0/0", "192.0.2.1/32"));
    assert!(!overlap("10.1.2.0/25", "10.1.2.128/25"));
    assert!(!overlap("0.0.0.0/0", "::/0"));
}
