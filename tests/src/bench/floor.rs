//! What the kernel alone asks for an ADD: the messages that make the interface and its rules, sent by one process
//! that has nothing to read, decide or write down, and the starts of as many processes as the chain has.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use pontoon_lab::{Backend, Call, Container, Failure, Outcome, Programs};
use pontoon_netfilter::{BackendKind, Mark, Member, Owner, Port, Protocol, Published, Ruleset};
use pontoon_netlink::{PortFlags, RouteSocket, RouteSpec, Setup, VethSpec, sysctl};

use super::contestant::{Contestant, settle};
use super::table::{Bar, Row, Table};
use super::{Cell, RUN, median};

/// Binaries of the chain that a runtime starts: `host-local` runs within `bridge`.
const CHAIN: [&str; 3] = ["bridge", "portmap", "firewall"];
const VETH: &str = "floor0";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 75, 255, 1));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 75, 0, 1));

fn act<E: std::error::Error + Send + Sync + 'static>(what: &str) -> impl FnOnce(E) -> Failure {
    Failure::act(format!("measure the kernel's part: {what}"))
}

/// The messages for one container; the rules are withdrawn and the link is deleted, both unmeasured.
fn messages(contestant: &Contestant, container: &Container) -> Outcome<Duration> {
    let owner = Owner {
        network: "bench".to_owned(),
        container: container.id.clone(),
        interface: "eth0".to_owned(),
    };
    let net = |address, prefix| IpNetwork::new(address, prefix).map_err(act("an address"));
    let (address, default) = (net(ADDRESS, 16)?, net(Ipv4Addr::UNSPECIFIED.into(), 0)?);
    let rules = [
        Ruleset {
            published: Some(Published {
                owner: owner.clone(),
                v4: Some(address),
                v6: None,
                ports: vec![Port {
                    protocol: Protocol::Tcp,
                    host_ip: None,
                    host_port: 30_000,
                    container_port: 80,
                }],
                beside: Vec::new(),
                snat: true,
                masquerade_all: false,
                mark: Mark::Bit(13),
                conditions_v4: Vec::new(),
                conditions_v6: Vec::new(),
            }),
            ..Ruleset::default()
        },
        Ruleset {
            member: Some(Member {
                owner,
                addresses: vec![ADDRESS],
                admin_chain: String::new(),
            }),
            ..Ruleset::default()
        },
    ];
    contestant.host().run(|| -> Outcome<Duration> {
        settle();
        let started = Instant::now();
        let mut host = RouteSocket::open().map_err(act("a socket"))?;
        let mut inside = RouteSocket::open_in(container.netns()).map_err(act("a socket inside"))?;
        let bridge = host.link_by_name("bench0").map_err(act("the bridge"))?;
        let bridge = bridge.ok_or_else(|| Failure::new("bench0 is not there"))?;
        let spec = VethSpec {
            master: Some(bridge.index),
            mac: Some([2, 0, 0, 0, 9, 1]),
            peer_mac: Some([2, 0, 0, 0, 9, 2]),
            alias: Some("floor"),
            port: PortFlags::default(),
            without_ipv6: true,
            ..VethSpec::new(VETH, "eth0", container.netns())
        };
        let veth = host.create_veth_down(&spec).map_err(act("the veth pair"))?;
        let route = RouteSpec {
            gateway: Some(GATEWAY),
            ..RouteSpec::to(default)
        };
        let setup = Setup {
            lo_up: true,
            index: veth.peer_index,
            addresses: &[address],
            up: true,
            routes: &[route],
            loose: true,
            ..Setup::default()
        };
        inside.configure(&setup).map_err(act("the address"))?;
        sysctl::write(&format!("net/ipv6/conf/{VETH}/disable_ipv6"), "1")
            .map_err(act("disable_ipv6"))?;
        host.take_veth_up(veth.index, &spec)
            .map_err(act("the link up"))?;
        let mut opened = Vec::new();
        for ruleset in &rules {
            let mut backend =
                pontoon_netfilter::Backend::open(BackendKind::Nftables, &[], Path::new("/"))
                    .map_err(act("nf_tables"))?;
            backend.apply(ruleset).map_err(act("the rules"))?;
            opened.push(backend);
        }
        let took = started.elapsed();
        for (backend, ruleset) in opened.iter_mut().zip(&rules) {
            backend.withdraw(ruleset).map_err(act("the rules' end"))?;
        }
        host.delete_link(veth.index)
            .map_err(act("the link's end"))?;
        Ok(took)
    })?
}

/// The starts of the chain's processes.
fn starts(contestant: &Contestant) -> Outcome<Duration> {
    contestant.time(|runtime| {
        for plugin in CHAIN {
            let call = Call::new(
                "VERSION",
                contestant.programs().dir(),
                r#"{"cniVersion":"1.0.0"}"#,
            );
            runtime.call(plugin, &call)?.verdict("VERSION")?;
        }
        Ok(())
    })
}

/// Measures the kernel's part and the whole in turn.
pub(crate) fn measure(table: &mut Table, ours: &Programs, samples: usize) -> Outcome {
    let mut contestant = Contestant::new(ours, Backend::Nftables)?;
    contestant.fill(1)?;
    Contestant::rest();
    let mut cell = Cell::new(&contestant, 1)?;
    let container = Container::new("floor")?;
    let (mut kernel, mut processes) = (Vec::new(), Vec::new());
    for _ in 0..samples / RUN {
        for sample in 0..=RUN {
            let (messages, starts) = (messages(&contestant, &container)?, starts(&contestant)?);
            if sample > 0 {
                kernel.push(messages);
                processes.push(starts);
            }
        }
        cell.turn()?;
    }
    let (add, _) = cell.medians();
    let (kernel, processes) = (median(&mut kernel), median(&mut processes));
    table.push(Row {
        what: format!(
            "nftables: ADD, and its messages alone ({kernel:.2} ms) with {} process starts ({processes:.2} ms)",
            CHAIN.len()
        ),
        reference: Some(kernel + processes),
        ours: add,
        unit: "ms",
        bar: Bar::at_most(1.3, add / (kernel + processes), "of them"),
    });
    Ok(())
}
