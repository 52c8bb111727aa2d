use super::*;
use crate::owner::Owner;

fn published(ports: &[(Protocol, Option<&str>, u16, u16)]) -> Published {
    Published {
        owner: Owner {
            network: "lan".to_owned(),
            container: "c1".to_owned(),
            interface: "eth0".to_owned(),
        },
        v4: Some("10.88.0.2/24".parse().expect("address")),
        v6: Some("fd00:88::2/64".parse().expect("address")),
        ports: ports
            .iter()
            .map(|(protocol, host_ip, host_port, container_port)| Port {
                protocol: *protocol,
                host_ip: host_ip.map(|ip| ip.parse().expect("address")),
                host_port: *host_port,
                container_port: *container_port,
            })
            .collect(),
        beside: Vec::new(),
        snat: true,
        masquerade_all: false,
        mark: Mark::Bit(13),
        conditions_v4: Vec::new(),
        conditions_v6: Vec::new(),
    }
}

/// The base is compared as well where the expected text shows it.
#[track_caller]
fn check(family: Family, published: &Published, expected: &str) {
    let text = PortsText::new(family, published)
        .expect("sound")
        .expect("of this family");
    let mut lines: Vec<String> = text
        .base
        .rules
        .iter()
        .filter(|_| expected.contains("PREROUTING"))
        .map(BaseRule::line)
        .collect();
    lines.extend(text.create());
    assert_eq!(lines.join("\n"), expected.trim());
}

#[test]
fn one_port_and_all_it_builds_on() {
    check(
        Family::V4,
        &published(&[(Protocol::Tcp, None, 8080, 80)]),
        r#"
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-I POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-I PREROUTING -d 127.0.0.0/8 ! -i lo -m comment --comment "pontoon loopback guard" -j DROP
-N CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-DN-78be48db7a08b98cf0bb5 -s 10.88.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -s 127.0.0.0/8 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -p tcp -m tcp --dport 8080 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination 10.88.0.2:80
"#,
    );
}

#[test]
fn without_masquerade() {
    let mut plain = published(&[(Protocol::Udp, Some("::"), 53, 53)]);
    plain.snat = false;
    check(
        Family::V6,
        &plain,
        r#"
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-I PREROUTING -d ::1/128 ! -i lo -m comment --comment "pontoon loopback guard" -j DROP
-N CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 53 -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-DN-78be48db7a08b98cf0bb5 -p udp -m udp --dport 53 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination [fd00:88::2]:53
"#,
    );
}

/// A port at one address is met before the same at every address; addresses of the other family
/// are left out.
#[test]
fn host_addresses() {
    check(
        Family::V4,
        &published(&[
            (Protocol::Tcp, None, 8080, 80),
            (Protocol::Tcp, Some("192.0.2.1"), 8080, 81),
            (Protocol::Tcp, Some("2001:db8::1"), 8080, 82),
        ]),
        r#"
-N CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-DN-78be48db7a08b98cf0bb5 -s 10.88.0.0/24 -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -s 127.0.0.0/8 -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination 10.88.0.2:81
-A CNI-DN-78be48db7a08b98cf0bb5 -s 10.88.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -s 127.0.0.0/8 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-78be48db7a08b98cf0bb5 -p tcp -m tcp --dport 8080 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination 10.88.0.2:80
"#,
    );
}

#[test]
fn ranges_and_groups_of_fifteen() {
    let mut ports: Vec<_> = (0..16)
        .map(|n| (Protocol::Sctp, None, 9000 + n, 80 + n))
        .collect();
    ports.extend((0..2).map(|n| (Protocol::Tcp, None, 65534 + n, 65534 + n)));
    let mut all = published(&ports);
    all.masquerade_all = true;
    all.mark = Mark::Chain("KUBE-MARK-MASQ".to_owned());
    all.conditions_v6 = ["!", "-s", "2001:db8::/32"].map(str::to_owned).to_vec();
    check(
        Family::V6,
        &all,
        r#"
-N CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 65534,65535 "!" "-s" "2001:db8::/32" -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p sctp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 9000,9001,9002,9003,9004,9005,9006,9007,9008,9009,9010,9011,9012,9013,9014 "!" "-s" "2001:db8::/32" -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-HOSTPORT-DNAT -p sctp -m comment --comment "dnat name: \"lan\" id: \"c1\"" -m multiport --dports 9015 "!" "-s" "2001:db8::/32" -j CNI-DN-78be48db7a08b98cf0bb5
-A CNI-DN-78be48db7a08b98cf0bb5 -p tcp -m tcp --dport 65534:65535 -j KUBE-MARK-MASQ
-A CNI-DN-78be48db7a08b98cf0bb5 -p tcp -m tcp --dport 65534:65535 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination fd00:88::2
-A CNI-DN-78be48db7a08b98cf0bb5 -p sctp -m sctp --dport 9000:9015 -j KUBE-MARK-MASQ
-A CNI-DN-78be48db7a08b98cf0bb5 -p sctp -m sctp --dport 9000:9015 -m comment --comment "pontoon lan c1 eth0" -j DNAT --to-destination [fd00:88::2]:80-95/9000
"#,
    );
}

/// The formula of the reference plugins: the first 21 hex digits of `sha512("lan" + "c1")`.
#[test]
fn the_chains_name_is_the_references() {
    assert_eq!(chain_name("lan", "c1"), "CNI-DN-78be48db7a08b98cf0bb5");
    assert_eq!(chain_name("lan", "c1").len(), 28);
}

#[test]
fn nothing_to_publish_is_nothing() {
    assert_eq!(PortsText::new(Family::V4, &published(&[])), Ok(None));
    let mut homeless = published(&[(Protocol::Tcp, None, 8080, 80)]);
    homeless.v6 = None;
    assert_eq!(PortsText::new(Family::V6, &homeless), Ok(None));
}

#[test]
fn a_mark_has_32_bits() {
    let mut wrong = published(&[(Protocol::Tcp, None, 8080, 80)]);
    wrong.mark = Mark::Bit(32);
    let error = PortsText::new(Family::V4, &wrong).expect_err("no such bit");
    assert_eq!(error, TextError::MarkBit { bit: 32 });
}

/// 255 bytes are all that the comment match holds.
#[test]
fn long_names_are_cut_in_the_comment_only() {
    let mut long = published(&[(Protocol::Tcp, None, 8080, 80)]);
    long.owner.network = "n".repeat(200);
    long.owner.container = "c".repeat(200);
    let text = PortsText::new(Family::V4, &long)
        .expect("sound")
        .expect("a port");
    let spec = &text.entries[0].spec;
    assert!(
        spec.contains("nnn\\\" id: \\\"ccc") && spec.contains("ccc...\" -m multiport"),
        "{spec}"
    );
    let comment = spec
        .split("--comment \"")
        .nth(1)
        .and_then(|rest| rest.split("\" -m").next());
    assert_eq!(comment.map(|text| text.replace('\\', "").len()), Some(255));
}
