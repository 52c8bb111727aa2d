//! The environment and standard input: what is refused, with which code, in which order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::{collections::HashMap, path::PathBuf};

use pontoon_conf::{Error, Invocation, NetworkConfig, Verb, Version, VersionInfo, code};

const ATTACHMENT: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin::/usr/lib/cni"),
];

fn invoke(changes: &[(&str, &str)]) -> Result<Option<Invocation>, Error> {
    let mut variables: HashMap<&str, &str> = ATTACHMENT.into_iter().collect();
    variables.extend(changes.iter().copied());
    Invocation::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[track_caller]
fn refused(changes: &[(&str, &str)], msg: &str) {
    let error = invoke(changes).expect_err("must be refused");
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert_eq!(error.msg, msg);
    assert!(!error.details.is_empty(), "{error:?} says nothing more");
}

#[test]
fn a_whole_call() {
    let call = invoke(&[("CNI_ARGS", "IP=10.0.0.5")]).unwrap().unwrap();
    let (id, ifname) = call.attachment().unwrap();
    assert_eq!((id.as_str(), ifname.as_str()), ("c1", "eth0"));
    assert_eq!(call.required_netns(), Ok("/run/netns/c1"));
    assert_eq!(call.args.get("IP"), Some("10.0.0.5"));
    assert_eq!(
        call.path,
        [PathBuf::from("/opt/cni/bin"), "/usr/lib/cni".into()]
    );
    assert!(!call.netns_override);
    for (value, on) in [("1", true), ("true", true), ("0", false), ("yes", false)] {
        let call = invoke(&[("CNI_NETNS_OVERRIDE", value)]).unwrap().unwrap();
        assert_eq!(call.netns_override, on, "{value}");
    }
}

#[test]
fn what_a_verb_does_not_concern_is_not_there() {
    for verb in ["GC", "STATUS", "VERSION"] {
        let call = invoke(&[("CNI_COMMAND", verb)]).unwrap().unwrap();
        assert_eq!((&call.netns, &call.container_id), (&None, &None));
        assert!(call.attachment().is_err() && call.required_netns().is_err());
    }
}

#[test]
fn required_variables_by_verb() {
    let none = [
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_PATH", ""),
    ];
    let missing = |verb, list: &str| {
        let call = [&none[..], &[("CNI_COMMAND", verb)]].concat();
        refused(&call, &format!("required env variables [{list}] missing"));
    };
    missing("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH");
    missing("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH");
    missing("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH");
    missing("GC", "CNI_PATH");
    missing("STATUS", "CNI_PATH");
    refused(
        &[("CNI_NETNS", "")],
        "required env variables [CNI_NETNS] missing",
    );
}

#[test]
fn malformed_variables() {
    let id = |value: &str| {
        refused(
            &[("CNI_CONTAINERID", value)],
            "invalid characters in containerID",
        )
    };
    id("../../x");
    id("-c");
    id("a b");
    id("a\"b");
    id("a/b");
    id("ü");
    refused(
        &[("CNI_CONTAINERID", &"x".repeat(300))],
        "invalid containerID",
    );
    let letters = "interface name contains / or : or whitespace characters";
    refused(&[("CNI_IFNAME", "a/b")], letters);
    refused(&[("CNI_IFNAME", "a:b")], letters);
    refused(&[("CNI_IFNAME", "a b")], letters);
    refused(&[("CNI_IFNAME", "a\u{2003}b")], letters);
    refused(
        &[("CNI_IFNAME", "eth%d")],
        "interface name contains invalid characters",
    );
    refused(&[("CNI_IFNAME", ".")], "interface name is . or ..");
    refused(&[("CNI_IFNAME", "..")], "interface name is . or ..");
    refused(
        &[("CNI_IFNAME", "sixteen-bytes-xx")],
        "interface name is too long",
    );
    refused(&[("CNI_COMMAND", "add")], "unknown CNI_COMMAND: add");
    refused(&[("CNI_COMMAND", "UPDATE")], "unknown CNI_COMMAND: UPDATE");
}

#[test]
fn malformed_comes_before_missing() {
    refused(
        &[
            ("CNI_CONTAINERID", "a b"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_PATH", ""),
        ],
        "invalid characters in containerID",
    );
    refused(
        &[("CNI_CONTAINERID", ""), ("CNI_IFNAME", "..")],
        "interface name is . or ..",
    );
}

#[track_caller]
fn config_refused(text: &str, verb: Verb, code: u32, msg: &str) {
    let error = NetworkConfig::parse(text.as_bytes(), verb).expect_err("must be refused");
    assert_eq!((error.code, error.msg.as_str()), (code, msg), "{error}");
}

#[test]
fn not_json() {
    for text in ["", "{", "{\"name\": \"n\"} x", "{name: n}"] {
        let error = NetworkConfig::parse(text.as_bytes(), Verb::Add).unwrap_err();
        assert_eq!(error.code, code::DECODE);
        assert!(
            error
                .msg
                .starts_with("the network configuration is not JSON: "),
            "{error}"
        );
    }
    let msg = "the network configuration is not a JSON object";
    config_refused("[]", Verb::Add, code::DECODE, msg);
    config_refused("null", Verb::Add, code::DECODE, msg);
}

#[test]
fn names() {
    let name = |value: &str, msg| {
        let text = format!("{{\"cniVersion\": \"1.0.0\", \"name\": {value}}}");
        config_refused(&text, Verb::Add, code::INVALID_CONFIG, msg);
    };
    name("null", "missing network name");
    name("\"\"", "missing network name");
    name("\"a/b\"", "invalid characters found in network name");
    name("\"../../x\"", "invalid characters found in network name");
    name("\"a'b\"", "invalid characters found in network name");
    name("\"a b\"", "invalid characters found in network name");
    name("7", "invalid network name");
    name(&format!("{:?}", "n".repeat(201)), "invalid network name");
    config_refused(
        "{}",
        Verb::Del,
        code::INVALID_CONFIG,
        "missing network name",
    );
    // The name is looked at before the version.
    config_refused(
        "{\"cniVersion\": \"9.9.9\"}",
        Verb::Check,
        code::INVALID_CONFIG,
        "missing network name",
    );
}

#[test]
fn versions_and_verbs() {
    for version in Version::ALL {
        let text = format!("{{\"cniVersion\": \"{version}\", \"name\": \"n\"}}");
        for (verb, since) in [
            (Verb::Add, Version::V0_1_0),
            (Verb::Del, Version::V0_1_0),
            (Verb::Check, Version::V0_4_0),
            (Verb::Gc, Version::V1_1_0),
            (Verb::Status, Version::V1_1_0),
        ] {
            if version >= since {
                let config = NetworkConfig::parse(text.as_bytes(), verb).unwrap();
                assert_eq!(config.version, version);
            } else {
                config_refused(
                    &text,
                    verb,
                    code::INCOMPATIBLE_VERSION,
                    &format!("config version does not allow {verb}"),
                );
            }
        }
    }
    let unknown = "incompatible CNI versions";
    for version in ["1.2.0", "1.0", "v1.0.0", "latest", " 1.0.0"] {
        let text = format!("{{\"cniVersion\": {version:?}, \"name\": \"n\"}}");
        config_refused(&text, Verb::Check, code::INCOMPATIBLE_VERSION, unknown);
    }
    config_refused(
        "{\"cniVersion\": 1.0, \"name\": \"n\"}",
        Verb::Add,
        code::DECODE,
        "cniVersion must be a string, not 1.0",
    );
}

#[test]
fn a_plugin_of_few_versions() {
    let text = b"{\"cniVersion\": \"0.3.1\", \"name\": \"n\"}";
    let few = &Version::ALL[4..];
    let told = |verb| NetworkConfig::parse_supporting(text, verb, few).unwrap_err();
    assert_eq!(
        told(Verb::Add).details,
        "config is \"0.3.1\", plugin supports [\"0.4.0\" \"1.0.0\" \"1.1.0\"]"
    );
    assert_eq!(told(Verb::Check).msg, "config version does not allow CHECK");
}

#[test]
fn wrong_kinds_name_their_key() {
    for (text, path) in [
        ("\"type\": 7", "type: "),
        ("\"ipam\": []", "ipam: "),
        ("\"args\": {\"cni\": \"x\"}", "args.cni: "),
        ("\"runtimeConfig\": true", "runtimeConfig: "),
        ("\"dns\": {\"nameservers\": [1]}", "dns.nameservers[0]: "),
    ] {
        let text = format!("{{\"name\": \"n\", {text}}}");
        let error = NetworkConfig::parse(text.as_bytes(), Verb::Add).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG);
        assert!(error.msg.contains(&format!(": {path}")), "{error}");
    }
}

#[test]
fn dns_counts_when_anything_is_said() {
    let dns = |text: &str| {
        let text = format!("{{\"name\": \"n\", \"dns\": {text}}}");
        NetworkConfig::parse(text.as_bytes(), Verb::Add)
            .unwrap()
            .dns
    };
    assert_eq!(dns("{}"), None);
    assert_eq!(dns("{\"domain\": \"\", \"search\": null}"), None);
    assert!(dns("{\"nameservers\": []}").is_some());
    assert_eq!(
        dns("{\"domain\": \"d\"}").unwrap().domain.as_deref(),
        Some("d")
    );
}

#[test]
fn what_delegates_get_is_what_came() {
    let text = b" {\"name\":\"n\",  \"x\": 1.50}\n";
    let config = NetworkConfig::parse(text, Verb::Add).unwrap();
    assert_eq!(config.bytes(), text);
}

#[test]
fn the_version_of_a_broken_configuration() {
    let peek = |text: &str| NetworkConfig::peek_version(text.as_bytes());
    assert_eq!(peek("{\"cniVersion\": \"0.4.0\"}"), Some(Version::V0_4_0));
    assert_eq!(peek("{\"cniVersion\": \"3.0.0\"}"), None);
    assert_eq!(peek("{"), None);
}

#[test]
fn what_goes_to_standard_output() {
    let told = VersionInfo::answer(b"{\"cniVersion\": \"1.0.0\"}", &Version::ALL[4..]);
    assert_eq!(
        told.to_json(),
        "{\n    \"cniVersion\": \"1.0.0\",\n    \"supportedVersions\": [\n        \"0.4.0\",\n        \
         \"1.0.0\",\n        \"1.1.0\"\n    ]\n}"
    );
    let error = Error::of_delegate(
        code::PORT_TAKEN,
        "port 80 is taken".to_owned(),
        "by \"c2\"".to_owned(),
    );
    assert_eq!(
        error.to_json(None),
        "{\n    \"code\": 102,\n    \"msg\": \"port 80 is taken\",\n    \
         \"details\": \"by \\\"c2\\\"\"\n}"
    );
    assert_eq!(error.to_string(), "port 80 is taken: by \"c2\"");
}
