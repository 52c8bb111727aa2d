//! `hostIP` of published ports as runtimes write it, and what is said of one that cannot serve.

use std::net::SocketAddr;
use std::time::Duration;

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Finished, HOST_V4, Network, Outcome, Site, tcp, udp,
};
use serde_json::{Value, json};

const BACKENDS: [Backend; 2] = [Backend::Nftables, Backend::IptablesNft];
const WAIT: Duration = Duration::from_secs(2);
const V4: [&str; 1] = ["10.64.1.0/24"];
const V6: [&str; 1] = ["fd00:64:1::/64"];
const DUAL: [&str; 2] = ["10.64.1.0/24", "fd00:64:1::/64"];
/// HOST_V4 as a program writes it that has sockets for both families.
const MAPPED: &str = "::ffff:198.18.7.1";

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// portmap's ADD alone, after the plugin before it.
fn portmap(site: &Site, network: &Network, attachment: &mut Attachment) -> Outcome<Finished> {
    let runtime = site.runtime();
    let previous = runtime.add(&network.clone().first_only(), attachment)?;
    let plugin = &network.plugins()[1];
    let stdin = network.stdin(plugin, &attachment.capabilities, Some(&previous));
    Ok(runtime.call(
        "portmap",
        &runtime.attachment_call("ADD", &stdin, attachment),
    )?)
}

fn mapped(backend: Backend, subnets: &[&str]) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let network = site.network("net", "br-net", subnets);
    let runtime = site.runtime();
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container)
        .publish(MAPPED, 8080, 80, "tcp")
        .publish(MAPPED, 8080, 80, "udp");
    runtime.add(&network, &mut attachment)?;
    let _server = container.serve(80)?;
    let target = SocketAddr::new(HOST_V4, 8080);
    let answers = [
        site.host.run_outside(|| tcp(target, WAIT))?,
        site.host.run_outside(|| udp(target, WAIT))?,
    ];
    for answer in answers {
        if let Err(silence) = answer {
            return wrong(format!("{backend}: {silence}"));
        }
    }
    runtime.check(&network, &attachment)?;
    let listed = site.pontoon(&["ports"])?.stdout;
    if !listed.contains("198.18.7.1") || listed.contains("ffff") {
        return wrong(format!("{backend}: {listed}"));
    }
    let other = Container::new("other")?;
    let mut second = Attachment::new(&other).publish("198.18.7.1", 8080, 80, "tcp");
    match site.try_add(&network, &mut second)? {
        Some(error) if error.code == 102 && error.msg.contains(&container.id) => {}
        outcome => return wrong(format!("{backend}: the port is given twice: {outcome:?}")),
    }
    runtime.del(&network, &attachment)?;
    // The other way round.
    runtime.add(&network, &mut second)?;
    match site.try_add(&network, &mut attachment)? {
        Some(error) if error.msg.contains(&other.id) => {}
        outcome => return wrong(format!("{backend}: the port is given twice: {outcome:?}")),
    }
    runtime.del(&network, &second)?;
    site.nothing_left(&before, &[&network], "ADD and DEL at a mapped address")
}

#[test]
fn an_ipv4_address_in_ipv6_notation_is_that_address() -> Outcome {
    for backend in BACKENDS {
        mapped(backend, &V4)?;
        mapped(backend, &DUAL)?;
    }
    Ok(())
}

/// One line of warning with these words, and the port that is fine is published.
fn warned(backend: Backend, subnets: &[&str], host_ip: &str, words: &str) -> Outcome {
    let site = Site::new(backend)?;
    let network = site.network("net", "br-net", subnets);
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container)
        .publish("", 8081, 81, "tcp")
        .publish(host_ip, 8080, 80, "tcp");
    let told = portmap(&site, &network, &mut attachment)?;
    let lines: Vec<&str> = told.stderr.lines().collect();
    if told.status != Some(0) || lines.len() != 1 || !lines[0].contains(words) {
        return wrong(format!(
            "{backend}, {host_ip}: {:?} {} {}",
            told.status, told.stdout, told.stderr
        ));
    }
    if !lines[0].contains("8080/tcp") || lines[0].contains("8081") {
        return wrong(format!("{backend}, {host_ip}: {}", lines[0]));
    }
    site.runtime().check(&network, &attachment)?;
    Ok(site.runtime().del(&network, &attachment)?)
}

#[test]
fn one_line_tells_of_a_host_address_that_cannot_serve() -> Outcome {
    for backend in BACKENDS {
        warned(backend, &V4, "2001:db8:fe::1", "no IPv6 address")?;
        warned(backend, &V4, "::", "no IPv6 address")?;
        warned(backend, &V6, "198.18.7.1", "no IPv4 address")?;
        warned(backend, &V6, "::ffff:0.0.0.0", "no IPv4 address")?;
    }
    for (host_ip, words) in [
        ("203.0.113.9", "no interface"),
        ("2001:db8:99::9", "no interface"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("::1", "127.0.0.1"),
    ] {
        warned(Backend::Nftables, &DUAL, host_ip, words)?;
    }
    Ok(())
}

#[test]
fn where_every_port_is_dropped_the_add_fails() -> Outcome {
    for (subnets, host_ip) in [(&V4, "2001:db8:fe::1"), (&V4, "::"), (&V6, "0.0.0.0")] {
        for backend in BACKENDS {
            let site = Site::new(backend)?;
            let before = site.snapshot()?;
            let network = site.network("net", "br-net", subnets);
            let container = Container::new("web")?;
            let mut attachment = Attachment::new(&container).publish(host_ip, 8080, 80, "tcp");
            match site.try_add(&network, &mut attachment)? {
                Some(error) if error.code == 7 && error.msg.contains("8080/tcp") => {}
                outcome => return wrong(format!("{backend}, {host_ip}: {outcome:?}")),
            }
            site.nothing_left(&before, &[&network], "a refused ADD")?;
        }
    }
    Ok(())
}

#[test]
fn a_healthy_request_says_nothing() -> Outcome {
    for host_ip in [
        "",
        "0.0.0.0",
        "::",
        "198.18.7.1",
        "2001:db8:fe::1",
        "127.0.0.1",
    ] {
        let site = Site::new(Backend::Nftables)?;
        let network = site.network("net", "br-net", &DUAL);
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container).publish(host_ip, 8080, 80, "tcp");
        let told = portmap(&site, &network, &mut attachment)?;
        if told.status != Some(0) || !told.stderr.is_empty() {
            return wrong(format!(
                "{host_ip}: {:?} {} {}",
                told.status, told.stdout, told.stderr
            ));
        }
        site.runtime().del(&network, &attachment)?;
    }
    Ok(())
}

/// podman sends the ports with each network, those without addresses included.
#[test]
fn a_network_without_addresses_is_passed_over() -> Outcome {
    for backend in BACKENDS {
        let site = Site::new(backend)?;
        let before = site.snapshot()?;
        let mut list = site.network("net", "br-net", &V4).list().clone();
        list["plugins"][0] = json!({ "type": "bridge", "bridge": "br-net", "ipam": {} });
        let network = Network::from_list(list);
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
        let told = portmap(&site, &network, &mut attachment)?;
        let lines: Vec<&str> = told.stderr.lines().collect();
        if told.status != Some(0) || lines.len() != 1 || !lines[0].contains("8080/tcp") {
            return wrong(format!(
                "{backend}: {:?} {} {}",
                told.status, told.stdout, told.stderr
            ));
        }
        let result: Value =
            serde_json::from_str(&told.stdout).map_err(Failure::act("read the result"))?;
        if attachment.result.as_ref() != Some(&result) {
            return wrong(format!("{backend}: the result became {result}"));
        }
        site.runtime().check(&network, &attachment)?;
        site.runtime().del(&network, &attachment)?;
        // Without ports there is nothing to say.
        let mut silent = Attachment::new(&container);
        let told = portmap(&site, &network, &mut silent)?;
        if told.status != Some(0) || !told.stderr.is_empty() {
            return wrong(format!(
                "{backend}: {:?} {} {}",
                told.status, told.stdout, told.stderr
            ));
        }
        site.runtime().del(&network, &silent)?;
        site.nothing_left(&before, &[&network], "a network without addresses")?;
    }
    Ok(())
}

#[test]
fn nftables_refuses_a_chain_of_marks() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let marks = |site: &Site| {
        site.network("net", "br-net", &V4).with(
            "portmap",
            "externalSetMarkChain",
            json!("KUBE-MARK-MASQ"),
        )
    };
    let network = marks(&site);
    let container = Container::new("web")?;
    let mut attachment = Attachment::new(&container).publish("", 8080, 80, "tcp");
    match site.try_add(&network, &mut attachment)? {
        Some(error) if error.code == 7 && error.msg.contains("externalSetMarkChain") => {}
        outcome => return wrong(format!("{outcome:?}")),
    }
    let mut without_ports = Attachment::new(&container);
    if site.try_add(&network, &mut without_ports)?.is_none() {
        return wrong("ADD without ports takes it");
    }
    if site.runtime().status(&network).is_ok() {
        return wrong("STATUS takes it");
    }
    site.nothing_left(&before, &[&network], "a refused ADD")
}
