//! The rules of a network: made once, found again, healed, removed.

use pontoon_netfilter::Snat;
use pontoon_netfilter::iptables::{Detected, Iptables, Programs, Variant};

use crate::bed::{Host, VARIANTS, network};

#[test]
fn applying_again_changes_nothing() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let (web, db) = (network("web", "br0", 88), network("db", "br1", 89));
        host.apply(&web);
        host.apply(&db);
        let once = host.rules();
        assert_eq!(
            host.count("-A POSTROUTING"),
            2,
            "{variant:?}: one jump per family: {once}"
        );
        assert_eq!(host.count("-A CNI-PT-"), 12, "{variant:?}: {once}");
        assert_eq!(host.verify(&web), Vec::<String>::new(), "{variant:?}");
        host.apply(&web);
        host.apply(&db);
        assert_eq!(host.rules(), once, "{variant:?}");
    }
}

/// With nf_tables underneath, what is there is seen without starting a program.
#[test]
fn what_is_there_costs_no_program() {
    let host = Host::new(Variant::Nft);
    let web = network("web", "br0", 88);
    host.apply(&web);
    let none = || Programs {
        restore: "/bin/false".into(),
        list: "/bin/false".into(),
    };
    let detected = Detected {
        variant: Variant::Nft,
        v4: Some(none()),
        v6: Some(none()),
    };
    let lock = tempfile::TempDir::new().expect("a directory");
    let mut backend = Iptables::new(detected, lock.path().join("lock"));
    let (again, changed) = host.node.run(move || {
        let again = backend.apply(&web);
        (again, backend.apply(&network("web", "br9", 88)))
    });
    again.expect("nothing to do");
    changed.expect_err("something to do, and no program to do it");
}

/// Traffic to any of our bridges returns before any subnet's rules are met, in either order of networks.
#[test]
fn bridges_stand_before_subnets() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.apply(&network("web", "br0", 88));
        host.apply(&network("db", "br1", 89));
        let shared: Vec<bool> = host
            .iptables("-t nat -S CNI-PONTOON")
            .lines()
            .filter(|line| line.starts_with("-A"))
            .map(|line| line.contains("-o br"))
            .collect();
        assert_eq!(shared, [true, true, false, false], "{variant:?}");
    }
}

#[test]
fn withdrawing_leaves_the_other_network() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let (web, db) = (network("web", "br0", 88), network("db", "br1", 89));
        host.apply(&db);
        let before = host.rules();
        host.apply(&web);
        host.withdraw(&web);
        assert_eq!(host.rules(), before, "{variant:?}");
        host.withdraw(&web);
        assert_eq!(host.rules(), before, "{variant:?}: a second time");
        host.remove_all();
        assert_eq!(host.rules(), before, "{variant:?}: still in use");
        host.withdraw(&db);
        host.remove_all();
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}

/// What an administrator may flush, and what must then heal.
#[test]
fn flushed_rules_come_back() {
    let web = network("web", "br0", 88);
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.apply(&web);
        let whole = host.rules();
        for damage in ["-F", "-F CNI-PONTOON", "-F POSTROUTING", "-D CNI-PONTOON 1"] {
            host.iptables(&format!("-t nat {damage}"));
            assert!(!host.verify(&web).is_empty(), "{variant:?} {damage}: seen");
            host.apply(&web);
            assert_eq!(
                sorted(&host.rules()),
                sorted(&whole),
                "{variant:?} after {damage}"
            );
        }
        host.iptables("-t nat -F");
        host.iptables("-t nat -X");
        host.withdraw(&web);
        assert_eq!(host.count("web"), 0, "{variant:?}: withdrawn after a flush");
    }
}

/// A subnet's chain that was emptied by itself is noticed although its name still stands.
#[test]
fn an_emptied_chain_is_noticed() {
    let web = network("web", "br0", 88);
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.apply(&web);
        let whole = host.rules();
        let listing = host.iptables("-t nat -S");
        let chain = listing
            .lines()
            .find_map(|l| l.strip_prefix("-N CNI-PT-"))
            .expect("a chain");
        host.iptables(&format!("-t nat -F CNI-PT-{chain}"));
        host.apply(&web);
        assert_eq!(sorted(&host.rules()), sorted(&whole), "{variant:?}");
    }
}

/// Another source address replaces the old rules instead of standing behind them.
#[test]
fn a_changed_network_replaces_its_rules() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let old = network("web", "br0", 88);
        let mut new = old.clone();
        let rules = new.network.as_mut().expect("a network");
        rules.bridge = "br7".to_owned();
        rules.egress[0].snat = vec![Snat {
            source: "192.0.2.1".parse().expect("address"),
            out: None,
        }];
        host.apply(&old);
        host.apply(&new);
        assert_eq!(host.count("-o br0"), 0, "{variant:?}");
        assert_eq!(host.count("-o br7"), 2, "{variant:?}");
        assert_eq!(host.count("--to-source 192.0.2.1"), 1, "{variant:?}");
        assert_eq!(host.verify(&new), Vec::<String>::new(), "{variant:?}");
        // The removal may come with the configuration of before.
        host.withdraw(&old);
        assert_eq!(host.count("CNI-PT-"), 0, "{variant:?}: {}", host.rules());
    }
}

fn sorted(rules: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = rules.lines().collect();
    lines.sort_unstable();
    lines
}
