//! Real packets: what published ports and egress do to the addresses that both sides see.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use pontoon_netfilter::iptables::Variant;
use pontoon_netfilter::{Protocol, Ruleset, Snat};

use crate::bed::{Host, Node, VARIANTS, network, port, published, tcp};
use crate::host_scene::plug;

/// Longer than the first two retries of a SYN and of a neighbour solicitation.
const PATIENCE: Duration = Duration::from_secs(4);

/// A host with two bridges; a container and a sibling on `br0`, another network's container on
/// `br1`; a neighbour outside that has no route to them.
struct Lab {
    host: Host,
    web: Node,
    sibling: Node,
    other: Node,
    outside: Node,
}

impl Lab {
    fn new(variant: Variant) -> Self {
        let lab = Self {
            host: Host::new(variant),
            web: Node::new(),
            sibling: Node::new(),
            other: Node::new(),
            outside: Node::new(),
        };
        let host = &lab.host.node;
        host.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        plug(
            host,
            &[("br0", 88), ("br1", 89)],
            &[
                (&lab.web, "v1", "br0", 88, 2),
                (&lab.sibling, "v2", "br0", 88, 3),
                (&lab.other, "v3", "br1", 89, 2),
            ],
        );
        host.wire("up0", &lab.outside, "eth0");
        host.sh(
            "ip addr add 192.0.2.1/24 dev up0\nip addr add 192.0.2.7/24 dev up0\n\
                 ip addr add 2001:db8::1/64 dev up0 nodad",
        );
        lab.outside
            .sh("ip addr add 192.0.2.2/24 dev eth0\nip addr add 2001:db8::2/64 dev eth0 nodad");
        // Link-local addresses are tentative at first, and neighbour discovery speaks from them.
        for node in [host, &lab.web, &lab.sibling, &lab.other, &lab.outside] {
            node.sh("while ip -6 addr show tentative | grep -q inet6; do sleep 0.05; done");
        }
        lab
    }

    /// The container's service: tells each client, by TCP and UDP, the address it sees.
    fn serve(node: &Node, number: u16) {
        node.run(move || {
            let address = SocketAddr::new("::".parse().expect("any"), number);
            let tcp = TcpListener::bind(address).expect("listen");
            let udp = UdpSocket::bind(address).expect("bind");
            std::thread::spawn(move || {
                for mut client in tcp.incoming().flatten() {
                    let seen = client
                        .peer_addr()
                        .map(|peer| peer.ip().to_canonical().to_string());
                    client.write_all(seen.unwrap_or_default().as_bytes()).ok();
                }
            });
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer)
                        .ok();
                }
            });
        });
    }
}

/// What the service behind `target` saw; `None` when nothing came back.
fn seen(from: &Node, protocol: Protocol, target: &str) -> Option<String> {
    let target: SocketAddr = target.parse().expect("an address");
    from.run(move || match protocol {
        Protocol::Tcp => {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        }
        _ => {
            let any: IpAddr = if target.is_ipv4() {
                [0, 0, 0, 0].into()
            } else {
                [0_u16; 8].into()
            };
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.set_read_timeout(Some(PATIENCE)).ok()?;
            socket.connect(target).ok()?;
            socket.send(b"?").ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            String::from_utf8(buffer[..length].to_vec()).ok()
        }
    })
}

#[track_caller]
fn check(from: &Node, target: &str, expected: Option<&str>) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(
            seen(from, protocol, target).as_deref(),
            expected,
            "{protocol} to {target}"
        );
    }
}

fn lab_with_web(variant: Variant, ports: &[pontoon_netfilter::Port]) -> (Lab, Ruleset) {
    let lab = Lab::new(variant);
    lab.host.apply(&network("web", "br0", 88));
    lab.host.apply(&network("db", "br1", 89));
    let web = published("web", "c1", (88, 2), ports);
    lab.host.apply(&web);
    Lab::serve(&lab.web, 80);
    (lab, web)
}

#[test]
fn a_published_port_from_everywhere() {
    for variant in VARIANTS {
        let (lab, web) = lab_with_web(variant, &[tcp(8080, 80), port(Protocol::Udp, 8080, 80)]);
        // Every sender keeps its address, except those that the container would answer past the host.
        check(&lab.outside, "192.0.2.1:8080", Some("192.0.2.2"));
        check(&lab.outside, "[2001:db8::1]:8080", Some("2001:db8::2"));
        check(&lab.other, "192.0.2.1:8080", Some("10.89.0.2"));
        check(&lab.other, "[2001:db8::1]:8080", Some("fd00:89::2"));
        check(&lab.host.node, "192.0.2.1:8080", Some("192.0.2.1"));
        check(&lab.host.node, "[2001:db8::1]:8080", Some("2001:db8::1"));
        check(&lab.host.node, "127.0.0.1:8080", Some("10.88.0.1"));
        check(&lab.sibling, "192.0.2.1:8080", Some("10.88.0.1"));
        check(&lab.sibling, "[2001:db8::1]:8080", Some("fd00:88::1"));
        check(&lab.web, "192.0.2.1:8080", Some("10.88.0.1"));
        check(&lab.web, "[2001:db8::1]:8080", Some("fd00:88::1"));
        lab.host.withdraw(&web);
        check(&lab.outside, "192.0.2.1:8080", None);
    }
}

/// `route_localnet` on the bridge must not open 127.0.0.1 to a machine that can send a packet there.
#[test]
fn loopback_is_the_hosts_alone() {
    for variant in VARIANTS {
        let (lab, _) = lab_with_web(variant, &[tcp(8080, 80), port(Protocol::Udp, 8080, 80)]);
        // A container's packet to 127.0.0.1, sent to the host as next hop.
        lab.sibling.sh(
            "sysctl -qw net.ipv4.conf.all.route_localnet=1\nip addr del 127.0.0.1/8 dev lo\n\
             ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null || true\n\
             ip route add 127.0.0.0/8 via 10.88.0.1 dev eth0 src 10.88.0.3",
        );
        check(&lab.sibling, "127.0.0.1:8080", None);
        // The same packet arrives once the guard is gone: the test can fail.
        lab.host.iptables("-t raw -F PREROUTING");
        check(&lab.sibling, "127.0.0.1:8080", Some("10.88.0.1"));
    }
}

/// Ranges are written as one rule where both sides follow each other, shifted or not.
#[test]
fn ranges_reach_each_port() {
    for variant in VARIANTS {
        let mut ports: Vec<_> = (0..5).map(|n| tcp(9000 + n, 78 + n)).collect();
        ports.extend((0..5).map(|n| tcp(700 + n, 700 + n)));
        let (lab, web) = lab_with_web(variant, &ports);
        assert!(
            lab.host.count("-j DNAT") == 4,
            "{variant:?}: {}",
            lab.host.rules()
        );
        assert_eq!(lab.host.verify(&web), Vec::<String>::new(), "{variant:?}");
        Lab::serve(&lab.web, 702);
        for (target, expected) in [
            ("192.0.2.1:9002", Some("192.0.2.2")),
            ("[2001:db8::1]:9002", Some("2001:db8::2")),
            ("192.0.2.1:702", Some("192.0.2.2")),
            ("192.0.2.1:9001", None),
            ("192.0.2.1:9003", None),
            ("192.0.2.1:703", None),
        ] {
            assert_eq!(
                seen(&lab.outside, Protocol::Tcp, target).as_deref(),
                expected,
                "{variant:?} {target}"
            );
        }
    }
}

#[test]
fn egress_takes_the_hosts_address() {
    for variant in VARIANTS {
        let lab = Lab::new(variant);
        let mut web = network("web", "br0", 88);
        lab.host.apply(&web);
        Lab::serve(&lab.outside, 53);
        Lab::serve(&lab.sibling, 53);
        Lab::serve(&lab.other, 53);
        check(&lab.web, "192.0.2.2:53", Some("192.0.2.1"));
        check(&lab.web, "[2001:db8::2]:53", Some("2001:db8::1"));
        check(&lab.web, "10.88.0.3:53", Some("10.88.0.2"));
        // Its bridge is not ours yet, so it counts as outside.
        check(&lab.web, "10.89.0.2:53", Some("10.89.0.1"));
        lab.host.apply(&network("db", "br1", 89));
        lab.host
            .node
            .sh("ip link set v3 nomaster\nip link set v3 master br1");
        let rules = web.network.as_mut().expect("a network");
        rules.egress[0].snat = vec![Snat {
            source: "192.0.2.7".parse().expect("address"),
            out: Some("up0".to_owned()),
        }];
        lab.host.apply(&web);
        check(&lab.web, "192.0.2.2:53", Some("192.0.2.7"));
        check(&lab.web, "10.89.0.2:53", Some("10.88.0.2"));
        lab.host.withdraw(&web);
        check(&lab.web, "192.0.2.2:53", None);
    }
}

/// The same host port may be published at two host addresses, to different containers.
#[test]
fn host_addresses_are_told_apart() {
    for variant in VARIANTS {
        let mut first = tcp(8080, 80);
        first.host_ip = Some("192.0.2.1".parse().expect("address"));
        let mut second = tcp(8080, 81);
        second.host_ip = Some("192.0.2.7".parse().expect("address"));
        let (lab, _) = lab_with_web(variant, &[first]);
        lab.host.apply(&published("web", "c2", (88, 3), &[second]));
        Lab::serve(&lab.sibling, 81);
        let outside = |target| seen(&lab.outside, Protocol::Tcp, target);
        assert_eq!(
            outside("192.0.2.1:8080").as_deref(),
            Some("192.0.2.2"),
            "{variant:?}"
        );
        assert_eq!(
            outside("192.0.2.7:8080").as_deref(),
            Some("192.0.2.2"),
            "{variant:?}"
        );
        assert_eq!(outside("[2001:db8::1]:8080"), None, "{variant:?}");
    }
}
