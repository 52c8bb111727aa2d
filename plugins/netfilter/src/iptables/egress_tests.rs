use super::*;
use crate::rules::Snat;

fn network(egress: Vec<Egress>) -> NetworkRules {
    NetworkRules {
        network: "web".to_owned(),
        bridge: "br0".to_owned(),
        egress,
    }
}

fn egress(subnet: &str, snat: &[(&str, Option<&str>)]) -> Egress {
    Egress {
        subnet: subnet.parse().expect("subnet"),
        snat: snat
            .iter()
            .map(|(source, out)| Snat {
                source: source.parse().expect("address"),
                out: out.map(str::to_owned),
            })
            .collect(),
    }
}

#[track_caller]
fn check(family: Family, network: &NetworkRules, expected: &str) {
    let text = NetworkText::new(family, network)
        .expect("sound")
        .expect("of this family");
    let lines: Vec<String> = text.all().into_iter().map(Rule::append).collect();
    assert_eq!(lines.join("\n"), expected.trim());
}

#[test]
fn masquerade() {
    check(
        Family::V4,
        &network(vec![
            egress("10.88.0.5/24", &[]),
            egress("fd00:88::/64", &[]),
        ]),
        r#"
-A CNI-PONTOON -o br0 -m comment --comment "pontoon web (dbd26125)" -j RETURN
-A CNI-PONTOON -s 10.88.0.0/24 -m comment --comment "pontoon web (dbd26125)" -j CNI-PT-9fe8e98d13fed2100b9e2
-A CNI-PT-9fe8e98d13fed2100b9e2 -d 10.88.0.0/24 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-9fe8e98d13fed2100b9e2 -d 224.0.0.0/4 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-9fe8e98d13fed2100b9e2 -m comment --comment "pontoon web" -j MASQUERADE
"#,
    );
}

#[test]
fn sources_by_interface_and_then_masquerade() {
    let snat = [("2001:db8::7", Some("eth1")), ("2001:db8::8", Some("eth2"))];
    check(
        Family::V6,
        &network(vec![egress("fd00:88::/64", &snat)]),
        r#"
-A CNI-PONTOON -o br0 -m comment --comment "pontoon web (6dabc4d5)" -j RETURN
-A CNI-PONTOON -s fd00:88::/64 -m comment --comment "pontoon web (6dabc4d5)" -j CNI-PT-caec9adf9d97dd92bdd55
-A CNI-PT-caec9adf9d97dd92bdd55 -d fd00:88::/64 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-caec9adf9d97dd92bdd55 -d ff00::/8 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-caec9adf9d97dd92bdd55 -o eth1 -m comment --comment "pontoon web" -j SNAT --to-source 2001:db8::7
-A CNI-PT-caec9adf9d97dd92bdd55 -o eth2 -m comment --comment "pontoon web" -j SNAT --to-source 2001:db8::8
-A CNI-PT-caec9adf9d97dd92bdd55 -m comment --comment "pontoon web" -j MASQUERADE
"#,
    );
}

/// What stands behind a rule for every interface would never be reached.
#[test]
fn one_source_for_all() {
    let snat = [("192.0.2.7", None), ("192.0.2.8", Some("eth1"))];
    check(
        Family::V4,
        &network(vec![egress("10.88.0.0/24", &snat)]),
        r#"
-A CNI-PONTOON -o br0 -m comment --comment "pontoon web (87014c9c)" -j RETURN
-A CNI-PONTOON -s 10.88.0.0/24 -m comment --comment "pontoon web (87014c9c)" -j CNI-PT-9fe8e98d13fed2100b9e2
-A CNI-PT-9fe8e98d13fed2100b9e2 -d 10.88.0.0/24 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-9fe8e98d13fed2100b9e2 -d 224.0.0.0/4 -m comment --comment "pontoon web" -j RETURN
-A CNI-PT-9fe8e98d13fed2100b9e2 -m comment --comment "pontoon web" -j SNAT --to-source 192.0.2.7
"#,
    );
}

#[test]
fn a_network_without_egress_keeps_senders_addresses() {
    check(
        Family::V6,
        &network(Vec::new()),
        r#"
-A CNI-PONTOON -o br0 -m comment --comment "pontoon web (82acb2e5)" -j RETURN
"#,
    );
}

#[test]
fn other_families_are_left_out() {
    let only_v4 = network(vec![egress("10.88.0.0/24", &[])]);
    assert_eq!(NetworkText::new(Family::V6, &only_v4), Ok(None));
}

#[test]
fn a_source_of_the_wrong_family_is_named() {
    let wrong = network(vec![egress("10.88.0.0/24", &[("2001:db8::7", None)])]);
    let error = NetworkText::new(Family::V4, &wrong).expect_err("wrong family");
    assert_eq!(
        error.to_string(),
        "2001:db8::7 cannot be the source of traffic from 10.88.0.0/24: not the same family"
    );
}

#[test]
fn owns_its_comments_in_any_version() {
    let text = NetworkText::new(Family::V4, &network(Vec::new()))
        .expect("sound")
        .expect("v4");
    for (comment, expected) in [
        ("pontoon web", true),
        ("pontoon web (00000000)", true),
        ("pontoon webs (00000000)", false),
        ("pontoon web c1 eth0", false),
        ("pontoon web (0000000) ", false),
        ("web", false),
    ] {
        assert_eq!(text.owns(comment), expected, "{comment}");
    }
}
