//! Many processes at once. A test's threads stand for processes: each has a backend of its own and
//! starts its own programs.

use crate::bed::{Host, VARIANTS, network, published, tcp};

/// The kernel state that eight plugins find on an empty host.
#[test]
fn eight_networks_and_containers_on_an_empty_host() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        let sets: Vec<_> = (1..=8_u8)
            .map(|n| {
                let mut all = published(
                    "web",
                    &format!("c{n}"),
                    (88, n + 1),
                    &[tcp(8000 + u16::from(n), 80)],
                );
                all.network = network("web", "br0", 88).network;
                (host.backend(), all)
            })
            .collect();
        let errors = host.node.run(move || {
            let threads: Vec<_> = sets
                .into_iter()
                .map(|(mut backend, all)| std::thread::spawn(move || backend.apply(&all)))
                .collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().expect("no panic").err())
                .map(|error| error.to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(errors, Vec::<String>::new(), "{variant:?}");
        let rules = host.rules();
        let mut lines: Vec<&str> = rules.lines().collect();
        // Both families have rules without addresses in them, such as the jumps.
        for text in [
            "-A POSTROUTING",
            "-A PREROUTING -m addrtype",
            "-A OUTPUT",
            "-j MARK",
        ] {
            let expected = if text == "-A POSTROUTING" { 4 } else { 2 };
            assert_eq!(host.count(text), expected, "{variant:?} {text}: {rules}");
        }
        assert_eq!(host.count("loopback guard"), 2, "{variant:?}");
        assert_eq!(host.count("-A CNI-PONTOON"), 4, "{variant:?}: {rules}");
        assert_eq!(
            host.count("-A CNI-HOSTPORT-DNAT"),
            16,
            "{variant:?}: {rules}"
        );
        lines.retain(|line| line.contains("CNI-HOSTPORT-DNAT") && line.contains("--dports"));
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(
            lines.len(),
            8,
            "{variant:?}: one entry per container, alike in both families"
        );
    }
}

/// Attachments come and go while the last one before them clears away what is shared.
#[test]
fn clearing_away_never_takes_a_newcomers_rules() {
    for variant in VARIANTS {
        let host = Host::new(variant);
        for round in 0..4_u16 {
            let gone = published("lan", "gone", (88, 9), &[tcp(7000 + round, 80)]);
            let new = published("lan", "new", (88, 8), &[tcp(9000 + round, 80)]);
            host.apply(&gone);
            let (mut leaving, mut coming) = (host.backend(), host.backend());
            let value = new.clone();
            let (left, came) = host.node.run(move || {
                let clearing = std::thread::spawn(move || {
                    leaving.withdraw(&gone).and_then(|()| leaving.remove_all())
                });
                let came = coming.apply(&value);
                (clearing.join().expect("no panic"), came)
            });
            left.expect("withdraw and remove_all");
            came.expect("apply");
            assert_eq!(
                host.verify(&new),
                Vec::<String>::new(),
                "{variant:?} round {round}"
            );
            host.withdraw(&new);
            host.remove_all();
        }
        assert_eq!(host.rules(), "", "{variant:?}");
    }
}
