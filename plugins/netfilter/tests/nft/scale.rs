//! Many ports, many processes, many containers.

use std::time::{Duration, Instant};

use super::lab::{
    in_fresh_netns, listing, network, only_network, only_published, owner, published,
    published_ports, tcp,
};
use pontoon_netfilter::nft::{Error, Nft};

#[test]
fn a_thousand_ports_in_one_go() {
    in_fresh_netns(|| {
        let ports: Vec<_> = (1..=1000).map(|port| tcp(port, 80)).collect();
        let addresses = ["10.1.0.2/24", "fd00:1::2/64"];
        let rules = only_published(published(owner("lan", "c1"), &addresses, &ports));
        let mut nft = Nft::open().unwrap();
        nft.apply(&rules).unwrap();
        assert_eq!(published_ports(), 2000);
        nft.apply(&rules).unwrap();
        assert_eq!(nft.verify(&rules).unwrap(), Vec::<String>::new());
        let all = listing();
        let tagged = "comment \"pontoon lan c1 eth0\" : ";
        assert_eq!(all.matches(&format!("{tagged}10.1.0.2 . 80")).count(), 1000);
        assert_eq!(
            all.matches(&format!("{tagged}fd00:1::2 . 80")).count(),
            1000
        );
        assert!(all.contains(&format!("tcp . 777 {tagged}fd00:1::2 . 80")));

        let other = only_published(published(
            owner("lan", "c2"),
            &["10.1.0.3/24"],
            &ports[990..],
        ));
        assert!(matches!(nft.apply(&other), Err(Error::PortTaken { .. })));
        nft.withdraw(&rules).unwrap();
        assert_eq!(published_ports(), 0);
    });
}

#[test]
fn eight_at_once_on_a_host_without_anything() {
    for _ in 0..10 {
        in_fresh_netns(|| {
            std::thread::scope(|scope| {
                for n in 1..=8 {
                    scope.spawn(move || {
                        let mut rules =
                            only_network(network("lan", &["10.1.0.0/24", "fd00:1::/64"]));
                        let address = format!("10.1.0.{}/24", n + 1);
                        let container = owner("lan", &format!("c{n}"));
                        rules.published =
                            Some(published(container, &[&address], &[tcp(8000 + n, 80)]));
                        Nft::open().unwrap().apply(&rules).unwrap();
                        assert_eq!(
                            Nft::open().unwrap().verify(&rules).unwrap(),
                            Vec::<String>::new()
                        );
                    });
                }
            });
            let all = listing();
            assert_eq!(all.matches("jump published").count(), 2, "{all}");
            assert_eq!(all.matches("oifname @bridges return").count(), 1, "{all}");
            assert_eq!(
                all.matches("ip daddr 10.1.0.0/24 return").count(),
                1,
                "{all}"
            );
            assert_eq!(
                all.matches("ip saddr 127.0.0.0/8 masquerade").count(),
                1,
                "{all}"
            );
            assert_eq!(published_ports(), 8);
        });
    }
}

#[test]
fn eight_coming_and_going() {
    in_fresh_netns(|| {
        std::thread::scope(|scope| {
            for n in 1..=8 {
                scope.spawn(move || {
                    let mut nft = Nft::open().unwrap();
                    let address = format!("10.1.0.{}/24", n + 1);
                    let container = owner("lan", &format!("c{n}"));
                    let rules =
                        only_published(published(container, &[&address], &[tcp(8000 + n, 80)]));
                    for _ in 0..50 {
                        nft.apply(&rules).unwrap();
                        nft.withdraw(&rules).unwrap();
                    }
                });
            }
        });
        let left = listing();
        assert!(
            !left.contains("elements") && !left.contains("hairpin-"),
            "{left}"
        );
    });
}

#[test]
fn one_of_eight_gets_the_port() {
    in_fresh_netns(|| {
        let won: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (1..=8)
                .map(|n| {
                    scope.spawn(move || {
                        let address = format!("10.1.0.{}/24", n + 1);
                        let container = owner("lan", &format!("c{n}"));
                        let rules =
                            only_published(published(container, &[&address], &[tcp(80, 80)]));
                        match Nft::open().unwrap().apply(&rules) {
                            Ok(_) => 1,
                            Err(Error::PortTaken { .. }) => 0,
                            Err(other) => panic!("{other}"),
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    });
}

#[test]
fn the_ten_thousandth_costs_what_the_first_did() {
    in_fresh_netns(|| {
        let mut nft = Nft::open().unwrap();
        let mut fastest = |from: u16| {
            (0..30)
                .map(|n| {
                    let container = owner("lan", &format!("c{n}"));
                    let rules = only_published(published(
                        container,
                        &["10.1.0.2/24"],
                        &[tcp(from + n, 80)],
                    ));
                    let start = Instant::now();
                    nft.apply(&rules).unwrap();
                    start.elapsed()
                })
                .min()
                .unwrap()
        };
        fastest(1);
        let first = fastest(100);
        let many: Vec<_> = (1000..11_000).map(|port| tcp(port, 80)).collect();
        let crowd = only_published(published(owner("lan", "crowd"), &["10.1.0.3/24"], &many));
        Nft::open().unwrap().apply(&crowd).unwrap();
        let last = fastest(20_000);
        assert!(
            last < first * 3 + Duration::from_micros(200),
            "{first:?}, then {last:?}"
        );
    });
}
