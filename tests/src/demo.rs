//! `cargo xtask demo`: the main job, for a person to watch, on real namespaces and with nothing
//! installed but the kernel.

pub(crate) mod hosts;
mod rules;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, HOST_V4, Host, Network, NoReply, OUTSIDE_V4, Outcome,
    Programs, Reply, Runtime, Scratch, Snapshot, tcp, udp,
};
use serde_json::{Value, json};

use crate::build::{Built, Profile, root, static_binaries};
use crate::require_privileges;

const WAIT: Duration = Duration::from_secs(3);

pub(crate) fn run() -> Outcome {
    require_privileges()?;
    println!(
        "Building the plugins (dev profile: quick to build, not as fast as what is shipped) ..."
    );
    let built = static_binaries(Profile::Dev)?;
    run_with(&built)
}

/// The demo with these binaries.
pub(crate) fn run_with(built: &Built) -> Outcome {
    println!("  static binaries for {}\n", built.linking);

    let host = Host::new()?;
    let leases = Scratch::new("demo")?;
    // Whatever happens from here on: namespaces, links, rules, leases and state go with these.
    let before = everything(&host)?;
    println!(
        "A host, as a network namespace: uplink eth0 {HOST_V4}; at the other end of the cable, the outside: {OUTSIDE_V4}"
    );
    let network = network(&root().join("conf/samples/docker0.conflist"), leases.path())?;
    let types: Vec<&str> = network
        .plugins()
        .iter()
        .filter_map(|plugin| plugin["type"].as_str())
        .collect();
    println!(
        "Network \"{}\" from conf/samples/docker0.conflist: {}\n",
        network.name(),
        types.join(", ")
    );

    let programs = Programs::at(&built.dir)?;
    let runtime = Runtime::new(&host, &programs, "");
    let web = Container::new("web")?;
    let cli = Container::new("cli")?;
    let mut web_at = Attachment::new(&web)
        .publish("", 8080, 80, "tcp")
        .publish("", 8080, 80, "udp");
    let mut cli_at = Attachment::new(&cli);
    join(
        &runtime,
        &network,
        &mut web_at,
        "publishing its port 80 as the host's 8080",
    )?;
    join(&runtime, &network, &mut cli_at, "publishing nothing")?;

    println!("\nThe rules this made (nf_tables, written by netlink):");
    for line in host.run(rules::describe)?? {
        println!("  {line}");
    }
    println!("\nNow packets:");
    packets(&host, (&web, &web_at), &cli)?;

    println!("\nDEL, last plugin first:");
    leave(&runtime, &network, &cli_at)?;
    leave(&runtime, &network, &web_at)?;
    println!("\nGC, as when the network itself is removed:");
    runtime.gc(&network, &[])?;
    println!("  the bridge went");
    let after = everything(&host)?;
    before.same_as(&after, "ADD and DEL")?;
    println!(
        "\nNothing is left on the host: links {}, rules {}.",
        after.lines("links").len(),
        after.lines("rules").len()
    );
    println!(
        "(The links are the host's own: {}.)",
        names(&after).join(", ")
    );
    Ok(())
}

/// Links, addresses, routes, and what nf_tables holds.
fn everything(host: &Host) -> Outcome<Snapshot> {
    let lines = host.run(rules::describe)??;
    Ok(Snapshot::of_links(host)?.with("rules", lines))
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    let links = snapshot.lines("links");
    links
        .iter()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The sample, with its leases in a directory of the demo, and without iptables: whatever this
/// machine has installed, the demo shows the backend that needs nothing.
fn network(sample: &Path, leases: &Path) -> Outcome<Network> {
    let key = json!(Backend::Nftables.key());
    Ok(Network::load(sample)?
        .with_ipam("dataDir", json!(leases))
        .with("bridge", "ipMasqBackend", key.clone())
        .with("portmap", "backend", key.clone())
        .with("firewall", "backend", key))
}

fn join(
    runtime: &Runtime<'_>,
    network: &Network,
    attachment: &mut Attachment,
    what: &str,
) -> Outcome {
    let started = Instant::now();
    let result = runtime.add(network, attachment)?;
    let took = started.elapsed();
    let words = |pointer: &str| words_of(&result, pointer);
    println!(
        "Container {} joins, {what} ({:.1} ms):",
        attachment.container_id,
        took.as_secs_f64() * 1000.0
    );
    println!(
        "  eth0 {} gateway {}, MAC {}",
        words("/ips/0/address"),
        words("/ips/0/gateway"),
        words("/interfaces/2/mac")
    );
    println!(
        "  by {} on bridge {}",
        words("/interfaces/1/name"),
        words("/interfaces/0/name")
    );
    Ok(())
}

/// A text of a result, by its JSON pointer.
fn words_of(result: &Value, pointer: &str) -> String {
    let found = result.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or("?").to_owned()
}

fn leave(runtime: &Runtime<'_>, network: &Network, attachment: &Attachment) -> Outcome {
    let started = Instant::now();
    runtime.del(network, attachment)?;
    println!(
        "  {} left ({:.1} ms)",
        attachment.container_id,
        started.elapsed().as_secs_f64() * 1000.0
    );
    Ok(())
}

fn packets(host: &Host, web: (&Container, &Attachment), cli: &Container) -> Outcome {
    let address = web
        .1
        .address(false)
        .ok_or_else(|| Failure::new("web has no IPv4 address"))?;
    let web_itself: SocketAddr = format!("{address}:80")
        .parse()
        .map_err(Failure::act("read web's address"))?;
    let outside = SocketAddr::new(OUTSIDE_V4, 7000);
    let published = SocketAddr::new(HOST_V4, 8080);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 8080));
    let _servers = (web.0.serve(80)?, host.serve_outside(7000)?);

    let reply = show(
        "cli -> the outside, TCP",
        outside,
        cli.run(|| tcp(outside, WAIT))?,
    )?;
    if reply.peer != HOST_V4 {
        return Err(Failure::new(format!(
            "NAT is wrong: the outside saw {}, not the host's {HOST_V4}",
            reply.peer
        )));
    }
    show(
        "cli -> web on the same bridge, TCP",
        web_itself,
        cli.run(|| tcp(web_itself, WAIT))?,
    )?;
    let reply = show(
        "outside client -> published port, TCP",
        published,
        host.run_outside(|| tcp(published, WAIT))?,
    )?;
    if reply.peer != OUTSIDE_V4 {
        return Err(Failure::new(format!(
            "the client's address was lost: web saw {}",
            reply.peer
        )));
    }
    show(
        "outside client -> published port, UDP",
        published,
        host.run_outside(|| udp(published, WAIT))?,
    )?;
    show(
        "the host itself -> published port, TCP",
        loopback,
        host.run(|| tcp(loopback, WAIT))?,
    )?;
    show(
        "cli -> published port, TCP",
        published,
        cli.run(|| tcp(published, WAIT))?,
    )?;
    Ok(())
}

fn show(what: &str, target: SocketAddr, answer: Result<Reply, NoReply>) -> Outcome<Reply> {
    let reply = answer.map_err(|silence| Failure::new(format!("{what} {target}: {silence}")))?;
    println!(
        "  {what}: {target} answered \"I am {}, you are {}\"",
        reply.server, reply.peer
    );
    Ok(reply)
}
