use pontoon_conf::{Args, Verb};
use serde_json::{Value, json};

use super::*;

fn invocation(args: &str) -> Invocation {
    Invocation {
        verb: Verb::Add,
        container_id: "c1".parse().ok(),
        netns: None,
        ifname: "eth0".parse().ok(),
        args: Args::new(args),
        path: Vec::new(),
        netns_override: false,
    }
}

fn config(version: &str, ipam: Value, more: Value) -> NetworkConfig {
    let mut document =
        json!({ "cniVersion": version, "name": "net", "type": "static", "ipam": ipam });
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    NetworkConfig::parse(document.to_string().as_bytes(), Verb::Add).unwrap()
}

/// Addresses and gateways as text, or a part of the error.
#[track_caller]
fn check_ips(version: &str, ipam: Value, args: &str, more: Value, expected: Result<&[&str], &str>) {
    let got = add(&invocation(args), &config(version, ipam, more)).map(|result| {
        let text = |ip: &IpConfig| match ip.gateway {
            Some(gateway) => format!("{} via {gateway}", ip.address),
            None => ip.address.to_string(),
        };
        result.ips.iter().map(text).collect::<Vec<_>>()
    });
    match (got, expected) {
        (Ok(got), Ok(expected)) => assert_eq!(got, expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
        (got, expected) => panic!("{got:?} instead of {expected:?}"),
    }
}

fn two() -> Value {
    json!({ "type": "static", "addresses": [
        { "address": "10.10.0.1/24", "gateway": "10.10.0.254" },
        { "address": "3ffe:ffff:0:1ff::1/64", "gateway": "" },
    ]})
}

#[test]
fn addresses_of_the_configuration() {
    let both = ["10.10.0.1/24 via 10.10.0.254", "3ffe:ffff:0:1ff::1/64"];
    for version in ["0.1.0", "0.3.1", "1.1.0"] {
        check_ips(version, two(), "", Value::Null, Ok(&both));
    }
    check_ips(
        "1.0.0",
        json!({ "type": "static" }),
        "",
        Value::Null,
        Ok(&[]),
    );
}

#[test]
fn arguments_add_and_the_runtime_replaces() {
    check_ips(
        "1.0.0",
        two(),
        "IP=10.11.0.5/24, fd00::5/64;GATEWAY=10.11.0.1,10.10.0.9;IgnoreUnknown=1",
        Value::Null,
        Ok(&[
            "10.10.0.1/24 via 10.10.0.9",
            "3ffe:ffff:0:1ff::1/64",
            "10.11.0.5/24 via 10.11.0.1",
            "fd00::5/64",
        ]),
    );
    check_ips(
        "1.0.0",
        json!({ "type": "static", "addresses": [{ "address": "::ffff:10.10.0.1/120", "gateway": "::ffff:10.10.0.9" }] }),
        "IP=::ffff:10.11.0.5/120;GATEWAY=::ffff:10.11.0.1",
        Value::Null,
        Ok(&["10.10.0.1/24 via 10.10.0.9", "10.11.0.5/24 via 10.11.0.1"]),
    );
    let by_args = json!({ "args": { "cni": { "ips": ["10.12.0.5/24"] } } });
    check_ips("1.0.0", two(), "", by_args, Ok(&["10.12.0.5/24"]));
    let both = json!({
        "args": { "cni": { "ips": ["10.12.0.5/24"] } },
        "runtimeConfig": { "IPs": ["10.13.0.5/24", "fd01::5/64"] },
    });
    check_ips(
        "1.0.0",
        two(),
        "",
        both,
        Ok(&["10.13.0.5/24", "fd01::5/64"]),
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let with = |address: &str| json!({ "type": "static", "addresses": [{ "address": address }] });
    check_ips(
        "1.0.0",
        with("10.0.0.1"),
        "",
        Value::Null,
        Err("invalid CIDR 10.0.0.1:"),
    );
    check_ips(
        "1.0.0",
        with("10.0.0.1/33"),
        "",
        Value::Null,
        Err("invalid CIDR"),
    );
    check_ips(
        "1.0.0",
        two(),
        "GATEWAY=here",
        Value::Null,
        Err("invalid gateway address: here"),
    );
    // Each by the place where it stands.
    check_ips(
        "1.0.0",
        with("10.0.0.1"),
        "",
        Value::Null,
        Err("ipam.addresses[0].address: invalid CIDR"),
    );
    check_ips(
        "1.0.0",
        two(),
        "IP=10.0.0.9",
        Value::Null,
        Err("IP in CNI_ARGS: invalid CIDR 10.0.0.9"),
    );
    check_ips(
        "1.0.0",
        two(),
        "",
        json!({ "args": { "cni": { "ips": ["10.12.0.5"] } } }),
        Err("args.cni.ips: invalid CIDR 10.12.0.5"),
    );
    check_ips(
        "1.0.0",
        two(),
        "",
        json!({ "runtimeConfig": { "ips": ["10.13.0.5"] } }),
        Err("capability ips (runtimeConfig.ips): invalid CIDR 10.13.0.5"),
    );
    check_ips("1.0.0", two(), "FROB=1", Value::Null, Err("unknown args"));
    let mixed = json!({ "type": "static", "addresses": [
        { "address": "10.0.0.1/24", "gateway": "fd00::1" },
    ]});
    check_ips("1.0.0", mixed, "", Value::Null, Err("another family"));
    check_ips(
        "0.2.0",
        two(),
        "IP=10.11.0.5/24",
        Value::Null,
        Err("does not support more than 1 address per family"),
    );
}

#[test]
fn routes_and_dns_are_handed_on() {
    let mut ipam = two();
    // Two gateways for one destination share the load.
    ipam["routes"] = json!([
        { "dst": "0.0.0.0/0", "gw": "10.10.0.254" },
        { "dst": "0.0.0.0/0", "gw": "10.10.0.253" },
    ]);
    ipam["dns"] = json!({ "nameservers": ["192.0.2.53"], "search": ["example.net"] });
    let result = add(&invocation(""), &config("1.0.0", ipam, Value::Null)).unwrap();
    assert_eq!(result.routes.len(), 2);
    assert_eq!(result.dns.nameservers, ["192.0.2.53"]);
}

#[test]
fn check_wants_each_address_in_the_result() {
    let previous = |address: &str| {
        json!({ "prevResult": { "cniVersion": "1.0.0", "ips": [
            { "address": "3ffe:ffff:0:1ff::1/64" }, { "address": address },
        ]}})
    };
    let verdict = |more| check(&invocation(""), &config("1.0.0", two(), more));
    assert_eq!(verdict(previous("10.10.0.1/24")), Ok(()));
    let error = verdict(previous("10.10.0.2/24")).unwrap_err();
    assert!(
        error
            .msg
            .contains("static: Failed to find address added by container c1")
    );
    assert_eq!(
        verdict(Value::Null).unwrap_err().msg,
        "Required prevResult missing"
    );
}
