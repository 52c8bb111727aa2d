use super::*;

fn told(text: &str, extension: &str) -> Vec<String> {
    let line = |finding: Finding| {
        let Place { line, column } = finding.place;
        format!("{line}:{column} {:?} {}", finding.level, finding.text)
    };
    judge(text, extension).into_iter().map(line).collect()
}

/// A list with these plugins, each on a line of its own from the second on.
fn list(plugins: &[&str]) -> String {
    let plugins = plugins.join(",\n");
    format!("{{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"plugins\": [\n{plugins}\n]}}")
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let told = told(text, "conflist");
    let all = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|(told, expected)| told.starts_with(expected));
    assert!(all, "{text}\n{told:#?}\ninstead of\n{expected:#?}");
}

#[track_caller]
fn plugin(text: &str, expected: &[&str]) {
    check(&list(&[text]), expected);
}

#[test]
fn a_sound_list_is_let_be() {
    let bridge = r#"{"type": "bridge", "bridge": "b", "isGateway": true, "ipMasq": true, "mtu": "auto",
        "snat": ["192.0.2.1", {"source": "192.0.2.2", "out": "eth1"}], "dns": {"nameservers": ["192.0.2.3"]},
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}"#;
    let portmap = r#"{"type": "portmap", "capabilities": {"portMappings": true}}"#;
    let others = r#"{"type": "flannel", "delegate": {"anything": 1}}"#;
    check(&list(&[bridge, portmap, others]), &[]);
    // Case and null are forgiven, as plugins forgive them.
    plugin(
        r#"{"type": "bridge", "ISGATEWAY": null, "BRIDGE": "b"}"#,
        &[],
    );
}

#[test]
fn keys_that_nobody_reads_are_told_with_the_one_that_was_meant() {
    plugin(
        r#"{"type": "bridge", "isGatway": true}"#,
        &["2:20 Warning plugin bridge has no key \"isGatway\": did you mean \"isGateway\"?"],
    );
    plugin(
        r#"{"type": "bridge", "ip_masq": true}"#,
        &["2:20 Warning plugin bridge has no key \"ip_masq\": did you mean \"ipMasq\"?"],
    );
    plugin(
        r#"{"type": "bridge", "ingressRate": 5}"#,
        &["2:20 Warning plugin bridge has no key \"ingressRate\": it is a key of bandwidth"],
    );
    plugin(
        r#"{"type": "bridge", "colour": 5}"#,
        &["2:20 Warning plugin bridge has no key \"colour\": it does nothing"],
    );
    plugin(
        r#"{"type": "bridge", "ipam": {"type": "host-local", "subnets": "10.1.0.0/16"}}"#,
        &["2:51 Warning ipam host-local has no key \"subnets\": did you mean \"subnet\"?"],
    );
    check(
        r#"{"cniVersion": "1.0.0", "name": "n", "plugin": [], "plugins": [{"type": "loopback"}]}"#,
        &["1:38 Warning the list has no key \"plugin\": did you mean \"plugins\"?"],
    );
}

#[test]
fn values_of_the_wrong_kind_are_told_with_the_right_one() {
    plugin(
        r#"{"type": "bridge", "isGateway": "true"}"#,
        &[
            "2:33 Error key \"isGateway\" of plugin bridge must be true or false: take the quotes off \"true\"",
        ],
    );
    plugin(
        r#"{"type": "bridge", "mtu": 70000}"#,
        &[
            "2:27 Error key \"mtu\" of plugin bridge must be a whole number from 0 to 65535 or \"auto\"",
        ],
    );
    plugin(
        r#"{"type": "bridge", "vlan": 5000}"#,
        &[
            "2:28 Error key \"vlan\" of plugin bridge must be a whole number from 0 to 4094, not 5000",
        ],
    );
    plugin(
        r#"{"type": "bridge", "ipMasqBackend": "nftable"}"#,
        &[
            "2:37 Error key \"ipMasqBackend\" of plugin bridge must be \"iptables\" or \"nftables\", not \"nftable\": did you mean \"nftables\"?",
        ],
    );
    plugin(
        r#"{"type": "bridge", "vlanTrunk": [{"id": 0}]}"#,
        &[
            "2:41 Error key \"id\" of \"vlanTrunk\" of plugin bridge must be a whole number from 1 to 4094",
        ],
    );
    check(
        r#"{"cniVersion": "1.2.0", "name": "n", "plugins": [{"type": "loopback"}]}"#,
        &["1:16 Error key \"cniVersion\" of the list must be \"0.1.0\", "],
    );
}

#[test]
fn what_lies_between_plugins_is_judged() {
    let bridge = r#"{"type": "bridge", "ipam": {"type": "static"}}"#;
    check(
        &list(&[r#"{"type": "firewall"}"#, bridge]),
        &["2:10 Error firewall comes first", "3:10 Error bridge makes"],
    );
    check(
        &list(&[r#"{"type": "none"}"#, r#"{"type": "portmap"}"#]),
        &[
            "3:10 Error ports cannot be published",
            "3:10 Warning plugin portmap without",
        ],
    );
    plugin(
        r#"{"type": "bridge", "hairpinMode": true, "promiscMode": true}"#,
        &["2:41 Error hairpinMode and promiscMode"],
    );
    plugin(
        r#"{"type": "bridge", "ipMasq": true}"#,
        &["2:20 Warning \"ipMasq\" without \"ipam\""],
    );
    plugin(
        r#"{"type": "brigde"}"#,
        &["2:10 Warning \"brigde\" is no plugin that is known here: did you mean \"bridge\"?"],
    );
    plugin(
        r#"{"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.5/16"}]]}}"#,
        &["2:74 Error"],
    );
    plugin(
        r#"{"type": "bridge", "internal": true, "internal": false}"#,
        &["2:38 Warning key \"internal\" stands here twice"],
    );
}

#[test]
fn a_version_that_older_runtimes_refuse_is_told() {
    let newest = r#"{"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "loopback"}]}"#;
    check(
        newest,
        &["1:16 Warning key \"cniVersion\": runtimes with libcni before 1.2 refuse 1.1.0"],
    );
    assert!(
        told(newest, "conflist")[0]
            .ends_with(r#"write "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"]"#)
    );
    // The old ones read `cniVersion` only.
    check(
        r#"{"cniVersion": "1.1.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "n", "plugins": [{"type": "loopback"}]}"#,
        &["1:16 Warning key \"cniVersion\""],
    );
    check(
        r#"{"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "n", "plugins": [{"type": "loopback"}]}"#,
        &[],
    );
    check(
        r#"{"cniVersion": "1.0.0", "cniVersions": ["1.0", "2.0.0"], "name": "n", "plugins": [{"type": "loopback"}]}"#,
        &["1:41 Error key \"cniVersions\" of the list: \"1.0\" is no version"],
    );
    let single = r#"{"cniVersion": "1.1.0", "name": "n", "type": "loopback"}"#;
    assert!(told(single, "conf")[0].contains("write \"1.0.0\", or make a list"));
}

#[test]
fn what_is_no_configuration_is_told() {
    check("", &["1:1 Error the file is empty"]);
    check("[1]", &["1:1 Error a network configuration is an object"]);
    check("{\n \"a\": 1,\n}", &["3:1 Error take out the comma"]);
    check(
        "{\n \"a\": 1\n \"b\": 2\n}",
        &["3:2 Error a comma is missing"],
    );
    check("{\n // words\n}", &["2:2 Error JSON has no comments"]);
    check("{\"a\": 1", &["1:7 Error the file ends too early"]);
    check(
        "{}",
        &[
            "1:1 Error key \"name\"",
            "1:1 Error key \"plugins\"",
            "1:1 Warning key \"cniVersion\"",
        ],
    );
    check(
        r#"{"cniVersion": "1.0.0", "name": "a/b", "plugins": []}"#,
        &[
            "1:33 Error the network's name",
            "1:51 Error \"plugins\" must be",
        ],
    );
    check(
        r#"{"cniVersion": "1.0.0", "name": "n", "type": "loopback"}"#,
        &["1:1 Error a single plugin in a file called .conflist"],
    );
    assert_eq!(
        told(
            r#"{"cniVersion": "1.0.0", "name": "n", "type": "loopback"}"#,
            "conf"
        ),
        [""; 0]
    );
}
