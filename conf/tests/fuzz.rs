//! Configurations and results as no runtime writes them: mutations of good ones. What is taken is
//! written again, and read as the same; what is refused is refused in few words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::fs;
use std::path::Path;

use pontoon_conf::{AddResult, NetworkConfig, Verb, Version, VersionInfo};
use pontoon_lab::fuzz;
use serde_json::{Value, json};

/// The plugins of all samples, as a runtime hands them on, with and without a previous result.
fn configurations() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut good = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read(&path).unwrap();
        let list: Value = serde_json::from_slice(&text).expect("a sample");
        for plugin in list["plugins"].as_array().into_iter().flatten() {
            let mut plugin = plugin.clone();
            plugin["name"] = list["name"].clone();
            plugin["cniVersion"] = json!("1.1.0");
            good.push(plugin.to_string().into_bytes());
            plugin["prevResult"] = result();
            plugin["runtimeConfig"] = json!({
                "portMappings": [{ "hostPort": 80, "containerPort": 80, "protocol": "tcp" }],
                "ips": ["10.1.2.3/24"], "mac": "02:42:00:00:00:02", "aliases": ["a"],
            });
            plugin["args"] =
                json!({ "cni": { "ips": ["10.1.2.4"], "labels": [{ "key": "a", "value": "b" }] } });
            plugin["cni.dev/valid-attachments"] =
                json!([{ "containerID": "c1", "ifname": "eth0" }]);
            good.push(plugin.to_string().into_bytes());
        }
    }
    assert!(good.len() > 20, "{} samples", good.len());
    good
}

fn result() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "cni0", "mac": "02:42:00:00:00:01" },
            { "name": "eth0", "mac": "02:42:00:00:00:02", "mtu": 1400, "sandbox": "/run/netns/c1" },
        ],
        "ips": [
            { "interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1" },
            { "interface": 1, "address": "fd00::3/64" },
        ],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400, "table": 7 }],
        "dns": { "nameservers": ["10.1.2.1"], "domain": "lan", "search": ["lan"], "options": ["ndots:1"] },
    })
}

#[test]
fn configurations_are_taken_or_refused() {
    let verbs = [Verb::Add, Verb::Del, Verb::Check, Verb::Status, Verb::Gc];
    fuzz("configurations", &configurations(), |bytes, dice| {
        let verb = verbs[dice.below(verbs.len())];
        let _ = NetworkConfig::peek_version(bytes);
        let _ = VersionInfo::answer(bytes, &Version::ALL);
        match NetworkConfig::parse(bytes, verb) {
            Ok(config) => {
                assert_eq!(config.bytes(), bytes);
                let _ = (config.runtime_config(), config.args());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() < 1500, "{} bytes: {text}", text.len());
            }
        }
    });
}

#[test]
fn results_are_taken_or_refused() {
    let old = json!({
        "cniVersion": "0.2.0",
        "ip4": { "ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{ "dst": "0.0.0.0/0" }] },
        "ip6": { "ip": "fd00::3/64" },
    });
    let middle = json!({
        "cniVersion": "0.3.1", "interfaces": [{ "name": "eth0", "sandbox": "/run/netns/c1" }],
        "ips": [{ "version": "4", "interface": 0, "address": "10.1.2.3/24" }],
    });
    let good = [result(), old, middle].map(|value| value.to_string().into_bytes());
    fuzz("results", &good, |bytes, dice| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        let version = Version::ALL[dice.below(Version::ALL.len())];
        match AddResult::parse(&value, version) {
            // What is handed on to the next plugin is what was read.
            Ok(attached) => {
                let newest = *Version::ALL.last().unwrap();
                let text = attached
                    .to_json(newest)
                    .expect("the newest has a place for all");
                let again: Value = serde_json::from_str(&text).unwrap();
                let again = AddResult::parse(&again, newest).expect("our own words");
                assert_eq!(again.ips, attached.ips);
                assert_eq!(again.interfaces, attached.interfaces);
                assert_eq!(again.routes, attached.routes);
            }
            Err(error) => assert!(error.to_string().len() < 1500, "{error}"),
        }
    });
}
