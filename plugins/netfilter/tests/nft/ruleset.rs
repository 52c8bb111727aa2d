//! What `nft list ruleset` shows after each operation, and that owners keep to themselves.

use super::lab::{
    in_fresh_netns, listing, network, only_network, only_published, owner, published,
    published_ports, run, snat, tcp,
};
use pontoon_netfilter::nft::{Error, Nft};
use pontoon_netfilter::{Owner, Port, Protocol, Ruleset, SpoofGuard};

/// The fixed part, with nothing in the maps.
const SKELETON: &str = include_str!("skeleton.nft");

fn udp_at(host: &str, host_port: u16, container_port: u16) -> Port {
    let host_ip = Some(host.parse().unwrap());
    Port {
        protocol: Protocol::Udp,
        host_ip,
        host_port,
        container_port,
    }
}

fn apply(rules: &Ruleset) {
    Nft::open().unwrap().apply(rules).unwrap();
}

fn withdraw(rules: &Ruleset) {
    Nft::open().unwrap().withdraw(rules).unwrap();
}

fn verify(rules: &Ruleset) -> Vec<String> {
    Nft::open().unwrap().verify(rules).unwrap()
}

#[track_caller]
fn check_listed(listing: &str, expected: &[&str]) {
    for line in expected {
        assert!(
            listing.lines().any(|there| there.trim() == *line),
            "`{line}` in {listing}"
        );
    }
}

/// The chains of the way back.
fn hairpins() -> usize {
    let all = listing();
    let chains = all.lines().map(str::trim);
    chains
        .filter(|line| line.starts_with("chain hairpin-"))
        .count()
}

#[test]
fn a_container_that_comes_to_other_networks_has_one_way_back() {
    in_fresh_netns(|| {
        let addresses = ["10.1.0.2/24", "fd00:1::2/64"];
        let mut rules = only_published(published(owner("lan", "c1"), &addresses, &[tcp(1, 80)]));
        let sibling = only_published(published(
            owner("lan", "c2"),
            &["10.1.0.3/24"],
            &[tcp(2, 80)],
        ));
        let beside = |rules: &mut Ruleset, subnets: &[&str]| {
            let subnets = subnets.iter().map(|subnet| subnet.parse().unwrap());
            rules.published.as_mut().unwrap().beside = subnets.collect();
        };
        apply(&rules);
        apply(&sibling);
        assert_eq!(hairpins(), 2);
        beside(&mut rules, &["10.2.0.0/24", "10.3.0.0/16", "fd00:2::/64"]);
        apply(&rules);
        check_listed(
            &listing(),
            &[
                "ip saddr 10.2.0.0/24 masquerade",
                "ip saddr 10.3.0.0/16 masquerade",
                "ip6 saddr fd00:2::/64 masquerade",
                r#"comment "hairpin 10.1.0.0/24 10.2.0.0/24 10.3.0.0/16""#,
            ],
        );
        assert_eq!(verify(&rules), Vec::<String>::new());
        assert_eq!(verify(&sibling), Vec::<String>::new());
        // The sibling's, and two of this container.
        assert_eq!(hairpins(), 3);
        let mut changed = rules.clone();
        beside(&mut changed, &[]);
        assert_ne!(verify(&changed), Vec::<String>::new());
        // Killed before the new rules were made.
        withdraw(&changed);
        assert_eq!(hairpins(), 1);
        withdraw(&sibling);
        assert_eq!(hairpins(), 0);
    });
}

#[test]
fn nothing_but_the_skeleton_is_left() {
    in_fresh_netns(|| {
        let mut rules = only_network(network("lan", &["10.1.0.0/24", "fd00:1::/64"]));
        let egress = &mut rules.network.as_mut().unwrap().egress;
        egress[0].snat = vec![snat("203.0.113.7", Some("eth1"))];
        egress[1].snat = vec![snat("2001:db8::7", None)];
        let ports = [tcp(8080, 80), udp_at("192.0.2.1", 53, 5353)];
        let addresses = ["10.1.0.2/24", "fd00:1::2/64"];
        rules.published = Some(published(owner("lan", "c1"), &addresses, &ports));
        apply(&rules);
        let full = listing();
        check_listed(
            &full,
            &[
                r#"elements = { tcp . 8080 comment "pontoon lan c1 eth0" : 10.1.0.2 . 80 }"#,
                r#"elements = { tcp . 8080 comment "pontoon lan c1 eth0" : fd00:1::2 . 80 }"#,
                r#"elements = { 192.0.2.1 . udp . 53 comment "pontoon lan c1 eth0" : 10.1.0.2 . 5353 }"#,
                r#"elements = { 10.1.0.2 comment "pontoon lan c1 eth0" : jump hairpin-cd69448686f8b6a6 }"#,
                r#"elements = { 10.1.0.0/24 comment "pontoon lan" : jump egress-9608bef186cda4d2 }"#,
                r#"elements = { "br-lan" comment "pontoon lan" }"#,
                r#"comment "hairpin 10.1.0.0/24""#,
                "ip saddr 10.1.0.0/24 masquerade",
                "ip saddr 127.0.0.0/8 masquerade",
                "ip6 saddr fd00:1::/64 masquerade",
                "ip daddr 10.1.0.0/24 return",
                r#"oifname "eth1" snat ip to 203.0.113.7"#,
                "snat ip6 to 2001:db8::7",
            ],
        );
        assert_eq!(verify(&rules), Vec::<String>::new());

        let mut again = Nft::open().unwrap();
        again.apply(&rules).unwrap();
        assert!(!again.deleted(), "the second time there is nothing to do");
        assert_eq!(full, listing());

        let mut last = Nft::open().unwrap();
        last.withdraw(&rules).unwrap();
        assert!(last.deleted());
        assert_eq!(listing(), SKELETON);
        last.withdraw(&rules).unwrap();
        last.remove_all().unwrap();
        last.remove_all().unwrap();
        last.withdraw(&rules).unwrap();
        assert_eq!(last.into_sockets().len(), 1);
        assert_eq!(listing(), "");
        assert_eq!(verify(&rules), ["nftables: table inet pontoon is missing"]);
    });
}

#[test]
fn a_port_has_one_owner() {
    in_fresh_netns(|| {
        let first = only_published(published(
            owner("lan", "c1"),
            &["10.1.0.2/24"],
            &[tcp(80, 80)],
        ));
        let mut second = only_published(published(
            owner("lan", "c2"),
            &["10.1.0.3/24"],
            &[tcp(81, 80), tcp(80, 80)],
        ));
        apply(&first);
        let before = listing();
        match Nft::open().unwrap().apply(&second) {
            Err(Error::PortTaken { port, owner }) => {
                assert_eq!((port, owner.as_str()), (tcp(80, 80), "pontoon lan c1 eth0"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(before, listing(), "a refused apply changes nothing");
        withdraw(&second);
        assert_eq!(before, listing(), "nothing of another owner is removed");

        // The owner is gone, its place is taken, and then its own removal comes late.
        withdraw(&first);
        apply(&second);
        let taken = listing();
        withdraw(&first);
        assert_eq!(taken, listing());
        assert!(verify(&first).contains(
            &"nftables: port 80/tcp in ports4 belongs to `pontoon lan c2 eth0`".to_owned()
        ));

        // The same owner may publish again, elsewhere.
        second.published.as_mut().unwrap().v4 = Some("10.1.0.9/24".parse().unwrap());
        apply(&second);
        for port in [80, 81] {
            let line = format!("tcp . {port} comment \"pontoon lan c2 eth0\" : 10.1.0.9 . 80");
            assert!(listing().contains(&line), "{line}");
        }
    });
}

#[test]
fn differences_are_named() {
    in_fresh_netns(|| {
        let mut rules = only_network(network("lan", &["10.1.0.0/24"]));
        rules.published = Some(published(
            owner("lan", "c1"),
            &["10.1.0.2/24"],
            &[tcp(80, 80)],
        ));
        apply(&rules);
        run("nft delete element inet pontoon ports4 '{ tcp . 80 }'");
        run("nft delete element inet pontoon hairpin4 '{ 10.1.0.2 }'");
        run("nft delete element inet pontoon bridges '{ \"br-lan\" }'");
        run("nft flush chain inet pontoon postrouting");
        assert_eq!(
            verify(&rules),
            [
                "nftables: chain postrouting of table inet pontoon has 0 of its 7 rules",
                "nftables: the bridge is missing in bridges",
                "nftables: port 80/tcp is missing in ports4",
                "nftables: the container's address is missing in hairpin4",
            ]
        );
        run(
            "nft add element inet pontoon ports4 '{ tcp . 80 comment \"another\" : 10.9.9.9 . 80 }'",
        );
        assert_eq!(
            verify(&rules)[2..4],
            [
                "nftables: port 80/tcp in ports4 has another target",
                "nftables: port 80/tcp in ports4 belongs to `another`",
            ]
        );
    });
}

#[test]
fn what_another_flushed_is_made_again() {
    for damage in [
        "nft flush ruleset",
        "nft flush table inet pontoon",
        "nft flush chain inet pontoon published",
        "nft flush chain inet pontoon postrouting",
        "nft flush set inet pontoon bridges; nft flush map inet pontoon egress4",
        "nft flush map inet pontoon ports4; nft flush map inet pontoon hairpin4",
        "nft delete table inet pontoon",
        "for c in $(nft list chains | sed -n 's/.*chain \\(egress.*\\|hairpin.*\\) {/\\1/p'); \
         do nft flush chain inet pontoon $c; done",
    ] {
        in_fresh_netns(|| {
            let mut rules = only_network(network("lan", &["10.1.0.0/24", "fd00:1::/64"]));
            rules.published = Some(published(
                owner("lan", "c1"),
                &["10.1.0.2/24"],
                &[tcp(80, 80)],
            ));
            apply(&rules);
            let whole = listing();
            run(damage);
            assert_ne!(whole, listing(), "{damage}");
            assert_ne!(verify(&rules), Vec::<String>::new(), "{damage}");
            apply(&rules);
            assert_eq!(whole, listing(), "{damage}");
            assert_eq!(verify(&rules), Vec::<String>::new(), "{damage}");
        });
    }
}

#[test]
fn the_hairpin_chain_goes_with_its_last_container() {
    in_fresh_netns(|| {
        let one = only_published(published(
            owner("lan", "c1"),
            &["10.1.0.2/24"],
            &[tcp(80, 80)],
        ));
        let two = only_published(published(
            owner("lan", "c2"),
            &["10.1.0.3/24"],
            &[tcp(81, 80)],
        ));
        apply(&one);
        apply(&two);
        withdraw(&one);
        assert!(listing().contains("chain hairpin-"));
        withdraw(&two);
        assert_eq!(listing(), SKELETON);
    });
}

#[test]
fn everything_masqueraded_or_nothing() {
    in_fresh_netns(|| {
        let mut all = published(owner("lan", "c1"), &["10.1.0.2/24"], &[tcp(80, 80)]);
        all.masquerade_all = true;
        apply(&only_published(all.clone()));
        check_listed(&listing(), &["masquerade"]);
        withdraw(&only_published(all.clone()));
        (all.masquerade_all, all.snat) = (false, false);
        apply(&only_published(all));
        assert!(!listing().contains("chain hairpin-"));
    });
}

#[test]
fn the_spoof_guard_has_a_table_of_its_own() {
    in_fresh_netns(|| {
        let mut rules = Ruleset::default();
        let guard = SpoofGuard {
            owner: owner("lan", "c1"),
            port: "veth1".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
        };
        rules.spoof_guard = Some(guard.clone());
        apply(&rules);
        apply(&rules);
        check_listed(
            &listing(),
            &[
                "table bridge pontoon {",
                r#"elements = { "veth1" comment "pontoon lan c1 eth0" }"#,
                r#"elements = { "veth1" . 02:00:00:00:00:01 comment "pontoon lan c1 eth0" }"#,
                "iifname @guarded iifname . ether saddr != @allowed drop",
            ],
        );
        assert_eq!(verify(&rules), Vec::<String>::new());
        let mut other = rules.clone();
        other.spoof_guard = Some(SpoofGuard {
            owner: owner("lan", "c2"),
            ..guard
        });
        withdraw(&other);
        assert!(listing().contains("veth1"));
        withdraw(&rules);
        assert!(!listing().contains("veth1"));
    });
}

#[test]
fn an_owner_too_long_for_a_comment_is_still_itself() {
    in_fresh_netns(|| {
        let long = |letter: &str| Owner {
            network: "n".repeat(200),
            container: format!("{}{letter}", "c".repeat(199)),
            interface: "eth0".to_owned(),
        };
        let one = only_published(published(long("a"), &["10.1.0.2/24"], &[tcp(80, 80)]));
        let two = only_published(published(long("b"), &["10.1.0.2/24"], &[tcp(80, 80)]));
        apply(&one);
        let before = listing();
        withdraw(&two);
        assert_eq!(before, listing());
        withdraw(&one);
        assert_eq!(listing(), SKELETON);
    });
}

#[test]
fn a_port_said_twice_is_one_or_an_error() {
    in_fresh_netns(|| {
        let everywhere = Port {
            host_ip: Some("0.0.0.0".parse().unwrap()),
            ..tcp(80, 80)
        };
        let ports = [tcp(80, 80), tcp(80, 80), everywhere];
        let mut rules = only_published(published(owner("lan", "c1"), &["10.1.0.2/24"], &ports));
        apply(&rules);
        assert_eq!(published_ports(), 1);
        withdraw(&rules);
        assert_eq!(listing(), SKELETON);
        rules.published.as_mut().unwrap().ports.push(tcp(80, 81));
        let refused = Nft::open().unwrap().apply(&rules);
        assert!(
            matches!(refused, Err(Error::PortTwice { .. })),
            "{refused:?}"
        );
    });
}
