//! Real packets through the rules: who reaches what, and under which address.

use super::lab::{
    in_fresh_netns, network, only_network, only_published, owner, published, run, snat,
};
use super::wire::{Wires, serve, tcp, udp};
use pontoon_netfilter::nft::Nft;
use pontoon_netfilter::{Port, Protocol, Ruleset, SpoofGuard};
use pontoon_netlink::Netns;

fn both(host_port: u16, host_ip: Option<&str>) -> Vec<Port> {
    [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| Port {
            protocol,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
        })
        .to_vec()
}

fn apply(rules: &Ruleset) {
    Nft::open().unwrap().apply(rules).unwrap();
}

/// Connects by both protocols; the server must have seen this address, or nothing at all.
#[track_caller]
fn check(from: &Netns, to: &str, port: u16, seen: Option<&str>) {
    let address = to.parse().unwrap();
    assert_eq!(
        tcp(from, address, port).as_deref(),
        seen,
        "tcp to {to} {port}"
    );
    assert_eq!(
        udp(from, address, port).as_deref(),
        seen,
        "udp to {to} {port}"
    );
}

fn lan_and_two() {
    apply(&only_network(network(
        "lan",
        &["10.1.0.0/24", "fd00:1::/64"],
    )));
    apply(&only_network(network(
        "two",
        &["10.2.0.0/24", "fd00:2::/64"],
    )));
}

fn every_sender_reaches_a_published_port(bridge_nf_call: bool) {
    in_fresh_netns(|| {
        let wires = Wires::lay(bridge_nf_call);
        serve(&wires.server, 80);
        lan_and_two();
        check(&wires.outside, "192.0.2.1", 8080, None);
        let addresses = ["10.1.0.2/24", "fd00:1::2/64"];
        let rules = only_published(published(owner("lan", "c1"), &addresses, &both(8080, None)));
        apply(&rules);

        // Strangers keep their address; those whom the server would answer directly do not.
        check(&wires.outside, "192.0.2.1", 8080, Some("192.0.2.2"));
        check(&wires.outside, "2001:db8::1", 8080, Some("2001:db8::2"));
        check(&wires.stranger, "192.0.2.1", 8080, Some("10.2.0.2"));
        check(&wires.stranger, "2001:db8::1", 8080, Some("fd00:2::2"));
        check(&wires.stranger, "10.2.0.1", 8080, Some("10.2.0.2"));
        check(&wires.sibling, "192.0.2.1", 8080, Some("10.1.0.1"));
        check(&wires.sibling, "2001:db8::1", 8080, Some("fd00:1::1"));
        check(&wires.sibling, "10.1.0.1", 8080, Some("10.1.0.1"));
        check(&wires.server, "192.0.2.1", 8080, Some("10.1.0.1"));
        check(&wires.server, "2001:db8::1", 8080, Some("fd00:1::1"));
        check(&wires.host, "127.0.0.1", 8080, Some("10.1.0.1"));
        assert!(tcp(&wires.host, "192.0.2.1".parse().unwrap(), 8080).is_some());
        assert!(tcp(&wires.host, "2001:db8::1".parse().unwrap(), 8080).is_some());

        Nft::open().unwrap().withdraw(&rules).unwrap();
        assert_eq!(
            tcp(&wires.outside, "192.0.2.1".parse().unwrap(), 8080),
            None
        );
        assert_eq!(tcp(&wires.host, "127.0.0.1".parse().unwrap(), 8080), None);
    });
}

#[test]
fn every_sender_reaches_a_published_port_by_routing() {
    every_sender_reaches_a_published_port(false);
}

#[test]
fn every_sender_reaches_a_published_port_through_bridge_netfilter() {
    every_sender_reaches_a_published_port(true);
}

#[test]
fn a_port_of_one_address_is_not_one_of_another() {
    in_fresh_netns(|| {
        let wires = Wires::lay(true);
        serve(&wires.server, 80);
        run("ip addr add 192.0.2.9/24 dev eth1");
        let ports = [both(8080, Some("192.0.2.9")), both(81, Some("127.0.0.1"))].concat();
        apply(&only_published(published(
            owner("lan", "c1"),
            &["10.1.0.2/24"],
            &ports,
        )));
        check(&wires.outside, "192.0.2.9", 8080, Some("192.0.2.2"));
        check(&wires.outside, "192.0.2.1", 8080, None);
        check(&wires.host, "127.0.0.1", 81, Some("10.1.0.1"));
        check(&wires.outside, "192.0.2.1", 81, None);
        // A neighbour who sends to 127.0.0.1 by way of the host.
        super::wire::inside(&wires.outside, || {
            run("sysctl -qw net.ipv4.conf.all.route_localnet=1; \
                 ip rule add pref 0 to 127.0.0.1 lookup 100; ip rule del pref 0 lookup local; \
                 ip rule add pref 1 lookup local; ip route add 127.0.0.1 via 192.0.2.1 table 100");
        });
        run("sysctl -qw net.ipv4.conf.eth1.route_localnet=1");
        check(&wires.outside, "127.0.0.1", 81, None);
        // It is the guard that keeps the door shut, not the wiring of this test.
        run("nft flush chain inet pontoon guard");
        check(&wires.outside, "127.0.0.1", 81, Some("192.0.2.2"));
    });
}

#[test]
fn traffic_to_the_outside_changes_its_source_and_nothing_else_does() {
    in_fresh_netns(|| {
        let wires = Wires::lay(true);
        for netns in [&wires.server, &wires.outside] {
            serve(netns, 80);
        }
        check(&wires.sibling, "192.0.2.2", 80, None);
        lan_and_two();
        check(&wires.sibling, "192.0.2.2", 80, Some("192.0.2.1"));
        check(&wires.sibling, "2001:db8::2", 80, Some("2001:db8::1"));
        check(&wires.sibling, "10.1.0.2", 80, Some("10.1.0.3"));
        check(&wires.stranger, "10.1.0.2", 80, Some("10.2.0.2"));
        check(&wires.stranger, "fd00:1::2", 80, Some("fd00:2::2"));
    });
}

#[test]
fn a_fixed_source_address() {
    in_fresh_netns(|| {
        let wires = Wires::lay(true);
        serve(&wires.outside, 80);
        run("ip addr add 192.0.2.7/32 dev lo; ip -6 addr add 2001:db8::7/128 dev lo");
        let mut rules = only_network(network("lan", &["10.1.0.0/24", "fd00:1::/64"]));
        let egress = &mut rules.network.as_mut().unwrap().egress;
        egress[0].snat = vec![
            snat("203.0.113.1", Some("eth7")),
            snat("192.0.2.7", Some("eth1")),
        ];
        egress[1].snat = vec![snat("2001:db8::7", None)];
        apply(&rules);
        super::wire::inside(&wires.outside, || {
            run("ip -6 route add 2001:db8::7 via 2001:db8::1")
        });
        check(&wires.sibling, "192.0.2.2", 80, Some("192.0.2.7"));
        check(&wires.sibling, "2001:db8::2", 80, Some("2001:db8::7"));
    });
}

#[test]
fn conditions_decide_who_is_let_in() {
    in_fresh_netns(|| {
        let wires = Wires::lay(true);
        serve(&wires.server, 80);
        let ports = both(8080, None);
        let mut rules = published(owner("lan", "c1"), &["10.1.0.2/24"], &ports);
        rules.conditions_v4 = ["ip", "saddr", "!=", "10.2.0.0/24", "iifname", "!=", "lo"]
            .map(str::to_owned)
            .to_vec();
        let rules = only_published(rules);
        apply(&rules);
        apply(&rules);
        check(&wires.outside, "192.0.2.1", 8080, Some("192.0.2.2"));
        check(&wires.stranger, "192.0.2.1", 8080, None);
        assert_eq!(
            Nft::open().unwrap().verify(&rules).unwrap(),
            Vec::<String>::new()
        );
        Nft::open().unwrap().withdraw(&rules).unwrap();
        assert!(
            !super::lab::listing().contains("cond-"),
            "{}",
            super::lab::listing()
        );
        assert_eq!(
            tcp(&wires.outside, "192.0.2.1".parse().unwrap(), 8080),
            None
        );
    });
}

#[test]
fn a_guarded_port_has_one_source_address() {
    in_fresh_netns(|| {
        let wires = Wires::lay(true);
        serve(&wires.server, 80);
        let real = super::wire::inside(&wires.sibling, || {
            run("ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'")
        });
        let mut mac = [0; 6];
        for (byte, hex) in mac.iter_mut().zip(real.trim().split(':')) {
            *byte = u8::from_str_radix(hex, 16).unwrap();
        }
        let guard = SpoofGuard {
            owner: owner("lan", "c2"),
            port: "v2".to_owned(),
            mac,
        };
        apply(&Ruleset {
            spoof_guard: Some(guard),
            ..Ruleset::default()
        });
        check(&wires.sibling, "10.1.0.2", 80, Some("10.1.0.3"));
        super::wire::inside(&wires.sibling, || {
            run("ip link set eth0 address 02:00:00:00:00:99")
        });
        check(&wires.sibling, "10.1.0.2", 80, None);
        check(&wires.stranger, "10.1.0.2", 80, Some("10.2.0.2"));
    });
}
