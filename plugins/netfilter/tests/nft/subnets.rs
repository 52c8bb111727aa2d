//! Subnets in the interval maps: neighbours, clashes, changes.

use super::lab::{in_fresh_netns, listing, network, only_network, snat};
use pontoon_netfilter::nft::{Error, Nft};

#[track_caller]
fn check_beside(first: &[&str], second: &[&str]) {
    in_fresh_netns(|| {
        let one = only_network(network("one", first));
        let two = only_network(network("two", second));
        let mut nft = Nft::open().unwrap();
        for rules in [&one, &two, &one, &two] {
            nft.apply(rules).unwrap();
        }
        assert_eq!(nft.verify(&one).unwrap(), Vec::<String>::new());
        assert_eq!(nft.verify(&two).unwrap(), Vec::<String>::new());
        assert_eq!(
            listing().matches("chain egress-").count(),
            first.len() + second.len()
        );
        nft.withdraw(&one).unwrap();
        assert_eq!(nft.verify(&two).unwrap(), Vec::<String>::new());
        nft.withdraw(&two).unwrap();
        assert!(!listing().contains("elements"), "{}", listing());
        assert!(!listing().contains("egress-"), "{}", listing());
    });
}

#[track_caller]
fn check_taken(first: &str, second: &str) {
    in_fresh_netns(|| {
        let one = only_network(network("one", &[first]));
        let mut nft = Nft::open().unwrap();
        nft.apply(&one).unwrap();
        let before = listing();
        match nft.apply(&only_network(network("two", &[second]))) {
            Err(Error::SubnetTaken { subnet, owner }) => {
                assert_eq!(
                    (subnet.to_string().as_str(), owner.as_str()),
                    (second, "pontoon one")
                );
            }
            other => panic!("{first} {second}: {other:?}"),
        }
        assert_eq!(before, listing());
    });
}

#[test]
fn neighbours_do_not_disturb_each_other() {
    check_beside(&["10.1.0.0/24"], &["10.1.1.0/24"]);
    check_beside(&["10.1.1.0/24"], &["10.1.0.0/24"]);
    check_beside(&["10.1.0.0/24", "10.1.2.0/24"], &["10.1.1.0/24"]);
    check_beside(&["fd00:1::/64"], &["fd00:1:0:1::/64", "10.0.0.0/8"]);
}

#[test]
fn the_ends_of_the_address_space() {
    check_beside(&["0.0.0.0/8"], &["255.0.0.0/8"]);
    check_beside(&["ffff::/16"], &["::/16"]);
}

#[test]
fn subnets_that_meet_are_refused() {
    check_taken("10.1.0.0/24", "10.1.0.0/16");
    check_taken("10.1.0.0/16", "10.1.0.0/24");
    check_taken("10.1.0.0/16", "10.1.7.0/24");
    check_taken("10.1.7.0/24", "10.1.0.0/16");
    check_taken("fd00:1::/64", "fd00::/16");
}

#[test]
fn one_subnet_may_serve_two_networks_alike() {
    in_fresh_netns(|| {
        let one = only_network(network("one", &["10.1.0.0/24"]));
        let two = only_network(network("two", &["10.1.0.0/24"]));
        let mut nft = Nft::open().unwrap();
        nft.apply(&one).unwrap();
        nft.apply(&two).unwrap();
        assert_eq!(nft.verify(&two).unwrap(), Vec::<String>::new());
        nft.withdraw(&two).unwrap();
        assert_eq!(nft.verify(&one).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_network_may_change_its_mind() {
    in_fresh_netns(|| {
        let mut nft = Nft::open().unwrap();
        let mut rules = only_network(network("one", &["10.1.0.0/24"]));
        for (subnet, source) in [
            ("10.1.0.0/24", None),
            ("10.1.0.0/24", Some("192.0.2.1")),
            ("10.1.0.0/16", Some("192.0.2.1")),
            ("10.1.3.0/25", None),
        ] {
            let egress = &mut rules.network.as_mut().unwrap().egress[0];
            egress.subnet = subnet.parse().unwrap();
            egress.snat = source
                .into_iter()
                .map(|source| snat(source, None))
                .collect();
            nft.apply(&rules).unwrap();
            assert_eq!(nft.verify(&rules).unwrap(), Vec::<String>::new());
            let now = listing();
            assert_eq!(now.matches("chain egress-").count(), 1, "{now}");
            assert_eq!(now.matches("jump egress-").count(), 1, "{now}");
        }
        // Withdrawn under a configuration that is not the one it was made by.
        rules.network.as_mut().unwrap().egress[0].subnet = "10.1.3.0/24".parse().unwrap();
        nft.withdraw(&rules).unwrap();
        assert!(!listing().contains("egress-"), "{}", listing());
        assert!(!listing().contains("elements"), "{}", listing());
    });
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    in_fresh_netns(|| {
        let mut rules = only_network(network("one", &["10.1.0.0/24"]));
        let subject = rules.network.as_mut().unwrap();
        subject.egress[0].snat = vec![snat("2001:db8::1", None)];
        let refused = Nft::open().unwrap().apply(&rules);
        assert!(
            matches!(refused, Err(Error::WrongFamily { .. })),
            "{refused:?}"
        );

        let subject = rules.network.as_mut().unwrap();
        subject.egress[0].snat.clear();
        let long = "x".repeat(66_000);
        for name in [
            "",
            "a/b",
            "a b",
            "sixteen-is-a-lot",
            "quote\"d",
            "br+",
            &long,
        ] {
            rules.network.as_mut().unwrap().bridge = name.to_owned();
            let refused = Nft::open().unwrap().apply(&rules);
            assert!(
                matches!(refused, Err(Error::InterfaceName { .. })),
                "{name}: {refused:?}"
            );
        }
        assert_eq!(listing(), "");
    });
}
