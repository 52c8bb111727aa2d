//! Published ports: made, replaced and removed, while rules of other programs stay.

use pontoon_netfilter::{Mark, Protocol};

use crate::bed::{Host, VARIANTS, network, port, published, tcp};

#[test]
fn publishes_and_withdraws() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let ports = [
            tcp(8080, 80),
            port(Protocol::Udp, 5353, 53),
            port(Protocol::Sctp, 9, 9),
        ];
        let web = published("lan", "c1", (88, 2), &ports);
        host.apply(&web);
        assert_eq!(host.verify(&web), Vec::<String>::new(), "{variant:?}");
        assert_eq!(
            host.count("-A CNI-HOSTPORT-DNAT"),
            6,
            "{variant:?}: {}",
            host.rules()
        );
        assert_eq!(host.count("-j DNAT"), 6, "{variant:?}");
        host.withdraw(&web);
        assert_eq!(host.count("CNI-DN-"), 0, "{variant:?}: {}", host.rules());
        assert!(host.verify(&web).len() > 6, "{variant:?}");
        host.withdraw(&web);
        host.remove_all();
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}

#[test]
fn publishing_again_replaces() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let first = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        let second = published("lan", "c1", (88, 2), &[tcp(9090, 90)]);
        host.apply(&first);
        host.apply(&first);
        assert_eq!(
            host.count("--dports 8080"),
            2,
            "{variant:?}: one per family"
        );
        host.apply(&second);
        assert_eq!(host.count("8080"), 0, "{variant:?}: {}", host.rules());
        assert_eq!(host.count("--dports 9090"), 2, "{variant:?}");
    }
}

/// A removal that comes late meets its successor's rules and leaves them alone.
#[test]
fn a_late_withdrawal_takes_nothing_from_others() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let old = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        host.apply(&old);
        host.withdraw(&old);
        let new = published("lan", "c2", (88, 2), &[tcp(8080, 80)]);
        host.apply(&new);
        let before = host.rules();
        host.withdraw(&old);
        assert_eq!(
            host.rules(),
            before,
            "{variant:?}: same port and address, other container"
        );

        // The same container and network on another interface has a chain of its own.
        let before = host.rules();
        let mut other = new.clone();
        other.published.as_mut().expect("ports").owner.interface = "eth1".to_owned();
        host.apply(&other);
        host.withdraw(&other);
        assert_eq!(host.rules(), before, "{variant:?}: other interface");
        host.apply(&other);
        host.withdraw(&new);
        assert_eq!(host.count("c2 eth0"), 0, "{variant:?}");
        assert_eq!(host.count("c2 eth1"), 2, "{variant:?}: one per family");
        host.withdraw(&other);
        assert_eq!(host.count("CNI-DN-"), 0, "{variant:?}");
    }
}

#[test]
fn half_made_and_half_gone_is_withdrawn() {
    for variant in VARIANTS {
        for damage in [
            "-t nat -F",
            "-t nat -F CNI-HOSTPORT-DNAT",
            "-t nat -D CNI-HOSTPORT-DNAT 1",
            "-t nat -D PREROUTING 1",
        ] {
            let host = Host::new(variant);
            let ports: Vec<_> = (1..=20).map(|n| tcp(8000 + n * 2, n)).collect();
            let web = published("lan", "c1", (88, 2), &ports);
            host.apply(&web);
            host.iptables(damage);
            host.withdraw(&web);
            assert_eq!(
                host.rules().matches("CNI-DN-").count(),
                0,
                "{variant:?} {damage}"
            );
        }
    }
}

#[test]
fn a_flushed_base_is_rebuilt_without_duplicates() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let one = published("lan", "c1", (88, 2), &[tcp(8081, 80)]);
        let two = published("lan", "c2", (88, 3), &[tcp(8082, 80)]);
        host.apply(&one);
        for damage in [
            "-t nat -F",
            "-t nat -F PREROUTING",
            "-t raw -F",
            "-t nat -F CNI-HOSTPORT-MASQ",
        ] {
            host.iptables(damage);
            host.apply(&two);
            host.apply(&one);
            assert_eq!(
                host.verify(&one),
                Vec::<String>::new(),
                "{variant:?} {damage}"
            );
            assert_eq!(
                host.verify(&two),
                Vec::<String>::new(),
                "{variant:?} {damage}"
            );
            for (text, expected) in [
                ("-A PREROUTING -m addrtype", 2),
                ("-A OUTPUT -m addrtype", 2),
                ("-j CNI-HOSTPORT-MASQ", 2),
                ("-j MARK", 2),
                ("loopback guard", 2),
                ("--dports 8081", 2),
                ("--dports 8082", 2),
            ] {
                assert_eq!(host.count(text), expected, "{variant:?} {damage}: {text}");
            }
        }
    }
}

/// DEL without a previous result knows its owner and nothing else.
#[test]
fn withdraws_by_owner_alone() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let web = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        let other = published("lan", "c2", (88, 3), &[tcp(8081, 80)]);
        host.apply(&other);
        let before = host.rules();
        host.apply(&web);
        let mut blind = web.clone();
        let bare = blind.published.as_mut().expect("ports");
        bare.ports.clear();
        (bare.v4, bare.v6) = (None, None);
        host.withdraw(&blind);
        assert_eq!(host.rules(), before, "{variant:?}");
    }
}

#[test]
fn marks_and_conditions_are_the_administrators() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        host.iptables("-t nat -N THEIR-MARK");
        let mut web = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        let ports = web.published.as_mut().expect("ports");
        ports.v6 = None;
        ports.mark = Mark::Chain("THEIR-MARK".to_owned());
        ports.conditions_v4 = ["!", "-s", "203.0.113.0/24"].map(str::to_owned).to_vec();
        host.apply(&web);
        assert_eq!(
            host.count("-j THEIR-MARK"),
            2,
            "{variant:?}: {}",
            host.rules()
        );
        assert_eq!(host.count("! -s 203.0.113.0/24"), 1, "{variant:?}");
        assert_eq!(host.count("CNI-HOSTPORT-SETMARK"), 0, "{variant:?}");
        assert_eq!(host.verify(&web), Vec::<String>::new(), "{variant:?}");
        host.withdraw(&web);
        host.remove_all();
        assert_eq!(host.rules(), "-N THEIR-MARK\n", "{variant:?}");

        // Two networks may use different bits.
        let mut bit = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        host.apply(&bit);
        bit.published.as_mut().expect("ports").mark = Mark::Bit(31);
        host.apply(&bit);
        assert_eq!(
            host.count("--set-xmark 0x80000000/0x80000000"),
            2,
            "{variant:?}"
        );
        assert_eq!(host.count("--set-xmark 0x2000/0x2000"), 2, "{variant:?}");
    }
}

/// An external chain that does not exist is an error which names it, and nothing is left.
#[test]
fn a_missing_external_chain_is_named() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let mut web = published("lan", "c1", (88, 2), &[tcp(8080, 80)]);
        web.published.as_mut().expect("ports").mark = Mark::Chain("NOT-THERE".to_owned());
        let (mut backend, value) = (host.backend(), web.clone());
        let error = host
            .node
            .run(move || backend.apply(&value))
            .expect_err("refused");
        let words = error.to_string();
        assert!(
            words.contains("NOT-THERE") && words.contains("pontoon lan c1"),
            "{words}"
        );
        assert!(!error.try_again());
        assert_eq!(host.count("lan"), 0, "{variant:?}");
    }
}

#[test]
fn network_and_ports_in_one_ruleset() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let mut all = published("web", "c1", (88, 2), &[tcp(8080, 80)]);
        all.network = network("web", "br0", 88).network;
        host.apply(&all);
        assert_eq!(host.verify(&all), Vec::<String>::new(), "{variant:?}");
        // Hairpin is masqueraded before the network's own rules let it pass.
        let post = host.iptables("-t nat -S POSTROUTING");
        let jumps: Vec<&str> = post
            .lines()
            .filter_map(|l| l.split(" -j ").nth(1))
            .collect();
        assert_eq!(jumps, ["CNI-HOSTPORT-MASQ", "CNI-PONTOON"], "{variant:?}");
        host.withdraw(&all);
        host.remove_all();
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}
