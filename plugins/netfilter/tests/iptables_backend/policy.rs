//! What may pass, shown by packets: each policy against each kind of sender.

use pontoon_netfilter::{Ingress, Link, Member, Policy, Port, Protocol, Resolver, Ruleset};

use crate::bed::{Node, VARIANTS, network, owner, port, published, tcp};
use crate::host_scene::{
    Cell, FRIEND, GATEWAY, HOST, HostScene, NEIGHBOUR, OTHER, Pair, SERVICE, SIBLING, THIRD, WEB,
    only, to,
};

const PUBLISHED: u16 = 8080;

/// `web` publishes its service.
fn publish(ground: &HostScene) -> Ruleset {
    let ports = [tcp(PUBLISHED, 80), port(Protocol::Udp, PUBLISHED, 80)];
    let ruleset = published("web", "c1", (88, 2), &ports);
    ground.host.apply(&ruleset);
    ruleset
}

fn to_published<'a>(name: &'static str, from: &'a Node, at: Pair, arrives: bool) -> Cell<'a> {
    Cell {
        port: PUBLISHED,
        ..to(name, from, at, arrives)
    }
}

/// Docker's promise for two networks, the third open as the reference's.
#[test]
fn isolated_and_closed() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        g.host.apply(&only(Policy::docker("web", "br0")));
        g.host.apply(&only(Policy::docker("db", "br1")));
        g.host.apply(&only(Policy::open("open", "br2")));
        publish(&g);
        for bridge_nf in [false, true] {
            g.bridge_nf(bridge_nf);
            let context = format!("{variant:?} bridge-nf {bridge_nf}");
            g.check(
                &context,
                &[
                    to("sibling", &g.sibling, WEB, true),
                    to("host to container", &g.host.node, WEB, true),
                    to("container to host", &g.web, GATEWAY, true),
                    to("out", &g.web, NEIGHBOUR, true),
                    to("out from the open one", &g.third, NEIGHBOUR, true),
                    to("isolated to isolated", &g.web, OTHER, false),
                    to("and back", &g.other, WEB, false),
                    to("isolated to open", &g.web, THIRD, false),
                    to("open to isolated", &g.third, WEB, false),
                    to("routing neighbour", &g.neighbour, WEB, false),
                    to("another one", &g.friend, OTHER, false),
                    to("neighbour to the open one", &g.neighbour, THIRD, true),
                    to_published("published, outside", &g.neighbour, HOST, true),
                    to_published("published, outside, far side", &g.friend, HOST, true),
                    to_published("published, other network", &g.other, HOST, true),
                    to_published("published, open network", &g.third, HOST, true),
                    to_published("published, sibling", &g.sibling, HOST, true),
                    to_published("published, itself", &g.web, HOST, true),
                    to_published("published, host", &g.host.node, HOST, true),
                    to_published("published, loopback", &g.host.node, ("127.0.0.1", ""), true),
                    to_published("published port at the container", &g.neighbour, WEB, false),
                ],
            );
        }
    }
}

/// What the host needs beside the rules so that a network's containers are kept apart whether or
/// not bridged packets meet iptables: no frame passes, and the host answers for the siblings.
fn separate(g: &HostScene) {
    g.host.node.sh(
        "for port in v1 v2; do bridge link set dev $port isolated on; done\n\
         sysctl -qw net.ipv4.conf.br0.proxy_arp_pvlan=1 net.ipv4.neigh.br0.proxy_delay=0 \
         net.ipv6.conf.br0.proxy_ndp=1 net.ipv6.neigh.br0.proxy_delay=0\n\
         for last in 2 3; do ip -6 neigh add proxy fd00:88::$last dev br0; done",
    );
    for node in [&g.web, &g.sibling] {
        node.sh("ip neigh flush all");
    }
}

fn link(container: &str, from: &str, to: &str, protocol: Protocol) -> Link {
    Link {
        owner: owner("web", container),
        bridge: "br0".to_owned(),
        from: from.parse().expect("address"),
        to: to.parse().expect("address"),
        protocol,
        port: 80,
    }
}

/// `sibling` may ask `web`, by both protocols and in both families.
fn links() -> Ruleset {
    let pairs = [(SIBLING.0, WEB.0), (SIBLING.1, WEB.1)];
    let links = pairs.iter().flat_map(|(from, to)| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| link("c2", from, to, protocol))
    });
    Ruleset {
        links: links.collect(),
        ..Ruleset::default()
    }
}

/// Without `icc` nothing passes but what a link allows, in the direction that it allows.
#[test]
fn siblings_kept_apart_and_linked() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let policy = only(Policy {
            icc: false,
            ..Policy::docker("web", "br0")
        });
        g.host.apply(&policy);
        publish(&g);
        // Where bridged packets meet iptables the rules alone must do; elsewhere frames are stopped.
        for bridge_nf in [true, false] {
            g.bridge_nf(bridge_nf);
            if !bridge_nf {
                separate(&g);
            }
            let context = format!("{variant:?} bridge-nf {bridge_nf}");
            let around = [
                to("out", &g.web, NEIGHBOUR, true),
                to("host to container", &g.host.node, WEB, true),
                to("container to host", &g.web, GATEWAY, true),
                to_published("published, outside", &g.neighbour, HOST, true),
                to_published("published, sibling", &g.sibling, HOST, true),
                to_published("published, itself", &g.web, HOST, true),
            ];
            g.check(&context, &around);
            let apart = [
                to("siblings", &g.sibling, WEB, false),
                to("siblings, other way", &g.web, SIBLING, false),
            ];
            g.check(&context, &apart);
            g.host.apply(&links());
            g.host.apply(&links());
            assert_eq!(g.host.verify(&links()), Vec::<String>::new(), "{context}");
            let linked = [
                to("linked", &g.sibling, WEB, true),
                to("linked, other way", &g.web, SIBLING, false),
            ];
            g.check(&context, &linked);
            // Docker's rule would let a new flow through that comes from the linked port.
            assert!(!from_port_80(&g.web, SIBLING), "{context}");
            // What stood for the network stays when its policy is written again.
            g.host.apply(&policy);
            g.check(&context, &linked[..1]);
            g.host.withdraw(&links());
            g.host.withdraw(&links());
            assert_eq!(g.host.count("c2 eth0"), 0, "{context}");
            g.check(&context, &apart);
        }
    }
}

/// Whether a new TCP connection from the service's own port gets anywhere.
fn from_port_80(node: &Node, target: Pair) -> bool {
    [target.0, target.1].iter().any(|address| {
        let script = format!(
            "busybox nc -p 80 -w 1 {address} 80 </dev/null >/dev/null 2>&1 && echo arrived || true"
        );
        node.sh(&script).contains("arrived")
    })
}

/// One link goes, the others of the same owner stay, whatever this iptables compares.
#[test]
fn one_link_of_many() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        g.host.apply(&only(Policy {
            icc: false,
            ..Policy::open("web", "br0")
        }));
        let all: Vec<Link> = (1..=3)
            .map(|port| Link {
                port,
                ..link("c2", SIBLING.1, WEB.1, Protocol::Tcp)
            })
            .collect();
        let some = |links: &[Link]| Ruleset {
            links: links.to_vec(),
            ..Ruleset::default()
        };
        g.host.apply(&some(&all));
        g.host.withdraw(&some(&all[2..]));
        let missing = g.host.verify(&some(&all));
        assert_eq!(missing.len(), 1, "{variant:?}: {missing:?}");
        assert!(missing[0].contains("--dport 3"), "{variant:?}: {missing:?}");
    }
}

/// Nothing goes out of an internal network and nothing comes in; the host is reached as long as the
/// policy says so.
#[test]
fn internal_and_without_the_host() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let internal = Policy {
            internal: true,
            ..Policy::docker("web", "br0")
        };
        g.host.apply(&only(internal.clone()));
        g.host.apply(&only(Policy::open("db", "br1")));
        publish(&g);
        let ports = [tcp(8081, 80), port(Protocol::Udp, 8081, 80)];
        g.host.apply(&published("db", "c3", (89, 2), &ports));
        let elsewhere = [
            to("sibling", &g.sibling, WEB, true),
            to("out", &g.web, NEIGHBOUR, false),
            to("in", &g.neighbour, WEB, false),
            to("to another network", &g.web, OTHER, false),
            to("from another network", &g.other, WEB, false),
            to_published("published, outside", &g.neighbour, HOST, false),
            Cell {
                port: 8081,
                ..to("another's published port", &g.web, HOST, false)
            },
            Cell {
                port: 8081,
                ..to("the same from outside", &g.neighbour, HOST, true)
            },
        ];
        g.check(&format!("{variant:?}"), &elsewhere);
        let host = |arrives| {
            [
                to("container to host", &g.web, GATEWAY, arrives),
                to("the host's other address", &g.web, HOST, arrives),
                to("host to container", &g.host.node, WEB, arrives),
            ]
        };
        g.check(&format!("{variant:?}"), &host(true));
        let barred = only(Policy {
            host_access: false,
            ..internal
        });
        g.host.apply(&barred);
        // Neighbours are found anew, host and siblings: discovery must pass where nothing else does.
        for node in [&g.host.node, &g.web, &g.sibling] {
            node.sh("ip neigh flush all");
        }
        g.check(&format!("{variant:?} without host access"), &host(false));
        g.check(&format!("{variant:?} without host access"), &elsewhere);
    }
}

/// Without access to the host a network still has its ways through the host.
#[test]
fn through_the_host_but_not_to_it() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        g.host.apply(&Ruleset {
            resolver: Some(Resolver {
                network: "web".to_owned(),
                gateways: [GATEWAY.0, GATEWAY.1]
                    .map(|ip| ip.parse().expect("address"))
                    .to_vec(),
                port: SERVICE,
            }),
            ..Ruleset::default()
        });
        let resolver = |arrives| Cell {
            port: 53,
            ..to("container to resolver", &g.web, GATEWAY, arrives)
        };
        for internal in [false, true] {
            g.host.apply(&only(Policy {
                internal,
                ..Policy::docker("web", "br0")
            }));
            g.check(&format!("{variant:?} {internal}"), &[resolver(true)]);
        }
        g.host.apply(&only(Policy {
            host_access: false,
            ..Policy::docker("web", "br0")
        }));
        g.check(&format!("{variant:?}"), &[resolver(false)]);
        publish(&g);
        for node in [&g.host.node, &g.web, &g.neighbour] {
            node.sh("ip neigh flush all");
        }
        g.check(
            &format!("{variant:?}"),
            &[
                to("out", &g.web, NEIGHBOUR, true),
                to("container to host", &g.web, GATEWAY, false),
                to("host to container", &g.host.node, WEB, false),
                to_published("published, outside", &g.neighbour, HOST, true),
                to_published("published, host", &g.host.node, HOST, true),
                to("neighbour to host", &g.neighbour, HOST, true),
            ],
        );
    }
}

/// The reference's key, with the reference's meaning: between networks that have it, and nowhere
/// else.
#[test]
fn ingress_policy_of_the_reference() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let with = |network: &str, bridge: &str, ingress| {
            only(Policy {
                ingress,
                ..Policy::open(network, bridge)
            })
        };
        g.host.apply(&with("web", "br0", Ingress::SameBridge));
        g.host.apply(&with("db", "br1", Ingress::SameBridge));
        g.host.apply(&with("open", "br2", Ingress::Open));
        g.bridge_nf(true);
        let around = [
            to("between two", &g.web, OTHER, false),
            to("and back", &g.other, WEB, false),
            to("from an open one", &g.third, WEB, true),
            to("to an open one", &g.web, THIRD, true),
            to("out", &g.web, NEIGHBOUR, true),
            to("in", &g.neighbour, WEB, true),
        ];
        g.check(&format!("{variant:?}"), &around);
        let within = |arrives| [to("siblings", &g.sibling, WEB, arrives)];
        g.check(&format!("{variant:?} same-bridge"), &within(true));
        g.host.apply(&with("web", "br0", Ingress::Isolated));
        g.check(&format!("{variant:?} isolated"), &within(false));
        g.check(&format!("{variant:?} isolated"), &around);
        for text in [
            "-i br0 ! -o br0 -m comment --comment \"CNI firewall plugin rules (ingressPolicy: isolated)\"",
            "-i br1 ! -o br1 -m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge)\"",
            "-o br0 -m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)\"",
        ] {
            assert_eq!(
                g.host.count(text),
                2,
                "{variant:?} {text}: {}",
                g.host.rules()
            );
        }
    }
}

/// Each key by itself: isolation does not close, closing does not isolate, trust opens one door.
#[test]
fn isolation_closing_and_trust_by_themselves() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        g.host.apply(&only(Policy {
            isolated: true,
            ..Policy::open("web", "br0")
        }));
        g.host.apply(&only(Policy {
            closed: true,
            trusted: vec!["up1".to_owned()],
            ..Policy::open("db", "br1")
        }));
        g.host.apply(&only(Policy::open("open", "br2")));
        g.check(
            &format!("{variant:?}"),
            &[
                to("in to the isolated", &g.neighbour, WEB, true),
                to("isolated to closed", &g.web, OTHER, false),
                to("closed to isolated", &g.other, WEB, false),
                to("open to isolated", &g.third, WEB, false),
                to("isolated to open", &g.web, THIRD, false),
                to("open to closed", &g.third, OTHER, true),
                to("closed to open", &g.other, THIRD, true),
                to("in to the closed", &g.neighbour, OTHER, false),
                to("in by a trusted interface", &g.friend, OTHER, true),
                to("out", &g.other, FRIEND, true),
            ],
        );
    }
}

/// A port published at 127.0.0.1, at one address, or everywhere: a neighbour who sends packets to
/// 127.0.0.1 or to the container gets nothing, with or without masquerade.
#[test]
fn published_at_one_address_only() {
    for variant in VARIANTS {
        for snat in [true, false] {
            let g = HostScene::new(variant);
            g.host.apply(&only(Policy::docker("web", "br0")));
            let at = |address: Option<&str>, host_port| {
                let host_ip = address.map(|a| a.parse().expect("address"));
                [Protocol::Tcp, Protocol::Udp].map(|protocol| Port {
                    host_ip,
                    ..port(protocol, host_port, 80)
                })
            };
            let ports = [
                at(Some("127.0.0.1"), 8081),
                at(Some("192.0.2.7"), 8082),
                at(None, 8083),
            ]
            .concat();
            let mut ruleset = published("web", "c1", (88, 2), &ports);
            ruleset.published.as_mut().expect("ports").snat = snat;
            g.host.apply(&ruleset);
            // A neighbour of the host sends what is for 127.0.0.1 to the host.
            for (node, gateway, own) in [
                (&g.neighbour, "192.0.2.1", "192.0.2.2"),
                (&g.sibling, "10.88.0.1", "10.88.0.3"),
            ] {
                node.sh(&format!(
                    "sysctl -qw net.ipv4.conf.all.route_localnet=1\nip addr del 127.0.0.1/8 dev lo\n\
                     ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null || true\n\
                     ip route add 127.0.0.0/8 via {gateway} dev eth0 src {own}"
                ));
            }
            let loopback = ("127.0.0.1", "");
            let cell = |port, name, from, at, arrives| Cell {
                port,
                ..to(name, from, at, arrives)
            };
            let mut cells = vec![
                cell(
                    8081,
                    "loopback's, at the host's address",
                    &g.neighbour,
                    HOST,
                    false,
                ),
                cell(8082, "one address", &g.neighbour, ("192.0.2.7", ""), true),
                cell(8082, "not the other address", &g.neighbour, HOST, false),
                cell(
                    8082,
                    "not by the host's loopback",
                    &g.host.node,
                    loopback,
                    false,
                ),
                cell(8083, "every address", &g.neighbour, HOST, true),
                cell(80, "the container's own", &g.neighbour, WEB, false),
                cell(8083, "the container's own", &g.neighbour, WEB, false),
            ];
            for (name, from) in [("neighbour", &g.neighbour), ("sibling", &g.sibling)] {
                for port in [8081, 8082, 8083] {
                    cells.push(cell(port, name, from, loopback, false));
                }
            }
            if snat {
                cells.push(cell(8081, "loopback", &g.host.node, loopback, true));
                cells.push(cell(8083, "loopback", &g.host.node, loopback, true));
            }
            g.check(&format!("{variant:?} snat {snat}"), &cells);
        }
    }
}

/// Pontoon's bridges are those with a policy or with rules for the way out, whichever came first.
#[test]
fn a_bridge_without_a_policy_is_ours_too() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let isolated = only(Policy {
            isolated: true,
            ..Policy::open("web", "br0")
        });
        let closed = only(Policy {
            closed: true,
            ..Policy::open("db", "br1")
        });
        let plain = network("plain", "br2", 90);
        g.host.apply(&plain);
        let cells = [
            to("isolated to plain", &g.web, THIRD, false),
            to("plain to isolated", &g.third, WEB, false),
            to("plain to closed", &g.third, OTHER, true),
            to("closed to plain", &g.other, THIRD, true),
            to("out", &g.third, NEIGHBOUR, true),
            to("in", &g.neighbour, THIRD, true),
            to("in to the closed", &g.neighbour, OTHER, false),
        ];
        g.host.apply(&isolated);
        g.host.apply(&closed);
        g.check(&format!("{variant:?} plain first"), &cells);
        g.host.withdraw(&plain);
        assert_eq!(g.host.count("br2"), 0, "{variant:?}: {}", g.host.rules());
        g.host.apply(&plain);
        g.host.apply(&plain);
        g.check(&format!("{variant:?} plain last"), &cells);
        g.host.iptables("-F");
        g.host.apply(&isolated);
        g.host.apply(&closed);
        g.check(&format!("{variant:?} flushed and healed"), &cells);
        // With a policy of its own it is known by that.
        let own = only(Policy::docker("plain", "br2"));
        g.host.apply(&own);
        assert_eq!(g.host.count("-A CNI-PONTOON-FROM -i br2"), 2, "{variant:?}");
        g.host.withdraw(&plain);
        assert_eq!(g.host.verify(&own), Vec::<String>::new(), "{variant:?}");
    }
}

/// An attachment without a bridge passes a FORWARD chain that drops, by its addresses.
#[test]
fn without_a_bridge_by_address() {
    for variant in VARIANTS {
        let g = HostScene::new(variant);
        let infix = g.host.infix();
        g.host.node.sh(&format!(
            "iptables-{infix} -P FORWARD DROP\nip6tables-{infix} -P FORWARD DROP"
        ));
        let member = |addresses: &[&str]| Ruleset {
            member: Some(Member {
                admin_chain: "CNI-ADMIN".into(),
                owner: owner("web", "c1"),
                addresses: addresses
                    .iter()
                    .map(|a| a.parse().expect("address"))
                    .collect(),
            }),
            ..Ruleset::default()
        };
        let web = member(&[WEB.0, WEB.1]);
        g.host.apply(&web);
        g.host.apply(&web);
        assert_eq!(
            g.host.count("c1 eth0"),
            4,
            "{variant:?}: {}",
            g.host.rules()
        );
        assert_eq!(g.host.verify(&web), Vec::<String>::new(), "{variant:?}");
        g.check(
            &format!("{variant:?}"),
            &[
                to("out", &g.web, NEIGHBOUR, true),
                to("in", &g.neighbour, WEB, false),
                to("another", &g.sibling, NEIGHBOUR, false),
            ],
        );
        g.host.withdraw(&web);
        g.host.withdraw(&web);
        assert_eq!(g.host.count("c1 eth0"), 0, "{variant:?}");
        // Beside a policy it makes no rule.
        let mut both = only(Policy::docker("web", "br0"));
        both.member = web.member;
        g.host.apply(&both);
        assert_eq!(g.host.count("c1 eth0"), 0, "{variant:?}");
    }
}
