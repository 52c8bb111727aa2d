//! A host with two bridges, three containers and an outside, all of them network namespaces, and
//! servers that tell each client which address they saw.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use pontoon_lab::{Ask, Echo};
use pontoon_netlink::Netns;

use super::lab::run;

/// How long a packet may take before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(400);

/// The other ends of the host's wires. The host itself is the namespace of the thread.
pub(crate) struct Wires {
    /// 10.1.0.2 and fd00:1::2 on br-lan; the server.
    pub(crate) server: Netns,
    /// 10.1.0.3 and fd00:1::3 on br-lan.
    pub(crate) sibling: Netns,
    /// 10.2.0.2 and fd00:2::2 on br-two.
    pub(crate) stranger: Netns,
    /// 192.0.2.2 and 2001:db8::2 beyond eth1 of the host, with no route to any container.
    pub(crate) outside: Netns,
    /// The host.
    pub(crate) host: Netns,
}

impl Wires {
    pub(crate) fn lay(bridge_nf_call: bool) -> Self {
        let on = u8::from(bridge_nf_call);
        for key in [
            // Duplicate address detection would keep link-local addresses, and so neighbour
            // discovery, from working for a second.
            "net.ipv6.conf.all.accept_dad=0".to_owned(),
            "net.ipv6.conf.default.accept_dad=0".to_owned(),
            "net.ipv4.ip_forward=1".to_owned(),
            "net.ipv6.conf.all.forwarding=1".to_owned(),
            format!("net.bridge.bridge-nf-call-iptables={on}"),
            format!("net.bridge.bridge-nf-call-ip6tables={on}"),
        ] {
            run(&format!("sysctl -qw {key}"));
        }
        for (bridge, net) in [("br-lan", 1), ("br-two", 2)] {
            run(&format!(
                "ip link add {bridge} type bridge && ip link set {bridge} up && \
                 ip addr add 10.{net}.0.1/24 dev {bridge} && \
                 ip -6 addr add fd00:{net}::1/64 dev {bridge} nodad && \
                 sysctl -qw net.ipv4.conf.{bridge}.route_localnet=1"
            ));
        }
        let wires = Self {
            server: peer("v1", "10.1.0.2/24", "fd00:1::2/64"),
            sibling: peer("v2", "10.1.0.3/24", "fd00:1::3/64"),
            stranger: peer("v3", "10.2.0.2/24", "fd00:2::2/64"),
            outside: peer("eth1", "192.0.2.2/24", "2001:db8::2/64"),
            host: Netns::current().unwrap(),
        };
        run(
            "ip addr add 192.0.2.1/24 dev eth1; ip -6 addr add 2001:db8::1/64 dev eth1 nodad; \
             ip link set v1 master br-lan; ip link set v2 master br-lan; \
             ip link set v3 master br-two; bridge link set dev v1 hairpin on",
        );
        for (netns, net) in [
            (&wires.server, 1),
            (&wires.sibling, 1),
            (&wires.stranger, 2),
        ] {
            inside(netns, || {
                run(&format!(
                    "ip route add default via 10.{net}.0.1; \
                     ip -6 route add default via fd00:{net}::1"
                ));
            });
        }
        wires
    }
}

fn peer(outer: &str, v4: &str, v6: &str) -> Netns {
    let netns = Netns::create_unnamed().unwrap();
    inside(&netns, || {
        run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
    });
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        netns.as_fd().as_raw_fd()
    );
    run(&format!(
        "ip link add {outer} up type veth peer name eth0 netns {path}"
    ));
    inside(&netns, || {
        run(&format!(
            "ip link set lo up; ip link set eth0 up; ip addr add {v4} dev eth0; \
             ip -6 addr add {v6} dev eth0 nodad"
        ));
    });
    netns
}

/// Runs in a namespace.
pub(crate) fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    netns.run(work).unwrap()
}

/// Serves TCP and UDP at a port of all addresses for as long as the test's process runs.
#[track_caller]
pub(crate) fn serve(netns: &Netns, port: u16) {
    std::mem::forget(Echo::start(netns, "server", port).unwrap());
}

/// Connects by TCP: the address that the server saw, or `None` when there is no connection.
pub(crate) fn tcp(from: &Netns, to: IpAddr, port: u16) -> Option<String> {
    ask(from, to, port, pontoon_lab::tcp)
}

/// The same by UDP.
pub(crate) fn udp(from: &Netns, to: IpAddr, port: u16) -> Option<String> {
    ask(from, to, port, pontoon_lab::udp)
}

fn ask(from: &Netns, to: IpAddr, port: u16, ask: Ask) -> Option<String> {
    let reply = inside(from, || ask(SocketAddr::new(to, port), PATIENCE)).ok()?;
    Some(reply.peer.to_string())
}
