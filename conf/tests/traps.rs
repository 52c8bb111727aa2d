//! Every trap known to have bitten a plugin that met real runtimes, as far as the protocol goes.
//!
//! | trap | who sends it | test |
//! | --- | --- | --- |
//! | keys in any case | containerd, older configurations | `keys_in_any_case` |
//! | `runtimeConfig` in Capitals, `null`s and empty strings in it | containerd, kubelet | `capital_runtime_config` |
//! | `null` for "absent" | Go's encoders | `null_is_absent` |
//! | unknown keys | every runtime | `unknown_keys_are_ignored` |
//! | numbers as any JSON number | generated configurations | `numbers_of_any_notation` |
//! | `"true"` for true | people | `a_string_is_no_boolean` |
//! | `capabilities` left in | libcni | `capabilities_stay_in` |
//! | two keys for GC's list, or none | libcni, cnitool | `both_gc_keys`, `gc_without_its_list` |
//! | `prevResult` of an older shape, or without version | mixed chains | `prev_result_of_any_shape` |
//! | no `cniVersion` | configurations older than it | `missing_version_is_0_1_0` |
//! | `prevResult` unreadable on DEL | plugins since upgraded | `del_survives_a_bad_prev_result` |
//! | DEL without namespace, with and without `prevResult` | containerd, `ctr run` | `del_twice` |
//! | VERSION with `dummy` values and any input | podman | `version_with_dummies` |
//! | STATUS and GC without attachment | cnitool, containerd | `status_and_gc_need_a_path_only` |
//! | `IP=` and `MAC=` in `CNI_ARGS` in any order | podman | `ip_and_mac_in_args` |
//! | unknown `CNI_ARGS` | kubelet, people | `unknown_args` |
//! | no verb | people, version collectors | `no_verb_is_a_banner` |
//! | errors matched by their words | libcni, kubelet | `words_of_the_protocol` |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use pontoon_conf::{
    Args, Cidr, Error, Invocation, NetworkConfig, Verb, Version, VersionInfo, banner,
    blank_is_none, code,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::HashMap, net::IpAddr};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ports {
    port_mappings: Vec<Port>,
    dns: Option<RuntimeDns>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: u16,
    container_port: u16,
    protocol: String,
    #[serde(rename = "hostIP", deserialize_with = "blank_is_none")]
    host_ip: Option<IpAddr>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    is_gateway: bool,
    mtu: u32,
    bridge: Option<String>,
    capabilities: HashMap<String, bool>,
}

fn parse(document: Value, verb: Verb) -> Result<NetworkConfig, Error> {
    NetworkConfig::parse(document.to_string().as_bytes(), verb)
}

#[track_caller]
fn config(document: Value) -> NetworkConfig {
    parse(document, Verb::Add).expect("a valid configuration")
}

#[track_caller]
fn invoke(variables: &[(&str, &str)]) -> Result<Option<Invocation>, Error> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Invocation::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn keys_in_any_case() {
    let config = config(json!({
        "CNIVersion": "1.0.0", "Name": "net", "TYPE": "bridge", "ISGATEWAY": true, "Mtu": 1400,
        "IPAM": {"type": "host-local"}, "DNS": {"Nameservers": ["10.0.0.1"]},
        "RuntimeConfig": {"PortMappings": [{"HOSTPORT": 80}]}, "Args": {"CNI": {"mac": "x"}},
    }));
    assert_eq!(config.version, Version::V1_0_0);
    assert_eq!(config.name.as_str(), "net");
    assert_eq!(config.plugin_type, "bridge");
    assert_eq!(config.ipam(), json!({"type": "host-local"}).as_object());
    assert_eq!(config.dns.as_ref().unwrap().nameservers, ["10.0.0.1"]);
    assert_eq!(config.args()["mac"], "x");
    let keys: Keys = config.keys().unwrap();
    assert_eq!((keys.is_gateway, keys.mtu), (true, 1400));
    let runtime: Ports = config.runtime().unwrap();
    assert_eq!(runtime.port_mappings[0].host_port, 80);
}

#[test]
fn capital_runtime_config() {
    let runtime: Ports = config(json!({
        "cniVersion": "1.0.0", "name": "net", "type": "portmap",
        "runtimeConfig": {
            "portMappings": [
                {"HostPort": 8095, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
                {"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "127.0.0.1"},
                {"HostPort": 1, "ContainerPort": 2, "Protocol": null, "HostIP": null},
            ],
            "dns": {"Servers": ["10.96.0.1"], "Searches": ["cluster.local"], "Options": null},
        },
    }))
    .runtime()
    .unwrap();
    let ports: Vec<_> = runtime
        .port_mappings
        .iter()
        .map(|port| (port.host_port, port.protocol.as_str(), port.host_ip))
        .collect();
    let loopback = Some("127.0.0.1".parse().unwrap());
    assert_eq!(
        ports,
        [(8095, "tcp", None), (53, "udp", loopback), (1, "", None)]
    );
    let dns = runtime.dns.unwrap();
    assert_eq!(dns.servers, ["10.96.0.1"]);
    assert_eq!(dns.searches, ["cluster.local"]);
    assert!(dns.options.is_empty());
}

#[test]
fn null_is_absent() {
    let config = config(json!({
        "cniVersion": null, "name": "net", "type": "bridge", "ipam": null, "dns": null,
        "args": null, "runtimeConfig": null, "prevResult": null,
        "isGateway": null, "mtu": null, "bridge": null, "capabilities": null,
    }));
    assert_eq!(config.version, Version::V0_1_0);
    assert_eq!(
        (config.ipam(), &config.dns, &config.prev_result),
        (None, &None, &None)
    );
    assert_eq!(config.keys::<Keys>().unwrap(), Keys::default());
    assert_eq!(config.runtime::<Ports>().unwrap(), Ports::default());
}

#[test]
fn unknown_keys_are_ignored() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        mtu: u32,
    }
    let config = config(json!({"name": "net", "mtu": 9000, "another": {"vendor": "s"}}));
    assert_eq!(config.keys::<Strict>().unwrap().mtu, 9000);
    assert_eq!(config.raw["another"]["vendor"], "s");
}

#[test]
fn numbers_of_any_notation() {
    let mtu = |text: &str| {
        let document = format!(r#"{{"name": "net", "mtu": {text}}}"#);
        NetworkConfig::parse(document.as_bytes(), Verb::Add)
            .unwrap()
            .keys::<Keys>()
            .map(|keys| keys.mtu)
    };
    assert_eq!(mtu("1500"), Ok(1500));
    assert_eq!(mtu("1500.0"), Ok(1500));
    assert_eq!(mtu("1.5e3"), Ok(1500));
    for wrong in ["1500.5", "-1", "4294967296", "1e300", "\"1500\""] {
        let error = mtu(wrong).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG);
        assert!(error.msg.contains("mtu: "), "{wrong}: {error}");
    }
}

#[test]
fn a_string_is_no_boolean() {
    let error = config(json!({"name": "net", "isGateway": "true"}))
        .keys::<Keys>()
        .unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert_eq!(
        error.msg,
        "network \"net\" is configured wrongly: isGateway: invalid type: string \"true\", \
         expected a boolean"
    );
}

#[test]
fn capabilities_stay_in() {
    let keys: Keys = config(json!({
        "name": "net", "capabilities": {"portMappings": true, "io.kubernetes.cri.x": true}
    }))
    .keys()
    .unwrap();
    assert!(keys.capabilities["portMappings"] && keys.capabilities["io.kubernetes.cri.x"]);
}

#[test]
fn both_gc_keys() {
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let other = json!([{"containerID": "c2", "ifname": "eth0"}]);
    let ids = |mut document: Value| {
        document["cniVersion"] = json!("1.1.0");
        document["name"] = json!("net");
        let list = parse(document, Verb::Gc)
            .unwrap()
            .valid_attachments
            .unwrap();
        list.into_iter()
            .map(|attachment| format!("{} {}", attachment.container_id, attachment.ifname))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ids(json!({"cni.dev/valid-attachments": valid})),
        ["c1 eth0"]
    );
    assert_eq!(ids(json!({"cni.dev/attachments": other})), ["c2 eth0"]);
    assert_eq!(
        ids(json!({"cni.dev/attachments": other, "cni.dev/valid-attachments": valid})),
        ["c1 eth0"]
    );
    assert!(ids(json!({"cni.dev/valid-attachments": []})).is_empty());
}

#[test]
fn gc_without_its_list() {
    let gc = |list: Value| {
        parse(
            json!({"cniVersion": "1.1.0", "name": "net", "cni.dev/valid-attachments": list}),
            Verb::Gc,
        )
    };
    assert_eq!(gc(Value::Null).unwrap().valid_attachments, None);
    // What cannot be understood may have to be kept, so nothing is collected.
    let error = gc(json!([{"containerID": "c", "ifname": "eth0"}, {"containerID": "c"}]));
    let error = error.unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    assert!(
        error.msg.contains("cni.dev/valid-attachments[1]: missing"),
        "{error}"
    );
    let error = gc(json!([{"containerID": "../c", "ifname": "eth0"}])).unwrap_err();
    assert!(
        error
            .msg
            .contains("cni.dev/valid-attachments[0].containerID: "),
        "{error}"
    );
}

#[test]
fn prev_result_of_any_shape() {
    let old = json!({"ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1"}, "dns": {}});
    let middle = json!({"ips": [{"version": "4", "address": "10.0.0.2/24",
        "gateway": "10.0.0.1"}], "dns": {}});
    let new = json!({"ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}]});
    let shapes = [
        (&old, "0.1.0"),
        (&old, "0.2.0"),
        (&middle, "0.3.0"),
        (&middle, "0.3.1"),
        (&middle, "0.4.0"),
        (&new, "1.0.0"),
        (&new, "1.1.0"),
    ];
    for (shape, version) in shapes {
        for named in [Some(version), None] {
            for verb in [Verb::Add, Verb::Del, Verb::Check] {
                let mut shape = shape.clone();
                if let Some(named) = named {
                    shape["cniVersion"] = json!(named);
                }
                let document = json!({"cniVersion": "1.1.0", "name": "n", "prevResult": shape});
                let config = parse(document, verb).unwrap();
                let ips = config.prev_result.expect("a result").ips;
                assert_eq!(ips[0].address, "10.0.0.2/24".parse::<Cidr>().unwrap());
                assert_eq!(ips[0].gateway, Some("10.0.0.1".parse().unwrap()));
            }
        }
    }
}

#[test]
fn missing_version_is_0_1_0() {
    for absent in [json!({"name": "n"}), json!({"name": "n", "cniVersion": ""})] {
        assert_eq!(config(absent).version, Version::V0_1_0);
    }
}

#[test]
fn del_survives_a_bad_prev_result() {
    for broken in [
        json!("what?"),
        json!({"cniVersion": "9.0.0"}),
        json!({"ips": [{"address": "10.0.0.2"}]}),
    ] {
        let document = json!({"cniVersion": "1.0.0", "name": "n", "prevResult": broken});
        let config = parse(document.clone(), Verb::Del).unwrap();
        assert_eq!(config.prev_result, None);
        let problem = config.prev_result_problem.expect("the reason is kept");
        assert!(problem.msg.starts_with("prevResult: "), "{problem}");
        assert_eq!(parse(document, Verb::Check).unwrap_err(), problem);
    }
}

#[test]
fn del_twice() {
    let call = [
        ("CNI_COMMAND", "DEL"),
        ("CNI_CONTAINERID", "c"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    let first = [("CNI_NETNS", "/run/netns/x")];
    let second = [("CNI_NETNS", "")];
    let with = |netns: &[(&'static str, &'static str)]| {
        invoke(&[&call, netns].concat()).unwrap().unwrap().netns
    };
    assert_eq!(with(&first).as_deref(), Some("/run/netns/x"));
    assert_eq!(with(&second), None);
    assert_eq!(with(&[]), None);
    let bare = parse(json!({"cniVersion": "1.0.0", "name": "n"}), Verb::Del).unwrap();
    assert_eq!((bare.prev_result, bare.prev_result_problem), (None, None));
}

#[test]
fn version_with_dummies() {
    let call = invoke(&[
        ("CNI_COMMAND", "VERSION"),
        ("CNI_NETNS", "dummy"),
        ("CNI_IFNAME", "a name far too long/for an interface"),
        ("CNI_CONTAINERID", "../dummy"),
        ("CNI_PATH", "dummy"),
    ]);
    let call = call.unwrap().unwrap();
    assert_eq!(call.verb, Verb::Version);
    assert_eq!(
        (call.container_id, call.ifname, call.netns),
        (None, None, None)
    );
    assert!(invoke(&[("CNI_COMMAND", "VERSION")]).unwrap().is_some());

    for (stdin, told) in [
        (&b"{\"cniVersion\": \"1.0.0\"}"[..], Version::V1_0_0),
        (b"{\"CniVersion\": \"0.4.0\"}", Version::V0_4_0),
        (b"{\"cniVersion\": \"7.0.0\"}", Version::V1_1_0),
        (b"{}", Version::V1_1_0),
        (b"", Version::V1_1_0),
        (b"\xff not json", Version::V1_1_0),
    ] {
        let info = VersionInfo::answer(stdin, &Version::ALL);
        assert_eq!((info.cni_version, info.supported_versions.len()), (told, 7));
    }
}

#[test]
fn status_and_gc_need_a_path_only() {
    for verb in ["STATUS", "GC"] {
        let call = invoke(&[
            ("CNI_COMMAND", verb),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_NETNS", ""),
            ("CNI_IFNAME", ""),
        ]);
        assert_eq!(call.unwrap().unwrap().verb.as_str(), verb);
        assert_eq!(
            invoke(&[("CNI_COMMAND", verb)]).unwrap_err().msg,
            "required env variables [CNI_PATH] missing"
        );
    }
}

#[test]
fn ip_and_mac_in_args() {
    for text in [
        "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=02:00:00:00:00:05;IP=10.0.0.5",
        "IP=10.0.0.5;MAC=02:00:00:00:00:05;K8S_POD_NAME=web;",
    ] {
        let args = Args::new(text);
        assert_eq!(args.get("IP"), Some("10.0.0.5"));
        assert_eq!(args.get("MAC"), Some("02:00:00:00:00:05"));
        assert_eq!(args.get("ip"), None, "keys of CNI_ARGS have a case");
        assert_eq!(args.check_known(&["IP", "MAC"]), Ok(()));
    }
}

#[test]
fn unknown_args() {
    let check = |text: &str| Args::new(text).check_known(&["IP"]);
    assert_eq!(check("IgnoreUnknown=1;FOO=bar"), Ok(()));
    assert_eq!(check("FOO=bar;IgnoreUnknown=true"), Ok(()));
    assert_eq!(check("K8S_POD_UID=u;IP=10.0.0.5"), Ok(()));
    assert_eq!(check(""), Ok(()));
    let error = check("IP=10.0.0.5;FOO=bar;ip=1;IgnoreUnknown=0").unwrap_err();
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert_eq!(error.msg, r#"ARGS: unknown args ["FOO=bar" "ip=1"]"#);
    assert_eq!(
        check("IgnoreUnknown=1;FOO").unwrap_err().msg,
        r#"ARGS: invalid pair "FOO""#
    );
}

#[test]
fn no_verb_is_a_banner() {
    assert_eq!(invoke(&[]), Ok(None));
    assert_eq!(invoke(&[("CNI_COMMAND", "")]), Ok(None));
    assert_eq!(
        banner("bridge", "v1.2.3"),
        "CNI bridge plugin v1.2.3\n\
         CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
    );
}

#[test]
fn words_of_the_protocol() {
    let told = parse(json!({"name": "n", "cniVersion": "2.0.0"}), Verb::Add).unwrap_err();
    assert_eq!(told.code, code::INCOMPATIBLE_VERSION);
    assert_eq!(told.msg, "incompatible CNI versions");
    assert_eq!(
        told.details,
        r#"config is "2.0.0", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#
    );
    let told = Error::of_delegate(told.code, told.msg, String::new());
    let told = told.to_json(Some(Version::V1_0_0));
    assert_eq!(
        told,
        "{\n    \"cniVersion\": \"1.0.0\",\n    \"code\": 1,\n    \
         \"msg\": \"incompatible CNI versions\"\n}"
    );
}
