//! An address that comes back with another MAC address is reached at once, by neighbours that remember the former one.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Echo, Failure, HOST_V6, Network, Outcome, Site, tcp, udp,
};
use serde_json::{Value, json};

const SUBNETS: [&str; 2] = ["10.87.0.0/24", "fd00:87::/64"];
/// Within this an address is reached after ADD.
const AT_ONCE: Duration = Duration::from_secs(1);
const MACS: [&str; 2] = ["02:00:00:00:87:01", "02:00:00:00:87:02"];

/// How a container asks for what it gets.
type Ask<'a> = &'a dyn Fn(Attachment, usize) -> Attachment;
/// Who talks to it, and from where.
type From<'a> = (
    &'a str,
    Box<dyn Fn(SocketAddr, Duration) -> Outcome<bool> + 'a>,
);

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port)
}

/// A container at `address` answers each of `froms`, goes, and another one of the same address is there for each at once.
fn comes_back(
    site: &Site,
    network: &Network,
    address: &str,
    ask: Ask<'_>,
    froms: &[From<'_>],
) -> Outcome {
    let mut macs = Vec::new();
    for turn in 0..2 {
        let container = Container::new("moves")?;
        let mut attachment = ask(Attachment::new(&container), turn);
        site.runtime().add(network, &mut attachment)?;
        let added = Instant::now();
        let _server = container.serve(80)?;
        for (name, talk) in froms {
            while !talk(at(address, 80), Duration::from_millis(100))? {
                if added.elapsed() > Duration::from_secs(5) {
                    break;
                }
            }
            let took = added.elapsed();
            if turn == 1 && took > AT_ONCE {
                return Err(Failure::new(format!(
                    "{name} to {address}: only after {took:?}"
                )));
            }
        }
        site.runtime().check(network, &attachment)?;
        let result = attachment.result.clone().unwrap_or_default();
        let own = |it: &&Value| it["sandbox"].as_str().is_some_and(|path| !path.is_empty());
        let interfaces = result["interfaces"].as_array().into_iter().flatten();
        macs.extend(interfaces.filter(own).map(|it| it["mac"].clone()).take(1));
        site.runtime().del(network, &attachment)?;
    }
    assert_ne!(macs[0], macs[1], "the test wants another MAC address");
    Ok(())
}

fn sibling_and_host<'a>(site: &'a Site, peer: &'a Container) -> Vec<From<'a>> {
    let from_peer = |to, wait| Ok(peer.run(|| udp(to, wait))?.is_ok());
    let from_host = |to, wait| Ok(site.host.run(|| udp(to, wait))?.is_ok());
    vec![
        ("a sibling", Box::new(from_peer)),
        ("the host", Box::new(from_host)),
    ]
}

#[test]
fn with_a_mac_that_was_asked_for() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        for (position, address) in ["10.87.0.50", "fd00:87::50"].into_iter().enumerate() {
            let subnets = &SUBNETS[position..=position];
            let network = site.network(&format!("n{position}"), &format!("mac{position}"), subnets);
            let (peer, _) = site.join("peer", &network)?;
            let ask = |mut it: Attachment, turn: usize| {
                it.args = format!("IP={address};MAC={}", MACS[turn]);
                it
            };
            comes_back(
                &site,
                &network,
                address,
                &ask,
                &sibling_and_host(&site, &peer),
            )?;
        }
    }
    Ok(())
}

#[test]
fn with_a_mac_that_tuning_sets() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for (position, address) in ["10.87.0.50", "fd00:87::50"].into_iter().enumerate() {
        let subnets = &SUBNETS[position..=position];
        let name = format!("n{position}");
        let mut list = site
            .network(&name, &format!("tun{position}"), subnets)
            .list()
            .clone();
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(json!({ "type": "tuning", "capabilities": { "mac": true } }));
        }
        let network = Network::from_list(list);
        let (peer, _) = site.join("peer", &network)?;
        let ask = |mut it: Attachment, turn: usize| {
            it.args = format!("IP={address}");
            it.capabilities.insert("mac".to_owned(), json!(MACS[turn]));
            it
        };
        comes_back(
            &site,
            &network,
            address,
            &ask,
            &sibling_and_host(&site, &peer),
        )?;
    }
    Ok(())
}

/// The automatic MAC address follows the IPv4 address, which is another one each time.
#[test]
fn of_a_dual_stack_container_with_a_fixed_ipv6_address() -> Outcome {
    for backend in Backend::ALL {
        let site = Site::new(backend)?;
        let network = site.network("dual", "dual0", &SUBNETS);
        let (peer, _) = site.join("peer", &network)?;
        let address = "fd00:87::50";
        let ask = |mut it: Attachment, _| {
            it.args = format!("IP={address}");
            it.publish("", 8080, 80, "tcp").publish("", 8080, 80, "udp")
        };
        let mut froms = sibling_and_host(&site, &peer);
        let published = SocketAddr::new(HOST_V6, 8080);
        let host = &site.host;
        let outside = move |_, wait| Ok(host.run_outside(|| udp(published, wait))?.is_ok());
        froms.push(("the outside, by the published port", Box::new(outside)));
        let outside = move |_, wait| Ok(host.run_outside(|| tcp(published, wait))?.is_ok());
        froms.push(("the outside, by TCP", Box::new(outside)));
        comes_back(&site, &network, address, &ask, &froms)?;
    }
    Ok(())
}

#[test]
fn of_a_macvlan() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for address in ["198.18.7.50", "2001:db8:fe::50"] {
        let prefix = if address.contains(':') { 64 } else { 24 };
        let network = Network::from_list(json!({
            "cniVersion": "1.1.0", "name": "lan",
            "plugins": [{
                "type": "macvlan", "master": "eth0",
                "ipam": { "type": "static", "addresses": [{ "address": format!("{address}/{prefix}") }] },
            }],
        }));
        let outside = |to, wait| Ok(site.host.run_outside(|| udp(to, wait))?.is_ok());
        let froms: [From<'_>; 1] = [("the LAN", Box::new(outside))];
        comes_back(&site, &network, address, &|it, _| it, &froms)?;
    }
    Ok(())
}

/// Each announcement is flooded to every port of the bridge: where a MAC address follows from the address there is none.
#[test]
fn what_cannot_be_wrong_is_not_announced() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for (position, v6) in [(0, false), (1, true)] {
        let subnets = &SUBNETS[position..=position];
        let network = site.network(&format!("n{position}"), &format!("own{position}"), subnets);
        let (container, _) = site.join("quiet", &network)?;
        for path in [
            "net/ipv4/conf/eth0/arp_notify",
            "net/ipv6/conf/eth0/ndisc_notify",
        ] {
            assert_eq!(container.sysctl(path)?, "0", "IPv6 {v6}: {path}");
        }
    }
    Ok(())
}

fn host_shell(site: &Site, line: &str) -> Outcome<String> {
    site.host.command(Command::new("sh").args(["-c", line]))
}

fn mac_of(site: &Site, bridge: &str) -> Outcome<String> {
    let text = host_shell(site, &format!("ip -o link show {bridge}"))?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    Ok(words.nth(1).unwrap_or_default().to_owned())
}

fn told(attachment: &Attachment) -> String {
    let result = attachment.result.clone().unwrap_or_default();
    result["interfaces"][0]["mac"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A bridge without an address of its own follows its ports. As a gateway it keeps the one that it has.
#[test]
fn a_bridge_of_the_administrator_keeps_its_mac() -> Outcome {
    for with_address in [false, true] {
        let site = Site::new(Backend::Nftables)?;
        host_shell(&site, "ip link add own0 type bridge && ip link set own0 up")?;
        if with_address {
            host_shell(&site, "ip addr add 10.87.0.1/24 dev own0")?;
        }
        let network = site.network("own", "own0", &SUBNETS[..1]);
        let mut all = Vec::new();
        for _ in 0..5 {
            let (container, attachment) = site.join("one", &network)?;
            assert_eq!(told(&attachment), mac_of(&site, "own0")?);
            site.runtime().check(&network, &attachment)?;
            all.push((container, attachment));
        }
        let first = told(&all[0].1);
        let gateway = all[0].1.gateway(false).unwrap_or_default();
        let _server = Echo::start(site.host.netns(), "gateway", 80)?;
        let (stays, _) = &all[0];
        let reach = || stays.run(|| udp(at(&gateway, 80), AT_ONCE));
        assert!(reach()?.is_ok());
        for (_, attachment) in &all[1..] {
            site.runtime().del(&network, attachment)?;
            assert_eq!(mac_of(&site, "own0")?, first);
        }
        assert!(reach()?.is_ok());
        site.runtime().check(&network, &all[0].1)?;
        site.runtime().del(&network, &all[0].1)?;
        assert_eq!(mac_of(&site, "own0")?, first, "without ports");
        // Once more, when it has no port.
        let (_last, attachment) = site.join("last", &network)?;
        assert_eq!(told(&attachment), first);
        site.runtime().check(&network, &attachment)?;
    }
    Ok(())
}

/// A bridge that is no gateway goes on following its ports; ADD tells what it has afterwards.
#[test]
fn a_bridge_without_gateway_is_told_as_it_is() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    host_shell(
        &site,
        "ip link add flat0 type bridge && ip link set flat0 up",
    )?;
    let network = site
        .network("flat", "flat0", &SUBNETS[..1])
        .first_only()
        .with("bridge", "isGateway", json!(false))
        .with("bridge", "ipMasq", json!(false));
    let mut all = Vec::new();
    for _ in 0..5 {
        let (container, attachment) = site.join("one", &network)?;
        assert_eq!(told(&attachment), mac_of(&site, "flat0")?);
        all.push((container, attachment));
        // That of each one passes, whatever came after it.
        for (_, attachment) in &all {
            site.runtime().check(&network, attachment)?;
        }
    }
    Ok(())
}
