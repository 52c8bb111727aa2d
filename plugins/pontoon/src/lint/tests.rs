use super::*;

fn told(text: &str, extension: &str) -> Vec<String> {
    let line = |finding: Finding| {
        let Place { line, column } = finding.place;
        format!("{line}:{column} {:?} {}", finding.level, finding.text)
    };
    judge(text, extension).into_iter().map(line).collect()
}

/// All that is wrong with one document.
fn judge(text: &str, kind: &str) -> Vec<Finding> {
    let document = document("n.conflist", kind, text);
    let judged = together(&[document], false, None);
    judged.into_iter().flat_map(|one| one.findings).collect()
}

fn document(file: &str, kind: &str, text: &str) -> Document {
    Document {
        file: file.to_owned(),
        kind: kind.to_owned(),
        text: text.to_owned(),
    }
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
fn unknown_keys_are_told_with_the_known_key_that_was_meant() {
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
            "3:10 Warning plugin portmap without",
            "3:10 Warning portmap publishes no ports of a container of type none",
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

/// A bridge with this ipam.
fn on_bridge(ipam: &str) -> String {
    format!("{{\"type\": \"bridge\", \"isDefaultGateway\": true,\n\"ipam\": {ipam}}}")
}

#[test]
fn what_plugins_refuse_is_told_by_their_own_parsers() {
    plugin(
        r#"{"type": "bridge", "bridge": "a-bridge-of-22-bytes..", "vlan": 7}"#,
        &["2:30 Error plugin bridge refuses it: key \"bridge\": \"a-bridge-of-22-bytes..\""],
    );
    // One key after the other, though a parser tells its first fault only.
    plugin(
        r#"{"type": "dns", "domain": "my domain", "ttl": 100000, "upstreams": ["1.1.1.1", "one"]}"#,
        &[
            "2:10 Error dns comes first",
            "2:27 Error plugin dns refuses it: key \"domain\": \"my domain\" is no domain name",
            "2:47 Error ",
            "2:80 Error plugin dns refuses it: key \"upstreams\": \"one\" is no IP address",
        ],
    );
    plugin(
        r#"{"type": "bridge", "snat": ["192.0.2.1/24"]}"#,
        &["2:29 Error plugin bridge refuses it: key \"snat[0]\""],
    );
    plugin(
        r#"{"type": "macvlan", "mode": "tree", "master": "a/b"}"#,
        &[
            "2:29 Error key \"mode\" of plugin macvlan",
            "2:47 Error plugin macvlan refuses it: key \"master\"",
        ],
    );
    plugin(
        r#"{"type": "host-device"}"#,
        &["2:10 Error plugin host-device refuses it: specify either"],
    );
    plugin(
        r#"{"type": "host-device", "capabilities": {"deviceID": true}}"#,
        &[],
    );
    let chained = |text: &str, expected: &[&str]| {
        check(&list(&[r#"{"type": "bridge"}"#, text]), expected);
    };
    chained(
        r#"{"type": "firewall", "profile": "docker", "trustedInterfaces": ["a b"]}"#,
        &["3:65 Error plugin firewall refuses it: key \"trustedInterfaces\""],
    );
    chained(
        r#"{"type": "firewall", "internal": true, "isolation": false}"#,
        &["3:"],
    );
    chained(
        r#"{"type": "bandwidth", "ingressRate": 8000}"#,
        &[
            "3:38 Error plugin bandwidth refuses it: key \"ingressRate\": if rate is set, burst must also be set",
        ],
    );
    chained(
        r#"{"type": "sbr", "table": 254}"#,
        &["3:26 Error plugin sbr refuses it"],
    );
    chained(
        r#"{"type": "tuning", "mac": "02:00"}"#,
        &["3:27 Error plugin tuning refuses it"],
    );
    plugin(
        &on_bridge(r#"{"type": "host-local", "exclude": ["10.0.0.300"]}"#),
        &["3:44 Error plugin bridge refuses it: "],
    );
    plugin(
        &on_bridge(r#"{"type": "static", "addresses": [{"address": "10.0.0.1"}]}"#),
        &[
            "3:54 Error plugin bridge refuses it: key \"ipam\": ipam.addresses[0].address: invalid CIDR 10.0.0.1",
        ],
    );
}

#[test]
fn every_fault_of_a_range_is_told_at_its_key() {
    plugin(
        &on_bridge(
            r#"{"type": "host-local", "ranges": [[{"subnet": "10.20.0.5/24",
"rangeStart": "10.30.0.1",
"rangeEnd": "ten",
"gateway": "10.40.0.1"}]]}"#,
        ),
        &[
            "3:55 Error key \"subnet\": 10.20.0.5/24 has bits behind its prefix length: the subnet is 10.20.0.0/24",
            "4:15 Error key \"rangeStart\": 10.30.0.1 is not in the subnet 10.20.0.0/24",
            "5:13 Error key \"rangeEnd\": \"ten\" is no IP address",
            "6:12 Error key \"gateway\": 10.40.0.1 is not in the subnet 10.20.0.0/24: containers cannot reach it",
        ],
    );
    let local = |range: &str| {
        on_bridge(&format!(
            "{{\"type\": \"host-local\", \"ranges\": [[\n{range}]]}}"
        ))
    };
    plugin(
        &local(r#"{"subnet": "10.20.0.0/24", "rangeStart": "10.20.0.9", "rangeEnd": "10.20.0.2"}"#),
        &["4:67 Error key \"rangeEnd\": 10.20.0.2 comes before rangeStart"],
    );
    plugin(
        &local(r#"{"subnet": "10.20.0.0/24"}, {"subnet": "10.20.0.128/25"}"#),
        &["4:40 Error key \"subnet\": 10.20.0.128/25 overlaps with 10.20.0.0/24"],
    );
    plugin(
        &local(r#"{"subnet": "10.20.0.0/24"}], [{"subnet": "10.0.0.0/8"}"#),
        &["4:42 Error key \"subnet\": 10.0.0.0/8 overlaps with 10.20.0.0/24"],
    );
    plugin(
        &local(r#"{"subnet": "fd00::/126", "gateway": "fe80::1"}, {"subnet": "fd00::8/126"}"#),
        &[],
    );
    plugin(
        &local(r#"{"rangeStart": "10.0.0.1"}"#),
        &["4:1 Error key \"subnet\" is missing"],
    );
    plugin(
        &local(r#"{"subnet": "10.0.0.0/31"}"#),
        &["4:12 Error key \"subnet\": "],
    );
    // The gateway of a pair is reached by a route of its own.
    let pair = r#"{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}}"#;
    plugin(pair, &[]);
}

#[test]
fn masquerade_without_a_way_out_is_told() {
    let bridge = |keys: &str, routes: &str| {
        format!(
            "{{\"type\": \"bridge\", {keys},\n\"ipam\": {{\"type\": \"host-local\", \"ranges\": \
             [[{{\"subnet\": \"10.1.0.0/16\"}}], [{{\"subnet\": \"fd01::/64\"}}]], \"routes\": [{routes}]}}}}"
        )
    };
    let (v4, v6) = (r#"{"dst": "0.0.0.0/0"}"#, r#"{"dst": "::/0"}"#);
    let both = format!("{v4}, {v6}");
    plugin(
        &bridge("\"ipMasq\": true", &both),
        &["2:20 Warning \"ipMasq\": without \"isGateway\""],
    );
    let gateway = "\"isGateway\": true, \"ipMasq\": true";
    plugin(&bridge(gateway, &both), &[]);
    plugin(
        &bridge("\"isDefaultGateway\": true, \"ipMasq\": true", ""),
        &[],
    );
    plugin(
        &bridge(gateway, v4),
        &["2:39 Warning \"ipMasq\": containers get no default route for IPv6"],
    );
    plugin(
        &bridge(gateway, v6),
        &["2:39 Warning \"ipMasq\": containers get no default route for IPv4"],
    );
    plugin(
        r#"{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}"#,
        &["2:17 Warning \"ipMasq\": containers get no default route for IPv4"],
    );
}

/// What is said of the second of two networks, each a bridge with these keys and this subnet.
fn beside(folder: bool, one: (&str, &str, &str), other: (&str, &str, &str)) -> Vec<String> {
    let text = |(name, keys, subnet): (&str, &str, &str)| {
        format!(
            "{{\"cniVersion\": \"1.0.0\", \"name\": \"{name}\", \"plugins\": [{{\"type\": \"bridge\", {keys},\n\
             \"ipam\": {{\"type\": \"host-local\", \"subnet\": \"{subnet}\"}}}}]}}"
        )
    };
    let documents = [
        document("10-a.conflist", "conflist", &text(one)),
        document("20-b.conflist", "conflist", &text(other)),
    ];
    let mut judged = together(&documents, folder, None);
    assert!(judged[0].findings.is_empty(), "{judged:?}");
    let line = |finding: Finding| {
        let Place { line, column } = finding.place;
        format!("{line}:{column} {:?} {}", finding.level, finding.text)
    };
    judged.remove(1).findings.into_iter().map(line).collect()
}

#[track_caller]
fn check_beside(one: (&str, &str, &str), other: (&str, &str, &str), expected: &[&str]) {
    let told = beside(true, one, other);
    let all = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|(told, expected)| told.starts_with(expected));
    assert!(all, "{told:#?}\ninstead of\n{expected:#?}");
    let singly = beside(false, one, other);
    assert_eq!(singly.len(), told.len());
    assert!(
        singly.iter().all(|told| told.contains(" Warning ")),
        "{singly:?}"
    );
}

#[test]
fn one_name_bridge_or_subnet_in_two_files_is_told() {
    const A: &str = r#""bridge": "br-a", "isGateway": true"#;
    const B: &str = r#""bridge": "br-b", "isGateway": true"#;
    let one = ("a", A, "10.1.0.0/16");
    check_beside(one, ("b", B, "10.2.0.0/16"), &[]);
    check_beside(
        one,
        ("a", B, "10.2.0.0/16"),
        &["1:33 Error key \"name\": 10-a.conflist has a network a already"],
    );
    check_beside(
        one,
        ("b", A, "10.2.0.0/16"),
        &["1:79 Error key \"bridge\": br-a is the bridge of the network in 10-a.conflist too"],
    );
    check_beside(
        one,
        ("b", B, "10.1.128.0/24"),
        &[
            "2:42 Error key \"subnet\": 10.1.128.0/24 clashes with 10.1.0.0/16 of the network in 10-a.conflist",
        ],
    );
    // Without gateways: one link, and one pool in two hands.
    check_beside(
        ("a", r#""bridge": "lan""#, "10.1.0.0/16"),
        ("b", r#""bridge": "lan""#, "10.2.0.0/16"),
        &["1:79 Warning key \"bridge\": lan is the bridge of the network in 10-a.conflist too"],
    );
    check_beside(
        ("a", r#""bridge": "lan", "vlan": 7"#, "10.1.0.0/16"),
        ("b", r#""bridge": "lan", "vlan": 8"#, "10.2.0.0/16"),
        &[],
    );
}
