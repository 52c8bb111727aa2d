//! What may pass, with real packets: each case a connection or a datagram that must arrive, or must
//! not.

use std::net::IpAddr;

use super::lab::{
    in_fresh_netns, listing, network, only_network, only_published, owner, published, run,
};
use super::wire::{Wires, inside, serve, tcp, udp};
use pontoon_netfilter::nft::Nft;
use pontoon_netfilter::{Ingress, Link, Policy, Port, PortIsolation, Protocol, Resolver, Ruleset};
use pontoon_netlink::Netns;

const SERVER: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
const SIBLING: [&str; 2] = ["10.1.0.3", "fd00:1::3"];
const STRANGER: [&str; 2] = ["10.2.0.2", "fd00:2::2"];
const OUTSIDE: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const GATEWAY: [&str; 2] = ["10.1.0.1", "fd00:1::1"];
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

fn apply(rules: &Ruleset) {
    Nft::open().unwrap().apply(rules).unwrap();
}

fn withdraw(rules: &Ruleset) {
    Nft::open().unwrap().withdraw(rules).unwrap();
}

fn policy(policy: Policy) -> Ruleset {
    Ruleset {
        policy: Some(policy),
        ..Ruleset::default()
    }
}

/// Tries both protocols and both families.
#[track_caller]
fn check(from: &Netns, to: [&str; 2], port: u16, arrives: bool) {
    for address in to {
        let ip: IpAddr = address.parse().unwrap();
        let tcp = tcp(from, ip, port).is_some();
        let udp = udp(from, ip, port).is_some();
        assert_eq!(tcp, arrives, "tcp to {address} {port}\n{}", listing());
        assert_eq!(udp, arrives, "udp to {address} {port}\n{}", listing());
    }
}

/// Two networks with masquerade, servers on port 80 everywhere, a neighbour outside who has routes to
/// the containers, and the server's port 80 published as 8080.
fn lay(bridge_nf_call: bool) -> Wires {
    let wires = Wires::lay(bridge_nf_call);
    for netns in [
        &wires.server,
        &wires.sibling,
        &wires.stranger,
        &wires.outside,
        &wires.host,
    ] {
        serve(netns, 80);
    }
    inside(&wires.outside, || {
        run("ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd00::/16 via 2001:db8::1");
    });
    apply(&only_network(network(
        "lan",
        &["10.1.0.0/24", "fd00:1::/64"],
    )));
    apply(&only_network(network(
        "two",
        &["10.2.0.0/24", "fd00:2::/64"],
    )));
    let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| Port {
        protocol,
        host_ip: None,
        host_port: 8080,
        container_port: 80,
    });
    apply(&only_published(published(
        owner("lan", "c1"),
        &["10.1.0.2/24", "fd00:1::2/64"],
        &ports,
    )));
    wires
}

/// What a separated network needs of the host beside its rules: to be asked for the way between
/// containers.
fn separate() {
    run("sysctl -qw net.ipv4.conf.br-lan.proxy_arp_pvlan=1; \
         sysctl -qw net.ipv4.neigh.br-lan.proxy_delay=0; \
         sysctl -qw net.ipv6.conf.br-lan.proxy_ndp=1; \
         sysctl -qw net.ipv6.neigh.br-lan.proxy_delay=0; \
         ip -6 neigh add proxy fd00:1::2 dev br-lan; ip -6 neigh add proxy fd00:1::3 dev br-lan");
    for (port, container) in [("v1", "c1"), ("v2", "c2")] {
        apply(&Ruleset {
            separation: Some(PortIsolation {
                owner: owner("lan", container),
                bridge: "br-lan".into(),
                port: port.into(),
            }),
            ..Ruleset::default()
        });
    }
}

#[test]
fn without_a_policy_everything_is_open() {
    in_fresh_netns(|| {
        let wires = lay(false);
        check(&wires.sibling, SERVER, 80, true);
        check(&wires.stranger, SERVER, 80, true);
        check(&wires.outside, SERVER, 80, true);
        check(&wires.outside, HOST, 8080, true);
    });
}

fn docker(bridge_nf_call: bool) {
    in_fresh_netns(|| {
        let wires = lay(bridge_nf_call);
        apply(&policy(Policy::docker("lan", "br-lan")));
        check(&wires.sibling, SERVER, 80, true);
        check(&wires.server, OUTSIDE, 80, true);
        check(&wires.host, SERVER, 80, true);
        check(&wires.server, GATEWAY, 80, true);
        // Isolated, in both directions, though the other network has no policy.
        check(&wires.stranger, SERVER, 80, false);
        check(&wires.server, STRANGER, 80, false);
        check(&wires.outside, SERVER, 80, false);
        check(&wires.outside, STRANGER, 80, true);
        // A published port is the exception, from everywhere.
        for netns in [&wires.outside, &wires.stranger, &wires.sibling, &wires.host] {
            check(netns, HOST, 8080, true);
        }
        check(&wires.outside, SERVER, 8080, false);

        let trusted = Policy {
            trusted: vec!["eth1".into()],
            ..Policy::docker("lan", "br-lan")
        };
        apply(&policy(trusted.clone()));
        check(&wires.outside, SERVER, 80, true);
        check(&wires.stranger, SERVER, 80, false);
        apply(&Ruleset {
            former_policy: Some(trusted),
            ..policy(Policy::docker("lan", "br-lan"))
        });
        check(&wires.outside, SERVER, 80, false);
        // Closed, but not isolated; and the other way round.
        apply(&policy(Policy {
            isolated: false,
            ..Policy::docker("lan", "br-lan")
        }));
        check(&wires.outside, SERVER, 80, false);
        check(&wires.stranger, SERVER, 80, true);
        apply(&policy(Policy {
            closed: false,
            ..Policy::docker("lan", "br-lan")
        }));
        check(&wires.outside, SERVER, 80, true);
        check(&wires.stranger, SERVER, 80, false);
        // And nothing of it stays.
        withdraw(&policy(Policy::docker("lan", "br-lan")));
        check(&wires.stranger, SERVER, 80, true);
        assert!(!listing().contains("pontoon lan\" : drop"), "{}", listing());
    });
}

#[test]
fn docker_isolates_and_closes() {
    docker(false);
}

#[test]
fn docker_isolates_and_closes_bridged() {
    docker(true);
}

fn icc_off(bridge_nf_call: bool) {
    in_fresh_netns(|| {
        let wires = lay(bridge_nf_call);
        separate();
        apply(&policy(Policy {
            icc: false,
            ..Policy::docker("lan", "br-lan")
        }));
        check(&wires.sibling, SERVER, 80, false);
        check(&wires.server, SIBLING, 80, false);
        check(&wires.server, OUTSIDE, 80, true);
        check(&wires.host, SERVER, 80, true);
        for netns in [&wires.outside, &wires.sibling, &wires.server] {
            check(netns, HOST, 8080, true);
        }
        let links: Vec<Link> = SERVER
            .iter()
            .zip(SIBLING)
            .flat_map(|(to, from)| {
                [Protocol::Tcp, Protocol::Udp].map(|protocol| Link {
                    owner: owner("lan", "c2"),
                    bridge: "br-lan".into(),
                    from: from.parse().unwrap(),
                    to: to.parse().unwrap(),
                    protocol,
                    port: 80,
                })
            })
            .collect();
        let linked = Ruleset {
            links,
            ..Ruleset::default()
        };
        apply(&linked);
        apply(&linked);
        serve(&wires.server, 81);
        check(&wires.sibling, SERVER, 80, true);
        // Again, after a redirect would have shown a shorter way.
        check(&wires.sibling, SERVER, 80, true);
        check(&wires.sibling, SERVER, 81, false);
        check(&wires.server, SIBLING, 80, false);
        withdraw(&linked);
        check(&wires.sibling, SERVER, 80, false);
        apply(&policy(Policy::docker("lan", "br-lan")));
        for port in ["v1", "v2"] {
            let container = if port == "v1" { "c1" } else { "c2" };
            withdraw(&Ruleset {
                separation: Some(PortIsolation {
                    owner: owner("lan", container),
                    bridge: "br-lan".into(),
                    port: port.into(),
                }),
                ..Ruleset::default()
            });
        }
        check(&wires.sibling, SERVER, 80, true);
    });
}

#[test]
fn icc_off_passes_links_only() {
    icc_off(false);
}

#[test]
fn icc_off_passes_links_only_bridged() {
    icc_off(true);
}

#[test]
fn internal_networks_have_no_way_out_and_none_in() {
    in_fresh_netns(|| {
        let wires = lay(false);
        apply(&policy(Policy {
            internal: true,
            ..Policy::open("lan", "br-lan")
        }));
        check(&wires.sibling, SERVER, 80, true);
        check(&wires.host, SERVER, 80, true);
        check(&wires.server, GATEWAY, 80, true);
        check(&wires.server, OUTSIDE, 80, false);
        check(&wires.server, STRANGER, 80, false);
        check(&wires.stranger, SERVER, 80, false);
        check(&wires.outside, SERVER, 80, false);
        // A redirection by another program leads nowhere either, in or out.
        check(&wires.outside, HOST, 8080, false);
        run("nft add table ip other; \
             nft add chain ip other pre '{ type nat hook prerouting priority -110; }'; \
             nft add rule ip other pre tcp dport 8081 dnat to 10.2.0.2:80");
        let stranger = HOST[0].parse().unwrap();
        assert!(tcp(&wires.outside, stranger, 8081).is_some());
        assert!(tcp(&wires.server, stranger, 8081).is_none());
    });
}

#[test]
fn without_host_access_only_published_ports_are_reached() {
    in_fresh_netns(|| {
        let wires = lay(false);
        let resolver = Resolver {
            network: "lan".to_owned(),
            gateways: GATEWAY.map(|ip| ip.parse().unwrap()).to_vec(),
            port: 80,
        };
        apply(&Ruleset {
            resolver: Some(resolver),
            ..Ruleset::default()
        });
        for internal in [false, true] {
            apply(&policy(Policy {
                internal,
                ..Policy::docker("lan", "br-lan")
            }));
            check(&wires.server, GATEWAY, 53, true);
        }
        apply(&policy(Policy {
            host_access: false,
            ..Policy::docker("lan", "br-lan")
        }));
        check(&wires.server, GATEWAY, 53, false);
        check(&wires.host, SERVER, 80, false);
        check(&wires.server, HOST, 80, false);
        check(&wires.server, GATEWAY, 80, false);
        check(&wires.stranger, ["10.2.0.1", "fd00:2::1"], 80, true);
        // The gateway goes on being one, even for who has to look for it anew.
        inside(&wires.server, || {
            run("ip neigh flush all; ip -6 neigh flush all")
        });
        check(&wires.server, OUTSIDE, 80, true);
        check(&wires.outside, HOST, 8080, true);
        check(&wires.host, HOST, 8080, true);
        check(&wires.sibling, HOST, 8080, true);
    });
}

#[test]
fn ingress_policies_mean_what_they_mean_in_the_reference() {
    in_fresh_netns(|| {
        let wires = lay(false);
        let same = |network: &str| Policy {
            ingress: Ingress::SameBridge,
            ..Policy::open(network, &format!("br-{network}"))
        };
        apply(&policy(same("lan")));
        check(&wires.stranger, SERVER, 80, true);
        apply(&policy(same("two")));
        check(&wires.stranger, SERVER, 80, false);
        check(&wires.stranger, HOST, 8080, false);
        check(&wires.sibling, SERVER, 80, true);
        check(&wires.sibling, HOST, 8080, true);
        check(&wires.outside, SERVER, 80, true);
        apply(&policy(Policy {
            ingress: Ingress::Isolated,
            ..same("lan")
        }));
        check(&wires.sibling, HOST, 8080, false);
        check(&wires.outside, HOST, 8080, true);
    });
}

#[test]
fn the_admins_chain_comes_first_and_stays() {
    in_fresh_netns(|| {
        let wires = lay(false);
        let docker = policy(Policy::docker("lan", "br-lan"));
        apply(&docker);
        run("nft add rule inet pontoon admin tcp dport 80 ip daddr 10.1.0.2 accept");
        run("nft add rule inet pontoon admin ip saddr 192.0.2.2 udp dport 80 drop");
        let server = SERVER[0].parse().unwrap();
        assert!(tcp(&wires.outside, server, 80).is_some());
        assert!(udp(&wires.outside, HOST[0].parse().unwrap(), 8080).is_none());
        apply(&docker);
        // Part of the table is deleted by another program: it is made again around the admin's.
        run("nft flush chain inet pontoon forward");
        apply(&docker);
        withdraw(&docker);
        assert!(udp(&wires.outside, HOST[0].parse().unwrap(), 8080).is_none());
        Nft::open().unwrap().remove_all().unwrap();
        assert!(run("nft list chain inet pontoon admin").contains("192.0.2.2"));
        run("nft flush chain inet pontoon admin");
        Nft::open().unwrap().remove_all().unwrap();
        assert!(!listing().contains("pontoon"), "{}", listing());
    });
}

#[test]
fn what_is_flushed_or_wrong_is_told_and_made_again() {
    in_fresh_netns(|| {
        let docker = policy(Policy::docker("lan", "br-lan"));
        let mut nft = Nft::open().unwrap();
        nft.apply(&docker).unwrap();
        assert_eq!(nft.verify(&docker).unwrap(), Vec::<String>::new());
        run("nft delete element inet pontoon entering '{ \"br-lan\" }'");
        assert_eq!(nft.verify(&docker).unwrap().len(), 1);
        nft.apply(&docker).unwrap();
        assert_eq!(nft.verify(&docker).unwrap(), Vec::<String>::new());
        let open = policy(Policy::open("lan", "br-lan"));
        assert!(!nft.verify(&open).unwrap().is_empty());
        run("nft flush ruleset");
        assert!(!nft.verify(&docker).unwrap().is_empty());
        nft.apply(&docker).unwrap();
        assert_eq!(nft.verify(&docker).unwrap(), Vec::<String>::new());
        // Two networks on one bridge agree, or the second is told.
        nft.apply(&policy(Policy::docker("other", "br-lan")))
            .unwrap();
        let error = nft
            .apply(&policy(Policy::open("other", "br-lan")))
            .unwrap_err();
        assert!(error.to_string().contains("pontoon lan"), "{error}");
    });
}
