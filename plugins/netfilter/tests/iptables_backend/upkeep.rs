//! A policy's rules: made once, found again, healed, replaced, removed; and the admin's beside them.

use pontoon_netfilter::iptables::{Detected, Iptables, Programs, Variant};
use pontoon_netfilter::{Ingress, Link, Policy, Protocol, Ruleset};

use crate::bed::{Host, VARIANTS, network, owner};
use crate::host_scene::{HostScene, NEIGHBOUR, WEB, only, to};

/// Everything that a policy can have.
fn full(network: &str, bridge: &str) -> Ruleset {
    only(Policy {
        icc: false,
        host_access: false,
        ingress: Ingress::Isolated,
        trusted: vec!["wg0".to_owned()],
        ..Policy::docker(network, bridge)
    })
}

fn link(host: u8) -> Ruleset {
    Ruleset {
        links: vec![Link {
            owner: owner("web", &format!("c{host}")),
            bridge: "br0".to_owned(),
            from: [10, 88, 0, host].into(),
            to: [10, 88, 0, 2].into(),
            protocol: Protocol::Tcp,
            port: 5432,
        }],
        ..Ruleset::default()
    }
}

fn filter(host: &Host) -> String {
    let infix = host.infix();
    host.node.sh(&format!(
        "for tool in iptables ip6tables; do $tool-{infix} -S | grep -v ^-P || true; done"
    ))
}

fn sorted(rules: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = rules.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn applying_again_changes_nothing() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let (web, db) = (full("web", "br0"), only(Policy::docker("db", "br1")));
        host.apply(&web);
        host.apply(&db);
        let once = filter(&host);
        assert_eq!(host.verify(&web), Vec::<String>::new(), "{variant:?}");
        assert_eq!(host.verify(&db), Vec::<String>::new(), "{variant:?}");
        host.apply(&web);
        host.apply(&db);
        assert_eq!(filter(&host), once, "{variant:?}");
    }
}

/// With nf_tables underneath, what stands is seen without starting a program.
#[test]
fn what_stands_costs_no_program() {
    let host = Host::new(Variant::Nft);
    let none = || Programs {
        restore: "/bin/false".into(),
        list: "/bin/false".into(),
    };
    for web in [full("web", "br0"), only(Policy::open("web", "br0"))] {
        host.apply(&web);
        let detected = Detected {
            variant: Variant::Nft,
            v4: Some(none()),
            v6: Some(none()),
        };
        let mut backend = Iptables::new(detected, "/nonexistent/lock".into());
        host.node
            .run(move || backend.apply(&web))
            .expect("nothing to run");
    }
}

/// The lines that one network more costs do not depend on how many there are.
#[test]
fn a_networks_price_is_constant() {
    let host = Host::new(Variant::Nft);
    let mut lines = vec![0];
    for number in 0..12 {
        host.apply(&only(Policy::docker(
            &format!("net{number}"),
            &format!("br{number}"),
        )));
        lines.push(
            filter(&host)
                .lines()
                .filter(|l| l.starts_with("-A"))
                .count(),
        );
    }
    let steps: Vec<usize> = lines.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps[1..].iter().all(|step| *step == steps[1]), "{steps:?}");
    // Two families, ten rules each.
    assert_eq!(steps[1], 20, "{steps:?}");
}

/// After a flush or a deletion the next apply of the network makes the rules again.
#[test]
fn flushed_rules_come_back() {
    let web = full("web", "br0");
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.apply(&web);
        let whole = filter(&host);
        let mut chains: Vec<String> = host
            .iptables("-S")
            .lines()
            .filter_map(|line| line.strip_prefix("-A "))
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect();
        chains.dedup();
        assert!(chains.len() > 12, "{chains:?}");
        let mut damages: Vec<String> = chains.iter().map(|chain| format!("-F {chain}")).collect();
        damages.extend(["-F", "-D CNI-PONTOON 3", "-D CNI-FORWARD 1"].map(str::to_owned));
        for damage in damages {
            host.iptables(&damage);
            assert!(!host.verify(&web).is_empty(), "{variant:?} {damage}: seen");
            host.apply(&web);
            assert_eq!(
                sorted(&filter(&host)),
                sorted(&whole),
                "{variant:?} after {damage}"
            );
            assert_eq!(host.verify(&web), Vec::<String>::new(), "{variant:?}");
        }
        host.iptables("-F");
        host.iptables("-X");
        host.withdraw(&web);
        host.withdraw(&link(3));
        assert_eq!(host.count("br0"), 0, "{variant:?}: after a flush");
    }
}

#[test]
fn withdrawing_leaves_the_other_network() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let (web, db) = (full("web", "br0"), only(Policy::docker("db", "br1")));
        host.apply(&db);
        let before = sorted(&filter(&host)).join("\n");
        host.apply(&web);
        host.apply(&link(3));
        host.withdraw(&web);
        let after = filter(&host);
        let ours: Vec<&str> = after
            .lines()
            .filter(|l| l.contains("web") || l.contains("br0"))
            .collect();
        assert_eq!(ours, Vec::<&str>::new(), "{variant:?}");
        assert_eq!(host.verify(&db), Vec::<String>::new(), "{variant:?}");
        host.withdraw(&web);
        host.remove_all();
        assert_eq!(
            host.verify(&db),
            Vec::<String>::new(),
            "{variant:?}: in use"
        );
        host.withdraw(&db);
        host.remove_all();
        assert_eq!(filter(&host), "", "{variant:?}, before: {before}");
    }
}

/// Another policy replaces the old rules; a removal may come with the configuration of before.
#[test]
fn a_changed_policy_replaces_its_rules() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let (old, new) = (full("web", "br0"), only(Policy::open("web", "br7")));
        host.apply(&old);
        host.apply(&link(3));
        host.apply(&new);
        assert_eq!(host.count("-j DROP"), 6, "{variant:?}: {}", host.rules());
        assert_eq!(
            host.count("pontoon web ("),
            8,
            "{variant:?}: {}",
            host.rules()
        );
        assert!(
            !filter(&host).contains("br0"),
            "{variant:?}: {}",
            host.rules()
        );
        assert_eq!(host.verify(&new), Vec::<String>::new(), "{variant:?}");
        host.withdraw(&old);
        host.remove_all();
        assert_eq!(filter(&host), "", "{variant:?}");
    }
}

/// The admin's rules come before ours, stay through every ADD and DEL, and outlive us.
#[test]
fn the_admin_speaks_first() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let policy = |admin: &str| {
            only(Policy {
                admin_chain: admin.to_owned(),
                ..Policy::docker("web", "br0")
            })
        };
        let infix = g.host.infix();
        // One program that jumps before Pontoon's rule and one after it, each to a chain of its own.
        for (tool, admin, line) in [
            ("iptables", "CNI-ADMIN", "-s 198.51.100.2/32 -j ACCEPT"),
            ("ip6tables", "CNI-ADMIN", "-s 2001:db8:1::2/128 -j ACCEPT"),
        ] {
            g.host.node.sh(&format!(
                "{tool}-{infix} -N {admin}; {tool}-{infix} -A {admin} {line}"
            ));
        }
        g.host.apply(&policy("CNI-ADMIN"));
        let let_in = [
            to("let in by the admin", &g.friend, WEB, true),
            to("not let in", &g.neighbour, WEB, false),
        ];
        g.check(&format!("{variant:?}"), &let_in);
        g.host.apply(&policy("MINE"));
        for (tool, line) in [
            ("iptables", "-d 192.0.2.2/32 -j DROP"),
            ("ip6tables", "-d 2001:db8::2/128 -j DROP"),
        ] {
            g.host.node.sh(&format!("{tool}-{infix} -A MINE {line}"));
        }
        let stopped = [to("stopped by the admin", &g.web, NEIGHBOUR, false)];
        g.check(&format!("{variant:?}"), &stopped);
        let rules = |g: &HostScene| {
            let all = filter(&g.host);
            let admins = |l: &&str| {
                l.contains("192.0.2.2/") || l.contains("/32 -j ACCEPT") || l.contains("/128 -j")
            };
            all.lines()
                .filter(admins)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = rules(&g);
        assert_eq!(before.len(), 4);
        g.host.apply(&policy("MINE"));
        g.host.withdraw(&policy("MINE"));
        g.host.remove_all();
        assert_eq!(rules(&g), before, "{variant:?}");
        g.check(&format!("{variant:?} without us"), &stopped);
        g.host.apply(&policy("MINE"));
        assert_eq!(rules(&g), before, "{variant:?}");
        g.check(&format!("{variant:?} with us again"), &let_in);
    }
}

/// Many processes bring the same and other networks at once, and links.
#[test]
fn eight_at_once() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.apply(&full("web", "br0"));
        let sets: Vec<_> = (1..=8_u8)
            .flat_map(|n| {
                let own = only(Policy::docker(&format!("net{n}"), &format!("br{n}")));
                [full("web", "br0"), own, link(n + 10)]
            })
            .map(|set| (host.backend(), set))
            .collect();
        let wanted: Vec<Ruleset> = sets.iter().map(|(_, set)| set.clone()).collect();
        let errors = host.node.run(move || {
            let threads: Vec<_> = sets
                .into_iter()
                .map(|(mut backend, set)| std::thread::spawn(move || backend.apply(&set)))
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().expect("no panic").err())
                .map(|error| error.to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(errors, Vec::<String>::new(), "{variant:?}");
        for set in &wanted {
            assert_eq!(host.verify(set), Vec::<String>::new(), "{variant:?}");
        }
        let rules = filter(&host);
        let mut lines = sorted(&rules);
        let all = lines.len();
        lines.dedup();
        // Only what has no address in it is alike in both families.
        let once = lines.iter().filter(|l| l.contains("10.88.0.")).count();
        assert_eq!(once, 8, "{variant:?}: {rules}");
        assert!(all <= 2 * lines.len(), "{variant:?}: doubled: {rules}");
        assert_eq!(
            host.count("-A FORWARD"),
            2,
            "{variant:?}: one jump per family: {rules}"
        );
        assert_eq!(host.count("-A CNI-PONTOON-IN "), 18, "{variant:?}: {rules}");
    }
}

/// A network's rules for the way out and its policy are apart, and go together.
#[test]
fn policy_and_egress_in_one_ruleset() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let mut both = full("web", "br0");
        both.network = network("web", "br0", 88).network;
        host.apply(&both);
        assert_eq!(host.verify(&both), Vec::<String>::new(), "{variant:?}");
        host.withdraw(&both);
        host.remove_all();
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}
