//! A network that goes on over other hosts: its policy's own chains, and the table that keeps others out of its tunnel.

use super::lab::{in_fresh_netns, listing, run};
use pontoon_netfilter::nft::{Nft, TableChange};
use pontoon_netfilter::{Policy, Reach, Ruleset, TunnelGuard};

fn policy(icc: bool, internal: bool) -> Policy {
    Policy {
        icc,
        internal,
        reach: Some(Reach {
            device: Some("vx-lan".to_owned()),
            uplinks: vec!["eth0".to_owned()],
            subnets: vec!["10.5.0.0/16".parse().unwrap(), "fd05::/48".parse().unwrap()],
        }),
        ..Policy::docker("lan", "br-lan")
    }
}

fn ruleset(policy: &Policy, former: Option<&Policy>) -> Ruleset {
    Ruleset {
        policy: Some(policy.clone()),
        former_policy: former.cloned(),
        ..Ruleset::default()
    }
}

/// Chains that belong to one network.
fn own_chains() -> Vec<String> {
    let listed = listing();
    let names = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("chain "));
    let own = names.filter(|name| name.starts_with("leaving-") || name.starts_with("entering-"));
    own.map(|name| name.trim_end_matches(" {").to_owned())
        .collect()
}

#[test]
fn a_changed_policy_leaves_no_chain_of_the_one_before() {
    in_fresh_netns(|| {
        let mut nft = Nft::open().unwrap();
        let alone = Policy::docker("lan", "br-lan");
        let steps = [
            policy(true, false),
            policy(false, false),
            policy(true, true),
            alone,
        ];
        let mut former: Option<&Policy> = None;
        for step in &steps {
            let rules = ruleset(step, former);
            nft.apply(&rules).unwrap();
            assert_eq!(nft.verify(&rules).unwrap(), Vec::<String>::new());
            assert!(
                !nft.apply(&rules).unwrap(),
                "a second time nothing is missing"
            );
            let expected = if step.reach.is_some() { 2 } else { 0 };
            assert_eq!(own_chains().len(), expected, "{step:?}\n{}", listing());
            former = Some(step);
        }
        nft.apply(&ruleset(&steps[0], former)).unwrap();
        run(
            "nft flush chain inet pontoon $(nft list ruleset | grep -o 'entering-[0-9a-f]*' | head -1)",
        );
        assert_ne!(
            nft.verify(&ruleset(&steps[0], None)).unwrap(),
            Vec::<String>::new()
        );
        assert!(
            nft.apply(&ruleset(&steps[0], None)).unwrap(),
            "it was missing"
        );
        assert_eq!(
            nft.verify(&ruleset(&steps[0], None)).unwrap(),
            Vec::<String>::new()
        );
        nft.withdraw(&ruleset(&steps[0], None)).unwrap();
        assert_eq!(own_chains(), Vec::<String>::new());
        nft.remove_all().unwrap();
        assert_eq!(listing(), "");
    });
}

#[test]
fn the_table_of_a_tunnel_is_made_once_and_anew_when_its_hosts_change() {
    in_fresh_netns(|| {
        for v6 in [false, true] {
            let host = |number: u8| match v6 {
                false => format!("198.18.60.{number}").parse().unwrap(),
                true => format!("2001:db8::{number}").parse().unwrap(),
            };
            let block = |text: &str| text.parse().unwrap();
            let mut guard = TunnelGuard {
                device: "vx-lan".to_owned(),
                vni: 0x1_0203,
                port: 4789,
                subnets: vec![block("10.5.0.0/16"), block("fd05::/48")],
                senders: vec![
                    (
                        host(2),
                        vec![block("10.5.2.0/24"), block("fd05:0:0:2::/64")],
                    ),
                    (host(3), vec![block("10.5.3.0/30")]),
                ],
                uplinks: vec!["eth0".to_owned()],
                direct: vec![block("10.5.2.0/24")],
            };
            let mut nft = Nft::open().unwrap();
            assert_eq!(nft.guard_tunnel(&guard).unwrap(), TableChange::Made);
            assert_eq!(nft.guard_tunnel(&guard).unwrap(), TableChange::None);
            guard.senders.reverse();
            assert_eq!(nft.guard_tunnel(&guard).unwrap(), TableChange::None);
            let listed = listing();
            for part in [
                "from4_24",
                "from4_30",
                "from6_64",
                "direct4_24",
                "0x10203 drop",
            ] {
                assert!(listed.contains(part), "{part} in\n{listed}");
            }
            guard.senders.pop();
            assert_eq!(nft.guard_tunnel(&guard).unwrap(), TableChange::Replaced);
            assert!(nft.unguard_tunnel("vx-lan").unwrap());
            assert!(!nft.unguard_tunnel("vx-lan").unwrap());
            assert_eq!(listing(), "");
        }
        let mut thousand = TunnelGuard {
            device: "vx-lan".to_owned(),
            vni: 1,
            port: 4789,
            subnets: vec!["10.0.0.0/8".parse().unwrap()],
            senders: Vec::new(),
            uplinks: Vec::new(),
            direct: Vec::new(),
        };
        for (high, low) in (0..4_u8).flat_map(|high| (0..250_u8).map(move |low| (high, low))) {
            let block = format!("10.{high}.{low}.0/24").parse().unwrap();
            thousand
                .senders
                .push(([198, 18, high, low].into(), vec![block]));
        }
        let mut nft = Nft::open().unwrap();
        assert_eq!(nft.guard_tunnel(&thousand).unwrap(), TableChange::Made);
        assert_eq!(listing().matches(" . 10.").count(), 1000);
    });
}
