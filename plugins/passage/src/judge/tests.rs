//! Accepts and drops as administrators write them.

use super::*;
use crate::checks::{CheckOutcome, PacketCheck};
use crate::rules::{parse_nft, parse_save};

fn out() -> Packet {
    let to = ("1.1.1.1".parse().unwrap(), 443);
    Packet::new("tcp", ("10.95.0.2".parse().unwrap(), 45_678), to).forwarded("bon", "eth0")
}

/// `inet filter` with a chain `forward` that drops, and these rules in it.
fn beside(rules: &str, more: &str) -> Rules {
    let listing = format!(
        r#"{{"nftables": [
            {{"table": {{"family": "inet", "name": "filter", "handle": 1}}}},
            {{"chain": {{"family": "inet", "table": "filter", "name": "forward", "handle": 1,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}}}
            {more}
            {}
        ]}}"#,
        rules
            .split('\n')
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(|rule| format!(
                r#",{{"rule": {{"family": "inet", "table": "filter", "chain": "forward", "handle": 2, "expr": [{rule}]}}}}"#
            ))
            .collect::<String>()
    );
    parse_nft(&listing).unwrap()
}

#[track_caller]
fn passes(rules: &str) {
    let found = beside(rules, "").judge(Hook::Forward, &out());
    assert_eq!(found, PacketVerdict::Passes, "{rules}");
}

#[track_caller]
fn drops(rules: &Rules, packet: &Packet, words: &str) {
    match rules.judge(Hook::Forward, packet) {
        PacketVerdict::Dropped(drop) if drop.to_string().contains(words) => {}
        other => panic!("{other:?}"),
    }
}

fn name(op: &str, right: &str) -> String {
    format!(
        r#"{{"match": {{"op": "{op}", "left": {{"meta": {{"key": "iifname"}}}}, "right": {right}}}}}, {{"accept": null}}"#
    )
}

#[test]
fn accepts_that_do_not_spell_the_bridge() {
    passes(&name("==", r#""bon""#));
    passes(&name("==", r#""bo*""#));
    passes(&name("==", r#"{"set": ["bon", "eth9"]}"#));
    passes(&name("!=", r#""eth0""#));
    passes(
        r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.95.0.0", "len": 16}}}}, {"accept": null}"#,
    );
}

#[test]
fn behind_a_jump_and_in_a_named_set() {
    let more = r#",{"chain": {"family": "inet", "table": "filter", "name": "fw2", "handle": 3}}
        ,{"set": {"family": "inet", "name": "brs", "table": "filter", "type": "ifname", "handle": 4, "elem": ["bon"]}}
        ,{"rule": {"family": "inet", "table": "filter", "chain": "fw2", "handle": 5, "expr": [
            {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@brs"}}, {"accept": null}]}}"#;
    let rules = beside(r#"{"jump": {"target": "fw2"}}"#, more);
    assert_eq!(rules.judge(Hook::Forward, &out()), PacketVerdict::Passes);
    let other = out().forwarded("other", "eth0");
    drops(
        &rules,
        &other,
        "chain forward of table inet filter (by its policy)",
    );
}

#[test]
fn a_drop_that_names_the_bridge() {
    let drop = name("==", r#""bon""#).replace("accept", "drop");
    let rules = beside(&format!("{drop}\n{}", name("!=", r#""x""#)), "");
    drops(&rules, &out(), "iifname bon drop");
}

#[test]
fn replies_are_established() {
    let rule = r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}"#;
    let rules = beside(rule, "");
    assert_eq!(
        rules.judge(Hook::Forward, &out().reply()),
        PacketVerdict::Passes
    );
    drops(&rules, &out(), "policy");
}

#[test]
fn what_cannot_be_read_is_no_answer() {
    let rule = r#"{"match": {"op": "==", "left": {"meta": {"key": "cgroup"}}, "right": 7}}, {"accept": null}"#;
    let found = beside(rule, "").judge(Hook::Forward, &out());
    assert!(matches!(found, PacketVerdict::Unknown(_)), "{found:?}");
    // A drop by something else is certain all the same.
    let mut rules = beside("", "");
    rules
        .unread
        .push("iptables-legacy's rules (there is no iptables-legacy-save program)".to_owned());
    drops(&rules, &out(), "policy");
}

#[test]
fn what_the_admins_chain_drops_is_as_they_wish() {
    let save = "*filter\n:FORWARD ACCEPT [0:0]\n:CNI-FORWARD - [0:0]\n:MINE - [0:0]\n:DEEP - [0:0]\n\
        -A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD\n\
        -A FORWARD -p udp -j DROP\n\
        -A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j MINE\n\
        -A MINE -j DEEP\n\
        -A DEEP -p tcp -j DROP\nCOMMIT\n";
    let rules = Rules {
        tables: parse_save("iptables-legacy", true, save),
        unread: Vec::new(),
    };
    for (protocol, ours) in [("tcp", true), ("udp", false)] {
        let packet = Packet::new(protocol, (out().source, 1), (out().destination, 53));
        let PacketVerdict::Dropped(drop) = rules.judge(Hook::Forward, &packet.forwarded("b", "e"))
        else {
            panic!("{protocol} passes");
        };
        assert_eq!(drop.is_ours(), ours, "{drop:?}");
    }
}

#[test]
fn limits_that_only_log_leave_no_doubt() {
    let save = "*filter\n:FORWARD DROP [0:0]\n:ufw-log - [0:0]\n\
        -A FORWARD -m limit --limit 3/min --limit-burst 10 -j ufw-log\n\
        -A FORWARD -m limit --limit 3/min -j LOG --log-prefix \"x \"\n\
        -A FORWARD -s 10.95.0.0/16 -j ACCEPT\n\
        -A ufw-log -m conntrack --ctstate INVALID -m limit --limit 3/min -j RETURN\n\
        -A ufw-log -j LOG\nCOMMIT\n";
    let rules = Rules {
        tables: parse_save("iptables-nft", true, save),
        unread: Vec::new(),
    };
    assert_eq!(rules.judge(Hook::Forward, &out()), PacketVerdict::Passes);
    let other = Packet::new(
        "udp",
        ("10.1.0.2".parse().unwrap(), 1),
        ("1.1.1.1".parse().unwrap(), 53),
    );
    drops(
        &rules,
        &other.forwarded("b", "e"),
        "chain FORWARD of table iptables-nft filter (by its policy)",
    );
}

#[test]
fn a_policy_is_that_of_its_variant_and_hook() {
    let save = "*mangle\n:FORWARD ACCEPT [0:0]\nCOMMIT\n\
        *filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:CNI-FORWARD - [0:0]\nCOMMIT\n";
    let rules = Rules {
        tables: parse_save("ip6tables-legacy", false, save),
        unread: Vec::new(),
    };
    for (variant, hook, expected) in [
        (Variant::Legacy, Hook::Forward, true),
        (Variant::Legacy, Hook::Input, false),
        (Variant::Nft, Hook::Forward, false),
    ] {
        assert_eq!(rules.policy_drops(variant, hook), expected, "{hook:?}");
    }
}

#[test]
fn an_ask_is_met_by_one_of_its_packets() {
    let rules = beside(&name("==", r#""bon""#), "");
    let other = Packet {
        in_interface: "eth7".to_owned(),
        ..out()
    };
    let judged = |packets: Vec<Packet>, lenient| {
        rules.judge_checks(
            Hook::Forward,
            &[PacketCheck {
                what: "it".to_owned(),
                packets,
                lenient,
            }],
        )
    };
    assert!(matches!(
        judged(vec![other.clone(), out()], false),
        CheckOutcome::Passes
    ));
    assert!(matches!(judged(Vec::new(), false), CheckOutcome::Passes));
    assert!(matches!(
        judged(vec![other.clone()], false),
        CheckOutcome::Dropped(..)
    ));
    // By the policy alone.
    assert!(matches!(
        judged(vec![other], true),
        CheckOutcome::Unknown(_)
    ));
}
