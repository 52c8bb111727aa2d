//! Network namespaces and rulesets for the tests of the nftables backend. Needs root, and the `nft`
//! and `ip` commands to look and to wire with; the backend itself uses neither.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use pontoon_netfilter::{
    Egress, Mark, NetworkRules, Owner, Port, Protocol, Published, Ruleset, Snat,
};

/// Runs a test in a network namespace of its own, which goes with its thread.
pub(crate) fn in_fresh_netns<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("a network namespace of our own: these tests need root");
                run("ip link set lo up");
                test()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command in the namespace of this thread and returns what it prints.
#[track_caller]
pub(crate) fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The ruleset as nft prints it.
pub(crate) fn listing() -> String {
    run("nft list ruleset")
}

/// How many TCP ports are published, as nft lists them.
pub(crate) fn published_ports() -> usize {
    listing().matches("tcp . ").count()
}

/// A published port.
pub(crate) fn tcp(host_port: u16, container_port: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        host_ip: None,
        host_port,
        container_port,
    }
}

pub(crate) fn owner(network: &str, container: &str) -> Owner {
    Owner {
        network: network.to_owned(),
        container: container.to_owned(),
        interface: "eth0".to_owned(),
    }
}

/// The rules of a network on `br-NAME`.
pub(crate) fn network(name: &str, subnets: &[&str]) -> NetworkRules {
    NetworkRules {
        network: name.to_owned(),
        bridge: format!("br-{name}"),
        egress: subnets
            .iter()
            .map(|subnet| Egress {
                subnet: subnet.parse().unwrap(),
                snat: Vec::new(),
            })
            .collect(),
    }
}

pub(crate) fn snat(source: &str, out: Option<&str>) -> Snat {
    Snat {
        source: source.parse().unwrap(),
        out: out.map(str::to_owned),
    }
}

/// Ports of a container with one or two addresses, with hairpin masquerade.
pub(crate) fn published(owner: Owner, addresses: &[&str], ports: &[Port]) -> Published {
    let addresses: Vec<ipnetwork::IpNetwork> = addresses
        .iter()
        .map(|address| address.parse().unwrap())
        .collect();
    Published {
        owner,
        v4: addresses
            .iter()
            .copied()
            .find(ipnetwork::IpNetwork::is_ipv4),
        v6: addresses
            .iter()
            .copied()
            .find(ipnetwork::IpNetwork::is_ipv6),
        ports: ports.to_vec(),
        beside: Vec::new(),
        snat: true,
        masquerade_all: false,
        mark: Mark::Bit(13),
        conditions_v4: Vec::new(),
        conditions_v6: Vec::new(),
    }
}

pub(crate) fn only_network(network: NetworkRules) -> Ruleset {
    Ruleset {
        network: Some(network),
        ..Ruleset::default()
    }
}

pub(crate) fn only_published(published: Published) -> Ruleset {
    Ruleset {
        published: Some(published),
        ..Ruleset::default()
    }
}
