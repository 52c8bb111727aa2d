//! What can be wrong on a host, in groups that are tried at the same time.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use super::doctor_scene::DoctorScene;
use pontoon_lab::{Failure, HOST_V4, Outcome, tcp};

impl DoctorScene {
    /// Runs a command line in the first container.
    fn inside(&self, line: &str) -> Outcome {
        let path = self.containers[0].0.path_text();
        self.shell(&format!("nsenter --net={path} sh -c {}", quoted(line)))
    }
}

/// A word of a shell's command line.
fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', "'\\''"))
}

/// One thing that can be wrong: its name, the findings it gives, and how it comes about.
pub(crate) type FaultCase = (
    &'static str,
    &'static [&'static str],
    fn(&mut DoctorScene) -> Outcome,
);

pub(crate) const SWITCHES: [FaultCase; 4] = [
    ("IPv4 forwarding off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv4/ip_forward", "0")
    }),
    ("IPv6 forwarding off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv6/conf/all/forwarding", "0")
    }),
    ("forwarding of a bridge off", &["forwarding-off"], |ward| {
        ward.site.host.set("net/ipv4/conf/ward0/forwarding", "0")
    }),
    (
        "strict reverse-path filter",
        &["rp-filter-strict"],
        |ward| {
            ward.shell("ip link add up1 type veth peer name up2 && ip link set up1 up && ip link set up2 up && ip address add 203.0.113.1/24 dev up1 && ip route add default via 203.0.113.2 metric 500 && sysctl -q -w net.ipv4.conf.all.rp_filter=1")
        },
    ),
];

pub(crate) const FILTERS: [FaultCase; 4] = [
    ("FORWARD dropped by Docker", &["forward-dropped"], |ward| {
        ward.shell("iptables-nft -N DOCKER-USER && iptables-nft -A FORWARD -j DOCKER-USER && iptables-nft -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=0")
    }),
    ("FORWARD dropped by ufw", &["forward-dropped"], |ward| {
        ward.shell("iptables-legacy -N ufw-before-forward && iptables-legacy -A FORWARD -j ufw-before-forward && iptables-legacy -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=0")
    }),
    (
        "forward dropped by firewalld",
        &["forward-dropped-by-nftables"],
        |ward| {
            ward.shell("nft 'add table inet firewalld' && nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }' && nft 'add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'")
        },
    ),
    (
        "bridged packets filtered",
        &["forward-dropped", "bridged-packets-filtered"],
        |ward| {
            ward.shell(
                "iptables-nft -P FORWARD DROP && sysctl -q -w net.bridge.bridge-nf-call-iptables=1",
            )
        },
    ),
];

pub(crate) const BRIDGES: [FaultCase; 5] = [
    (
        "bridge down",
        &["bridge-down", "bridge-with-wrong-address"],
        |ward| ward.shell("ip link set dev ward0 down"),
    ),
    (
        "bridge without address",
        &["bridge-without-address"],
        |ward| ward.shell("ip address flush dev ward0"),
    ),
    (
        "bridge with a wrong address",
        &["bridge-with-wrong-address"],
        |ward| {
            ward.shell(
                "ip address del 10.82.0.1/24 dev ward0 && ip address add 10.82.0.254/24 dev ward0",
            )
        },
    ),
    (
        "subnet overlapping a route",
        &["subnet-overlaps-route"],
        |ward| ward.shell("ip route add 10.82.0.128/25 dev eth0"),
    ),
    ("MTU larger than the uplink's", &["mtu-too-large"], |ward| {
        ward.shell("ip link set dev eth0 mtu 1400")
    }),
];

pub(crate) const PORTS: [FaultCase; 3] = [
    ("veth off its bridge", &["container-unplugged"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ward.shell(&format!("ip link set dev {veth} nomaster"))
    }),
    ("hairpin mode off", &["hairpin-off"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"].as_str().unwrap_or_default();
        ward.shell(&format!(
            "ip link set dev {veth} type bridge_slave hairpin off"
        ))
    }),
    ("loopback closed", &["loopback-closed"], |ward| {
        ward.site
            .host
            .set("net/ipv4/conf/ward0/route_localnet", "0")
    }),
];

pub(crate) const RULES: [FaultCase; 5] = [
    ("rules flushed", &["rules-missing"], |ward| {
        ward.shell("nft delete table inet pontoon")
    }),
    (
        "iptables variants mixed",
        &["iptables-variants-mixed"],
        |ward| {
            ward.shell("iptables-nft -A INPUT -s 192.0.2.1 -j ACCEPT && iptables-legacy -A INPUT -s 192.0.2.2 -j ACCEPT")
        },
    ),
    (
        "published port redirected by an earlier rule",
        &["published-port-shadowed"],
        |ward| {
            ward.shell("nft 'add table ip foreign' && nft 'add chain ip foreign pre { type nat hook prerouting priority -150; }' && nft 'add rule ip foreign pre tcp dport 8080 redirect to :22'")
        },
    ),
    (
        "published port dropped by an earlier rule",
        &["published-port-shadowed"],
        |ward| {
            ward.shell("iptables-nft -t raw -A PREROUTING -p tcp -m tcp --dport 8081 -m comment --comment 'not \"this\" one' -j DROP")
        },
    ),
    (
        "rules without a container",
        &["rules-without-container"],
        |ward| {
            ward.shell("nft 'add element inet pontoon ports4 { tcp . 9999 comment \"pontoon ward gone eth0\" : 10.82.0.99 . 80 }'")
        },
    ),
];

pub(crate) const LEFTOVERS: [FaultCase; 4] = [
    ("a stale flow", &["flow-stale"], |ward| {
        ward.shell("nft 'add table ip past' && nft 'add chain ip past pre { type nat hook prerouting priority -150; }' && nft 'add rule ip past pre tcp dport 8080 dnat to 10.82.0.99:80'")?;
        let target = SocketAddr::new(HOST_V4, 8080);
        let reply = ward
            .site
            .host
            .run_outside(|| tcp(target, Duration::from_millis(200)))?;
        ward.shell("nft delete table ip past")?;
        match reply {
            Ok(_) => Err(Failure::new(
                "no container has this address, and it answers",
            )),
            Err(_) => Ok(()),
        }
    }),
    (
        "a network that this kernel cannot make",
        &["kernel-feature-missing"],
        |ward| {
            let file = ward.conf.path().join("20-vlan.conflist");
            let text =
                r#"{"cniVersion":"1.0.0","name":"v","plugins":[{"type":"bridge","vlan":7}]}"#;
            fs::write(file, text).map_err(Failure::act("plant a network"))
        },
    ),
    (
        "veth without a container",
        &["veth-without-container"],
        |ward| {
            ward.shell("ip link add ghost type veth peer name ghost2 && ip link set dev ghost alias 'pontoon ward gone eth0'")
        },
    ),
    (
        "lease without a container",
        &["lease-without-container"],
        |ward| {
            let lease = ward.site.leases.path().join("ward/10.82.0.99");
            fs::write(lease, "gone\r\neth0").map_err(Failure::act("plant a lease"))
        },
    ),
];

pub(crate) const INTERIORS: [FaultCase; 7] = [
    ("a container's address gone", &["address-missing"], |ward| {
        ward.inside("ip -4 address flush dev eth0")
    }),
    (
        "a container's IPv6 address gone",
        &["address-missing"],
        |ward| {
            ward.inside("ip -6 address del $(ip -6 -o address show dev eth0 scope global | awk '{print $4}') dev eth0")
        },
    ),
    (
        "a container's default route gone",
        &["route-missing"],
        |ward| ward.inside("ip route del default"),
    ),
    (
        "a container's interface down",
        &["interface-down"],
        |ward| ward.inside("ip link set dev eth0 down"),
    ),
    ("the host's end down", &["host-end-down"], |ward| {
        let list = ward.site.pontoon_json(&["ls"])?;
        let veth = list[0]["host_interface"].as_str().unwrap_or_default();
        ward.shell(&format!("ip link set dev {veth} down"))
    }),
    (
        "a wrong neighbour on the host",
        &["neighbour-wrong"],
        |ward| {
            let address = ward.containers[0].1.address(false).unwrap_or_default();
            ward.shell(&format!(
                "ip neighbour replace {address} lladdr 02:00:00:00:00:99 dev ward0 nud permanent"
            ))
        },
    ),
    (
        "a wrong gateway in a container",
        &["neighbour-wrong"],
        |ward| {
            ward.inside(
                "ip neighbour replace fd00:82::1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
            )
        },
    ),
];

pub(crate) const CONFIGURED: [FaultCase; 5] = [
    ("no default route", &["no-default-route"], |ward| {
        ward.shell("ip route del default; ip -6 route del default; true")
    }),
    ("the uplink down", &["no-default-route"], |ward| {
        ward.shell("ip link set dev eth0 down")
    }),
    (
        "a configuration that is no JSON",
        &["configuration-unreadable"],
        |ward| {
            let file = ward.conf.path().join("05-broken.conflist");
            fs::write(file, "{ \"name\": \"b\", }").map_err(Failure::act("plant a file"))
        },
    ),
    ("a plugin that is not there", &["plugin-missing"], |ward| {
        let file = ward.conf.path().join("20-typo.conflist");
        let text =
            r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"ipvlan","master":"eth0"}]}"#;
        fs::write(file, text).map_err(Failure::act("plant a network"))
    }),
    (
        "a plugin without execute permission",
        &["plugin-not-executable"],
        |ward| {
            let folder = ward.site.leases.path().join("plugins");
            fs::create_dir(&folder).map_err(Failure::act("make a folder"))?;
            fs::write(folder.join("ipvlan"), "#!/bin/sh\n")
                .map_err(Failure::act("write a plugin"))?;
            ward.plugins = format!("{}:{}", ward.plugins, folder.display());
            let file = ward.conf.path().join("20-typo.conflist");
            let text = r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"ipvlan","master":"eth0"}]}"#;
            fs::write(file, text).map_err(Failure::act("plant a network"))
        },
    ),
];
