use pontoon_conf::{OperationError, code, decode};
use serde_json::json;

use super::*;

#[track_caller]
fn check_path(key: &str, expected: Option<&str>) {
    assert_eq!(path(key, "eth0.100").ok().as_deref(), expected, "{key}");
}

#[test]
fn keys_are_written_with_dots_or_slashes() {
    check_path("net.core.somaxconn", Some("net/core/somaxconn"));
    check_path("net/core/somaxconn", Some("net/core/somaxconn"));
    check_path(
        "net.ipv4.conf.all.log_martians",
        Some("net/ipv4/conf/all/log_martians"),
    );
    // sysctl(8): a dot in a name is a slash where dots separate.
    check_path(
        "net.ipv4.conf.eth0/7.rp_filter",
        Some("net/ipv4/conf/eth0.7/rp_filter"),
    );
    check_path(
        "net/ipv4/conf/eth0.7/rp_filter",
        Some("net/ipv4/conf/eth0.7/rp_filter"),
    );
}

/// The reference plugin turns the dots of the interface's name into slashes.
#[test]
fn ifname_is_put_in_whole() {
    check_path(
        "net.ipv4.conf.IFNAME.rp_filter",
        Some("net/ipv4/conf/eth0.100/rp_filter"),
    );
    check_path(
        "net/ipv6/conf/IFNAME/accept_ra",
        Some("net/ipv6/conf/eth0.100/accept_ra"),
    );
}

#[test]
fn nothing_but_net_is_touched() {
    for key in [
        "kernel.panic",
        "vm.swappiness",
        "net",
        "net.",
        "",
        "/net/../kernel/panic",
        // The first separator is a dot, so that these slashes are dots of a name: "net/../kernel".
        "net.//.kernel.panic",
        "netx.core.somaxconn",
    ] {
        check_path(key, None);
    }
}

fn keys(value: Value) -> Tuning {
    decode(&value).unwrap()
}

#[track_caller]
fn check(written: Value, args: Value, asked: &str) -> Config {
    merge(keys(written), keys(args), asked.to_owned(), "eth0").unwrap()
}

#[test]
fn nothing_is_nothing() {
    let config = check(json!({ "mtu": 0, "mac": "" }), json!({}), "");
    assert!(config.sysctls.is_empty());
    assert_eq!(
        (
            config.mac,
            config.mtu,
            config.promisc,
            config.allmulti,
            config.tx_queue_length
        ),
        (None, None, None, None, None)
    );
    assert_eq!(config.data_dir, PathBuf::from("/run/cni/tuning"));
}

/// The reference plugin panics when `args.cni.sysctl` comes without the key `sysctl`.
#[test]
fn arguments_win_even_alone() {
    let args = json!({
        "sysctl": { "net.core.somaxconn": "500" }, "MAC": "02:42:0a:00:00:07",
        "promisc": false, "mtu": 1400, "allmulti": true, "txQLen": 7,
    });
    for written in [
        json!({}),
        json!({
            "sysctl": { "net.core.somaxconn": "128" }, "mac": "02:42:0a:00:00:01",
            "promisc": true, "mtu": 1500, "allmulti": false, "txQLen": 1000,
        }),
    ] {
        let config = check(written, args.clone(), "02:42:0a:00:00:03");
        assert_eq!(config.sysctls.len(), 1);
        assert_eq!(config.sysctls[0].value, "500");
        assert_eq!(config.mac.unwrap().to_string(), "02:42:0a:00:00:07");
        assert_eq!(config.promisc, Some(false));
        assert_eq!((config.mtu, config.tx_queue_length), (Some(1400), Some(7)));
        assert_eq!(config.allmulti, Some(true));
    }
}

#[test]
fn the_runtime_names_the_mac_before_the_configuration() {
    let config = check(
        json!({ "mac": "02:42:0a:00:00:01" }),
        json!({}),
        "02:42:0a:00:00:03",
    );
    assert_eq!(config.mac.unwrap().to_string(), "02:42:0a:00:00:03");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |written: Value, part: &str| {
        let error = merge(keys(written), Tuning::default(), String::new(), "eth0").unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.code(), code::INVALID_CONFIG);
    };
    refused(json!({ "mac": "02:42" }), "invalid args 02:42 for MAC addr");
    refused(json!({ "mtu": -1 }), "mtu");
    refused(json!({ "txQLen": -1 }), "txQLen");
    refused(
        json!({ "sysctl": { "kernel.panic": "1" } }),
        "invalid net sysctl key: \"kernel.panic\"",
    );
    refused(
        json!({ "sysctl": { "net.core.x": {} } }),
        "sysctl.net.core.x",
    );
    refused(
        json!({ "sysctl": { "net.core.x": "1", "net/core/x": "2" } }),
        "duplicated sysctl keys",
    );
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let twice =
        br#"{"name": "net", "sysctl": {"net.core.x": "1", "net.core.y": "1", "net.core.x": "2"}}"#;
    assert_eq!(
        refuse_duplicates(twice).unwrap_err().to_string(),
        "duplicated sysctl keys are not allowed"
    );
    refuse_duplicates(br#"{"sysctl": {"net.core.x": "1"}, "sysctl.": {}}"#).unwrap();
    refuse_duplicates(br#"{"sysctl": []}"#).unwrap();
}
