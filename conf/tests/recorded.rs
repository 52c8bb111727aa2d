//! Calls that real runtimes made of the reference plugins, and what those answered.
//!
//! One call in a line: podman 4.3, containerd 1.6 and 2.1, kubelet 1.20, cnitool 1.3.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::collections::HashMap;

use pontoon_conf::{AddResult, Dns, Invocation, NetworkConfig, Verb, VersionInfo, code, decode};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Call {
    client: String,
    plugin: String,
    env: HashMap<String, String>,
    stdin: Value,
    stdout: Option<Value>,
}

impl Call {
    fn invocation(&self) -> Invocation {
        Invocation::from_environment(|name| self.env.get(name).cloned())
            .expect("a valid environment")
            .expect("a verb")
    }

    fn config(&self) -> NetworkConfig {
        NetworkConfig::parse(self.stdin.to_string().as_bytes(), self.invocation().verb)
            .expect("a valid configuration")
    }
}

fn calls() -> Vec<Call> {
    let calls: Vec<Call> = include_str!("recorded/calls.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a call"))
        .collect();
    assert!(calls.len() > 50, "only {} calls", calls.len());
    calls
}

fn calls_of(verb: Verb) -> Vec<Call> {
    let mut calls = calls();
    calls.retain(|call| call.invocation().verb == verb);
    assert!(!calls.is_empty(), "no {verb} was recorded");
    calls
}

#[test]
fn every_call_is_understood() {
    for call in calls() {
        let invocation = call.invocation();
        let known = invocation.args.check_known(&["IP", "MAC"]);
        assert_eq!(known, Ok(()), "{}", call.client);
        if invocation.verb == Verb::Version {
            continue;
        }
        let config = call.config();
        assert_eq!(config.plugin_type, call.stdin["type"].as_str().unwrap());
        assert_eq!(config.prev_result_problem, None);
        assert_eq!(
            config.prev_result.is_some(),
            call.stdin.get("prevResult").is_some()
        );
    }
}

#[test]
fn version_is_answered_as_the_reference_does() {
    for call in calls_of(Verb::Version) {
        let info = VersionInfo::answer(
            call.stdin.to_string().as_bytes(),
            &pontoon_conf::Version::ALL[..6],
        );
        let told: Value = serde_json::from_str(&info.to_json()).unwrap();
        assert_eq!(Some(told), call.stdout);
    }
}

/// The reference plugins say a little more than they must, each in its own way: those built on
/// older libraries print an empty `dns` in 1.0.0, and `loopback` forgets `version` and `dns` in
/// 0.3.1 because it skips the conversion.
fn without_noise(mut result: Value) -> Value {
    let object = result.as_object_mut().expect("an object");
    if object
        .get("dns")
        .is_some_and(|dns| dns == &serde_json::json!({}))
    {
        object.remove("dns");
    }
    for ip in object
        .get_mut("ips")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        ip.as_object_mut().expect("an object").remove("version");
    }
    result
}

#[test]
fn results_are_written_as_the_reference_does() {
    for call in calls_of(Verb::Add) {
        let config = call.config();
        let recorded = call.stdout.expect("ADD answers");
        let attached = AddResult::parse(&recorded, config.version).expect("a result");
        let told = attached.to_json(config.version).expect("written");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            without_noise(told),
            without_noise(recorded),
            "{} {}",
            call.client,
            call.plugin
        );
    }
}

#[test]
fn a_chain_hands_its_result_on() {
    // portmap prints what it was given, so its recorded output is its recorded prevResult.
    let portmaps: Vec<Call> = calls_of(Verb::Add)
        .into_iter()
        .filter(|call| call.plugin == "portmap")
        .collect();
    assert!(portmaps.len() > 3);
    for call in portmaps {
        let config = call.config();
        let told = AddResult::parse(call.stdout.as_ref().unwrap(), config.version).unwrap();
        assert_eq!(config.prev_result, Some(told));
    }
}

#[test]
fn del_comes_with_and_without() {
    let mut seen: Vec<(bool, bool)> = calls_of(Verb::Del)
        .iter()
        .map(|call| {
            (
                call.invocation().netns.is_some(),
                call.config().prev_result.is_some(),
            )
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    // (namespace, prevResult): loopback, at 0.3.1, gets the first without the second.
    assert_eq!(seen, [(false, false), (true, false), (true, true)]);
}

#[test]
fn runtime_config_in_both_cases() {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Runtime {
        port_mappings: Vec<PortMapping>,
        bandwidth: Option<Bandwidth>,
        dns: Option<Value>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PortMapping {
        host_port: u16,
        container_port: u16,
        protocol: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bandwidth {
        ingress_burst: u64,
    }
    let (mut ports, mut bursts, mut dns) = (0, 0, 0);
    for call in calls() {
        if call.invocation().verb == Verb::Version {
            continue;
        }
        let runtime: Runtime = call.config().runtime().expect(&call.client);
        for mapping in &runtime.port_mappings {
            assert!(mapping.host_port > 0 && mapping.container_port > 0);
            assert!(["tcp", "udp"].contains(&mapping.protocol.as_str()));
            ports += 1;
        }
        bursts += usize::from(runtime.bandwidth.is_some_and(|b| b.ingress_burst > 1 << 31));
        if let Some(value) = runtime.dns {
            // Its keys are servers, searches and options: not those of a configuration's dns.
            let other: Dns = decode(&value).expect("unknown keys are no error");
            assert!(other.nameservers.is_empty() && other.search.is_empty());
            dns += 1;
        }
    }
    assert!(
        ports > 10 && bursts > 0 && dns > 0,
        "{ports} {bursts} {dns}"
    );
}

#[test]
fn broken_calls_are_refused_with_a_code() {
    let kinds = [
        Value::Null,
        Value::Bool(true),
        Value::from(-1),
        Value::from(1e300),
        Value::from(""),
        Value::from("../../x"),
        serde_json::json!([]),
        serde_json::json!([[]]),
        serde_json::json!({}),
        serde_json::json!({"ip": {"a": []}}),
    ];
    let known = [
        code::INCOMPATIBLE_VERSION,
        code::DECODE,
        code::INVALID_CONFIG,
    ];
    let mut refused = 0;
    for call in calls() {
        let verb = call.invocation().verb;
        let keys: Vec<String> = call.stdin.as_object().unwrap().keys().cloned().collect();
        for (key, kind) in keys
            .iter()
            .flat_map(|key| kinds.iter().map(move |kind| (key, kind)))
        {
            let mut stdin = call.stdin.clone();
            stdin[key] = kind.clone();
            if let Err(error) = NetworkConfig::parse(stdin.to_string().as_bytes(), verb) {
                assert!(known.contains(&error.code), "{key} = {kind}: {error:?}");
                refused += 1;
            }
        }
        let text = call.stdin.to_string();
        for end in (0..text.len()).step_by(37) {
            let error = NetworkConfig::parse(&text.as_bytes()[..end], verb).unwrap_err();
            assert_eq!(error.code, code::DECODE);
        }
    }
    assert!(refused > 1000, "only {refused} were refused");
}
