//! Others' firewalls on the same host: what we let through gets past their drops, and what they
//! keep closed stays closed, in either order of arrival. Their rules are typed as they make them.

use pontoon_netfilter::iptables::Variant;
use pontoon_netfilter::{Policy, Port, Protocol};

use crate::bed::{Node, VARIANTS, port, published, tcp};
use crate::host_scene::{
    Cell, HOST, HostScene, NEIGHBOUR, OTHER, Pair, THIRD, UNPUBLISHED, WEB, only, to,
};

/// Docker 20.10 with one network on `br2`, whose container publishes port 8090; its admin wants
/// nothing to get to it from 198.51.100.2.
const DOCKER_20: &str = "*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-I FORWARD -i br2 -o br2 -j ACCEPT
-I FORWARD -i br2 ! -o br2 -j ACCEPT
-I FORWARD -o br2 -j DOCKER
-I FORWARD -o br2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-I FORWARD -j DOCKER-ISOLATION-STAGE-1
-I FORWARD -j DOCKER-USER
-A DOCKER -d 10.90.0.2/32 ! -i br2 -o br2 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER -d 10.90.0.2/32 ! -i br2 -o br2 -p udp -m udp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i br2 ! -o br2 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o br2 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -s 198.51.100.2/32 -o br2 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
";

/// Docker 28, the same.
const DOCKER_28: &str = "*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-USER - [0:0]
-I FORWARD -j DOCKER-FORWARD
-I FORWARD -j DOCKER-USER
-A DOCKER -d 10.90.0.2/32 ! -i br2 -o br2 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER -d 10.90.0.2/32 ! -i br2 -o br2 -p udp -m udp --dport 80 -j ACCEPT
-A DOCKER ! -i br2 -o br2 -j DROP
-A DOCKER-BRIDGE -o br2 -j DOCKER
-A DOCKER-CT -o br2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i br2 -j ACCEPT
-A DOCKER-USER -s 198.51.100.2/32 -o br2 -j DROP
COMMIT
";

/// In both versions.
const DOCKER_NAT: &str = "*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i br2 -j RETURN
-A DOCKER ! -i br2 -p tcp -m tcp --dport 8090 -j DNAT --to-destination 10.90.0.2:80
-A DOCKER ! -i br2 -p udp -m udp --dport 8090 -j DNAT --to-destination 10.90.0.2:80
COMMIT
";

/// What Docker does whenever it makes a network: its jumps to the head.
const DOCKER_AGAIN: &str = "*filter
-D FORWARD -i br2 ! -o br2 -j ACCEPT
-I FORWARD -i br2 ! -o br2 -j ACCEPT
-D FORWARD -j DOCKER-ISOLATION-STAGE-1
-I FORWARD -j DOCKER-ISOLATION-STAGE-1
-D FORWARD -j DOCKER-USER
-I FORWARD -j DOCKER-USER
COMMIT
";
const DOCKER_28_AGAIN: &str = "*filter
-D FORWARD -j DOCKER-FORWARD
-I FORWARD -j DOCKER-FORWARD
-D FORWARD -j DOCKER-USER
-I FORWARD -j DOCKER-USER
COMMIT
";

/// `ufw` with its default of no forwarding.
const UFW: &str = "*filter
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-reject-forward -j DROP
COMMIT
";

/// firewalld with iptables underneath, public zone.
const FIREWALLD: &str = "*filter
:FORWARD_IN_ZONES - [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A FORWARD -i lo -j ACCEPT
-A FORWARD -j FORWARD_IN_ZONES
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -j REJECT
COMMIT
";

fn publish(g: &HostScene) {
    let ports: [Port; 2] = [tcp(8080, 80), port(Protocol::Udp, 8080, 80)];
    g.host.apply(&published("web", "c1", (88, 2), &ports));
}

fn v4(pair: Pair) -> Pair {
    (pair.0, "")
}

fn at<'a>(port: u16, name: &'static str, from: &'a Node, arrives: bool) -> Cell<'a> {
    Cell {
        port,
        ..to(name, from, v4(HOST), arrives)
    }
}

fn closed<'a>(name: &'static str, from: &'a Node) -> Cell<'a> {
    Cell {
        port: UNPUBLISHED,
        ..to(name, from, v4(THIRD), false)
    }
}

/// What must hold beside Docker, `web` with Docker's promise and `other` open.
fn beside_docker(g: &HostScene) -> Vec<Cell<'_>> {
    vec![
        to("out", &g.web, v4(NEIGHBOUR), true),
        to("out from the open one", &g.other, v4(NEIGHBOUR), true),
        to("sibling", &g.sibling, v4(WEB), true),
        to("neighbour", &g.neighbour, v4(WEB), false),
        to("Docker's to the closed one", &g.third, v4(WEB), false),
        at(8080, "published, outside", &g.neighbour, true),
        at(8080, "published, Docker's container", &g.third, true),
        at(8080, "published, sibling", &g.sibling, true),
        // What Docker keeps closed, and what it opens.
        closed("to Docker's", &g.web),
        closed("open one to Docker's", &g.other),
        closed("neighbour to Docker's", &g.neighbour),
        at(8090, "Docker's port, outside", &g.neighbour, true),
        at(8090, "Docker's port, ours", &g.web, true),
        at(8090, "Docker's port, who may not", &g.friend, false),
        to("Docker's out", &g.third, v4(NEIGHBOUR), true),
    ]
}

fn check_docker(variant: Variant, g: &HostScene, context: &str) {
    g.check(&format!("{variant:?}, {context}"), &beside_docker(g));
}

fn beside(variant: Variant, rules: &str, again: &str) {
    let g = HostScene::new(variant);
    let apply = || {
        g.host.apply(&only(Policy::docker("web", "br0")));
        g.host.apply(&only(Policy::open("db", "br1")));
    };
    // Docker comes first.
    g.host.restore(rules);
    g.host.restore(DOCKER_NAT);
    apply();
    publish(&g);
    check_docker(variant, &g, "Docker first");
    g.host.restore(again);
    check_docker(variant, &g, "Docker first, then one more network of it");
    // The same the other way round: all filter rules go, ours come back before Docker's.
    g.host.iptables("-F");
    g.host.iptables("-X");
    apply();
    g.host.restore(rules);
    apply();
    check_docker(variant, &g, "Docker second");
    g.host.restore(again);
    check_docker(variant, &g, "Docker second, then one more network of it");
    // We go and leave Docker's as they were.
    g.host.withdraw(&only(Policy::docker("web", "br0")));
    g.host.withdraw(&only(Policy::open("db", "br1")));
    g.host.remove_all();
    let left = g.host.iptables("-S");
    assert!(
        !left.contains("CNI-") && !left.contains("pontoon"),
        "{left}"
    );
    let count = |rules: &str| {
        rules
            .lines()
            .filter(|l| l.starts_with("-A") || l.starts_with("-I"))
            .count()
    };
    assert_eq!(count(&left), count(rules), "{left}");
}

#[test]
fn docker_20_10() {
    for variant in VARIANTS {
        beside(variant, DOCKER_20, DOCKER_AGAIN);
    }
}

#[test]
fn docker_28() {
    for variant in VARIANTS {
        beside(variant, DOCKER_28, DOCKER_28_AGAIN);
    }
}

/// Firewalls that drop what they do not know: there before us, or loaded over us and healed by the
/// next network.
#[test]
fn ufw_and_firewalld() {
    for variant in VARIANTS {
        for (name, rules) in [("ufw", UFW), ("firewalld", FIREWALLD)] {
            let g = HostScene::new(variant);
            let both = |g: &HostScene| {
                g.host.restore(rules);
                g.host.restore6(rules);
            };
            let apply = || {
                g.host.apply(&only(Policy::docker("web", "br0")));
                g.host.apply(&only(Policy::open("db", "br1")));
            };
            both(&g);
            apply();
            publish(&g);
            let cells = [
                to("out", &g.web, NEIGHBOUR, true),
                to("out from the open one", &g.other, NEIGHBOUR, true),
                to("in", &g.neighbour, WEB, false),
                to("isolated", &g.other, WEB, false),
                // No rule has opened this port: the other program's drop stands.
                to("in to the open one", &g.neighbour, OTHER, false),
                to("not ours", &g.neighbour, THIRD, false),
                Cell {
                    port: 8080,
                    ..to("published", &g.neighbour, HOST, true)
                },
            ];
            g.check(&format!("{variant:?} {name} first"), &cells);
            for tool in ["iptables", "ip6tables"] {
                let infix = g.host.infix();
                g.host
                    .node
                    .sh(&format!("{tool}-{infix} -F; {tool}-{infix} -X"));
            }
            both(&g);
            g.check(&format!("{variant:?} {name} over us"), &cells[2..6]);
            g.host.apply(&only(Policy::docker("web", "br0")));
            g.host.apply(&only(Policy::open("db", "br1")));
            g.check(&format!("{variant:?} {name} healed"), &cells);
        }
    }
}
