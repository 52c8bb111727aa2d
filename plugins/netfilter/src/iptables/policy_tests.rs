use super::*;

#[track_caller]
fn check(family: Family, policy: &Policy, expected: &str) {
    let text = PolicyText::new(family, policy).expect("sound");
    let mut lines: Vec<String> = text.shared.iter().map(BaseRule::line).collect();
    lines.extend(text.own.iter().map(Rule::append));
    let plain = lines.join("\n").replace("-m comment --comment ", "");
    assert_eq!(plain, expected.trim());
}

#[test]
fn open_as_the_reference() {
    check(
        Family::V4,
        &Policy::open("web", "br0"),
        r#"
-A CNI-PONTOON-IN -o br0 "pontoon web (2b7e65ab)" -j CNI-PN-cbead8fe640f4d4a9a343
-A CNI-PONTOON-OUT -i br0 "pontoon web (2b7e65ab)" -j CNI-PONTOON-LEAVE
-A CNI-PONTOON-FROM -i br0 "pontoon web (2b7e65ab)" -j DROP
-A CNI-PONTOON-TO -o br0 "pontoon web (2b7e65ab)" -j DROP
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate RELATED,ESTABLISHED "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate DNAT "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 "pontoon web" -j ACCEPT
"#,
    );
}

#[test]
fn docker_with_trust_and_without_icc() {
    let policy = Policy {
        icc: false,
        host_access: false,
        trusted: vec!["wg0".to_owned()],
        ingress: Ingress::Isolated,
        ..Policy::docker("web", "br0")
    };
    check(
        Family::V6,
        &policy,
        r#"
-I CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 "CNI firewall plugin rules (ingressPolicy: isolated)" "pontoon web (4e0d7dc6)" -j CNI-ISOLATION-STAGE-2
-I CNI-ISOLATION-STAGE-1 -i br0 -o br0 "CNI firewall plugin rules (ingressPolicy: isolated)" "pontoon web (4e0d7dc6)" -j DROP
-I CNI-ISOLATION-STAGE-2 -o br0 "CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)" "pontoon web (4e0d7dc6)" -j DROP
-A CNI-PONTOON-IN -o br0 "pontoon web (4e0d7dc6)" -j CNI-PN-cbead8fe640f4d4a9a343
-A CNI-PONTOON-OUT -i br0 "pontoon web (4e0d7dc6)" -j CNI-PONTOON-TO
-A CNI-PONTOON-OUT -i br0 "pontoon web (4e0d7dc6)" -j CNI-PONTOON-LEAVE
-A CNI-PONTOON-FROM -i br0 "pontoon web (4e0d7dc6)" -j DROP
-A CNI-PONTOON-TO -o br0 "pontoon web (4e0d7dc6)" -j DROP
-A CNI-PONTOON-CLOSED -i wg0 -o br0 "pontoon web (4e0d7dc6)" -j ACCEPT
-A CNI-PONTOON-CLOSED -o br0 "pontoon web (4e0d7dc6)" -j DROP
-I CNI-PONTOON-HOST -o br0 -p ipv6-icmp -m icmp6 --icmpv6-type 137 "pontoon web (4e0d7dc6)" -j DROP
-A CNI-PONTOON-HOST -i br0 "pontoon web (4e0d7dc6)" -j CNI-PONTOON-BAR
-A CNI-PONTOON-HOST -o br0 -m conntrack --ctstate DNAT "pontoon web (4e0d7dc6)" -j RETURN
-A CNI-PONTOON-HOST -o br0 "pontoon web (4e0d7dc6)" -j CNI-PONTOON-BAR
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate RELATED,ESTABLISHED "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate DNAT "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 -p ipv6-icmp -m icmp6 --icmpv6-type 135 "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 -p ipv6-icmp -m icmp6 --icmpv6-type 136 "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 "pontoon web" -j CNI-PL-br0
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 "pontoon web" -j DROP
-A CNI-PN-cbead8fe640f4d4a9a343 "pontoon web" -j CNI-PONTOON-FROM
"#,
    );
}

#[test]
fn a_network_of_several_hosts_passes_between_them() {
    let reach = Reach {
        device: Some("vx-web".to_owned()),
        uplinks: Vec::new(),
        subnets: vec!["10.5.0.0/16".parse().unwrap(), "fd05::/48".parse().unwrap()],
    };
    let policy = Policy {
        internal: true,
        reach: Some(reach),
        ..Policy::open("web", "br0")
    };
    check(
        Family::V4,
        &policy,
        r#"
-A CNI-PONTOON-INTERNAL -d 10.5.0.0/16 -i br0 -o vx-web "pontoon web (5368666a)" -j RETURN
-A CNI-PONTOON-INTERNAL -i br0 ! -o br0 -m conntrack ! --ctstate RELATED,ESTABLISHED "pontoon web (5368666a)" -j DROP
-A CNI-PONTOON-IN -o br0 "pontoon web (5368666a)" -j CNI-PN-cbead8fe640f4d4a9a343
-A CNI-PONTOON-OUT -d 10.5.0.0/16 -i br0 -o vx-web "pontoon web (5368666a)" -j CNI-PONTOON-LEAVE
-A CNI-PONTOON-OUT -i br0 "pontoon web (5368666a)" -j CNI-PONTOON-LEAVE
-A CNI-PONTOON-FROM -i br0 "pontoon web (5368666a)" -j DROP
-A CNI-PONTOON-TO -o br0 "pontoon web (5368666a)" -j DROP
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate RELATED,ESTABLISHED "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -m conntrack --ctstate DNAT "pontoon web" -j DROP
-A CNI-PN-cbead8fe640f4d4a9a343 -s 10.5.0.0/16 -i vx-web "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 -i br0 "pontoon web" -j ACCEPT
-A CNI-PN-cbead8fe640f4d4a9a343 "pontoon web" -j DROP
"#,
    );
}

#[test]
fn a_link_is_one_rule_with_its_owner() {
    let link = Link {
        owner: Owner {
            network: "web".to_owned(),
            container: "c2".to_owned(),
            interface: "eth0".to_owned(),
        },
        bridge: "docker0".to_owned(),
        from: [10, 88, 0, 3].into(),
        to: [10, 88, 0, 2].into(),
        protocol: crate::Protocol::Udp,
        port: 53,
    };
    let text = LinkText::new(Family::V4, &link)
        .expect("sound")
        .expect("v4");
    assert_eq!(
        text.rule.append(),
        "-A CNI-PL-docker0 -s 10.88.0.3/32 -d 10.88.0.2/32 -i docker0 -p udp -m udp --dport 53 \
         -m comment --comment \"pontoon web c2 eth0\" -j ACCEPT"
    );
    assert_eq!(LinkText::new(Family::V6, &link), Ok(None));
    let mixed = Link {
        to: "fd00::2".parse().expect("address"),
        ..link
    };
    let error = LinkText::new(Family::V4, &mixed).expect_err("two families");
    assert_eq!(
        error.to_string(),
        "10.88.0.3 cannot be linked to fd00::2: not the same family"
    );
}

#[test]
fn the_admins_chain_cannot_be_one_that_leads_there() {
    for (name, expected) in [
        ("MY-RULES", true),
        ("FORWARD", false),
        ("CNI-FORWARD", false),
        ("CNI-PONTOON-IN", false),
        ("CNI-PN-1", false),
        ("DOCKER-USER", false),
        ("two words", false),
    ] {
        let policy = Policy {
            admin_chain: name.to_owned(),
            ..Policy::open("web", "br0")
        };
        let made = PolicyText::new(Family::V4, &policy);
        assert_eq!(made.is_ok(), expected, "{name}");
    }
}
