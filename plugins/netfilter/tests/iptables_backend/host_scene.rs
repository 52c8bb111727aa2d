//! A host with three bridges and two neighbours, and probes that go out all at once: a TCP
//! connection, or a datagram that counts when its receiver has it, answered or not.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use pontoon_netfilter::iptables::Variant;
use pontoon_netfilter::{Policy, Protocol, Ruleset};

use crate::bed::{Host, Node};

/// What arrives does so at once, or with the first retry of a neighbour solicitation.
const PATIENCE: Duration = Duration::from_millis(1300);
/// Where each container and neighbour listens; only the first one is ever published.
pub(crate) const SERVICE: u16 = 80;
pub(crate) const UNPUBLISHED: u16 = 81;

/// Containers `web` and `sibling` on `br0`, `other` on `br1`, `third` on `br2`; the `neighbour` on
/// `up0` and the `friend` on `up1` route to the containers' subnets by the host.
pub(crate) struct HostScene {
    pub(crate) host: Host,
    pub(crate) web: Node,
    pub(crate) sibling: Node,
    pub(crate) other: Node,
    pub(crate) third: Node,
    pub(crate) neighbour: Node,
    pub(crate) friend: Node,
    heard: Arc<Mutex<HashSet<u64>>>,
}

/// Addresses of one node in both families.
pub(crate) type Pair = (&'static str, &'static str);

pub(crate) const WEB: Pair = ("10.88.0.2", "fd00:88::2");
pub(crate) const SIBLING: Pair = ("10.88.0.3", "fd00:88::3");
pub(crate) const OTHER: Pair = ("10.89.0.2", "fd00:89::2");
pub(crate) const THIRD: Pair = ("10.90.0.2", "fd00:90::2");
pub(crate) const NEIGHBOUR: Pair = ("192.0.2.2", "2001:db8::2");
pub(crate) const FRIEND: Pair = ("198.51.100.2", "2001:db8:1::2");
/// The host as its neighbours know it.
pub(crate) const HOST: Pair = ("192.0.2.1", "2001:db8::1");
/// The host as the containers on `br0` know it.
pub(crate) const GATEWAY: Pair = ("10.88.0.1", "fd00:88::1");

/// One thing to try, by TCP and UDP and in both families.
pub(crate) struct Cell<'a> {
    pub(crate) name: &'static str,
    pub(crate) from: &'a Node,
    pub(crate) to: Pair,
    pub(crate) port: u16,
    pub(crate) arrives: bool,
}

/// A container: its node, its port on the host, its bridge, and the numbers of its subnet and its address.
pub(crate) type Plugged<'a> = (&'a Node, &'a str, &'a str, u8, u8);

/// Makes bridges, each a gateway of both families, and plugs containers into them.
pub(crate) fn plug(host: &Node, bridges: &[(&str, u8)], containers: &[Plugged<'_>]) {
    for (bridge, number) in bridges {
        host.sh(&format!(
            "ip link add {bridge} type bridge\nip link set {bridge} up\n\
             sysctl -qw net.ipv4.conf.{bridge}.route_localnet=1\n\
             ip addr add 10.{number}.0.1/24 dev {bridge}\n\
             ip addr add fd00:{number}::1/64 dev {bridge} nodad"
        ));
    }
    for (node, port, bridge, number, last) in containers {
        host.wire(port, node, "eth0");
        host.sh(&format!(
            "ip link set {port} master {bridge}\nbridge link set dev {port} hairpin on"
        ));
        node.sh(&format!(
            "ip addr add 10.{number}.0.{last}/24 dev eth0\n\
             ip addr add fd00:{number}::{last}/64 dev eth0 nodad\n\
             ip route add default via 10.{number}.0.1\n\
             ip -6 route add default via fd00:{number}::1"
        ));
    }
}

impl HostScene {
    pub(crate) fn new(variant: Variant) -> Self {
        let ground = Self {
            host: Host::new(variant),
            web: Node::new(),
            sibling: Node::new(),
            other: Node::new(),
            third: Node::new(),
            neighbour: Node::new(),
            friend: Node::new(),
            heard: Arc::default(),
        };
        let host = &ground.host.node;
        host.sh(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
             net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0",
        );
        plug(
            host,
            &[("br0", 88), ("br1", 89), ("br2", 90)],
            &[
                (&ground.web, "v1", "br0", 88, 2),
                (&ground.sibling, "v2", "br0", 88, 3),
                (&ground.other, "v3", "br1", 89, 2),
                (&ground.third, "v4", "br2", 90, 2),
            ],
        );
        for (node, port, v4, v6) in [
            (&ground.neighbour, "up0", "192.0.2", "2001:db8:"),
            (&ground.friend, "up1", "198.51.100", "2001:db8:1:"),
        ] {
            host.wire(port, node, "eth0");
            host.sh(&format!(
                "ip addr add {v4}.1/24 dev {port}\nip addr add {v6}:1/64 dev {port} nodad"
            ));
            node.sh(&format!(
                "ip addr add {v4}.2/24 dev eth0\nip addr add {v6}:2/64 dev eth0 nodad\n\
                 ip route add default via {v4}.1\nip -6 route add default via {v6}:1"
            ));
        }
        host.sh("ip addr add 192.0.2.7/24 dev up0");
        // Link-local addresses are tentative at first, and neighbour discovery speaks from them.
        for node in ground.nodes() {
            node.sh("while ip -6 addr show tentative | grep -q inet6; do sleep 0.05; done");
            ground.serve(node, SERVICE);
            ground.serve(node, UNPUBLISHED);
        }
        ground
    }

    fn nodes(&self) -> [&Node; 7] {
        [
            &self.host.node,
            &self.web,
            &self.sibling,
            &self.other,
            &self.third,
            &self.neighbour,
            &self.friend,
        ]
    }

    /// Bridged packets meet iptables, or not.
    pub(crate) fn bridge_nf(&self, on: bool) {
        let on = u8::from(on);
        self.host.node.sh(&format!(
            "sysctl -qw net.bridge.bridge-nf-call-iptables={on} \
             net.bridge.bridge-nf-call-ip6tables={on}"
        ));
    }

    fn serve(&self, node: &Node, port: u16) {
        let heard = Arc::clone(&self.heard);
        node.run(move || {
            let address = SocketAddr::new("::".parse().expect("any"), port);
            let tcp = TcpListener::bind(address).expect("listen");
            let udp = UdpSocket::bind(address).expect("bind");
            spawn(move || tcp.incoming().for_each(drop));
            spawn(move || {
                let mut buffer = [0; 8];
                while let Ok((8, _)) = udp.recv_from(&mut buffer) {
                    heard
                        .lock()
                        .expect("no panic")
                        .insert(u64::from_ne_bytes(buffer));
                }
            });
        });
    }

    /// Tries all cells at once; panics with every one that did not go as expected. Returns how many
    /// packets' fates were seen.
    #[track_caller]
    pub(crate) fn check(&self, context: &str, cells: &[Cell<'_>]) -> usize {
        let mut running: Vec<(String, bool, JoinHandle<bool>)> = Vec::new();
        for cell in cells {
            for address in [cell.to.0, cell.to.1] {
                // There is no ::1 that packets could be sent to.
                if address.is_empty() {
                    continue;
                }
                let target = SocketAddr::new(address.parse().expect("address"), cell.port);
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let heard = Arc::clone(&self.heard);
                    let probe = cell.from.run(move || {
                        spawn(move || match protocol {
                            Protocol::Tcp => TcpStream::connect_timeout(&target, PATIENCE).is_ok(),
                            _ => datagram(target, &heard),
                        })
                    });
                    let name = format!("{} ({protocol} to {target})", cell.name);
                    running.push((name, cell.arrives, probe));
                }
            }
        }
        let count = running.len();
        let wrong: Vec<String> = running
            .into_iter()
            .filter_map(|(name, expected, probe)| {
                let arrived = probe.join().expect("no panic");
                let word = if arrived {
                    "arrives"
                } else {
                    "does not arrive"
                };
                (arrived != expected).then(|| format!("{name} {word}"))
            })
            .collect();
        assert!(
            wrong.is_empty(),
            "{context}: {wrong:#?}\n{}",
            self.host.rules()
        );
        count
    }
}

/// Sends one datagram and asks its receiver's memory, not the network.
fn datagram(target: SocketAddr, heard: &Mutex<HashSet<u64>>) -> bool {
    let any: IpAddr = if target.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0_u16; 8].into()
    };
    let Ok(socket) = UdpSocket::bind((any, 0)) else {
        return false;
    };
    let mut token = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut token))
        .expect("random bytes");
    let token = u64::from_ne_bytes(token);
    if socket.send_to(&token.to_ne_bytes(), target).is_err() {
        return false;
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if heard.lock().expect("no panic").contains(&token) {
            return true;
        }
        sleep(Duration::from_millis(5));
    }
    false
}

pub(crate) fn to<'a>(name: &'static str, from: &'a Node, to: Pair, arrives: bool) -> Cell<'a> {
    Cell {
        name,
        from,
        to,
        port: SERVICE,
        arrives,
    }
}

/// A ruleset of nothing but a policy.
pub(crate) fn only(policy: Policy) -> Ruleset {
    Ruleset {
        policy: Some(policy),
        ..Ruleset::default()
    }
}
