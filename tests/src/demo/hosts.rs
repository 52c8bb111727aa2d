//! `cargo xtask demo --hosts 3`: one network over three hosts, as namespaces on one switch, with etcd of Debian's
//! package. A host is switched off, and what the others notice of it is shown.

mod machines;
mod question;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Cluster, Container, Failure, Network, Outcome, Programs, Runtime, tcp, udp,
};
use serde_json::json;

use self::machines::Machines;
use super::{show, words_of};
use crate::build::{Built, Profile, root, static_binaries};
use crate::require_privileges;

/// For how long an answer is waited for.
const WAIT: Duration = Duration::from_millis(500);
/// For how long hosts may take to know of each other.
const PATIENCE: Duration = Duration::from_secs(30);
const NETWORK: &str = "demo";
/// The domain of containers' names when the plugin `dns` is told none.
const DOMAIN: &str = "dns.pontoon";
/// Between two questions of the stream that goes on while a host is off.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn run() -> Outcome {
    require_privileges()?;
    // Tests have binaries already.
    if std::env::var_os("XTASK_PLUGINS").is_some() {
        return run_with(&Programs::built()?);
    }
    println!("Building the plugins (dev profile: quick to build) and fetching etcd ...");
    let built = static_binaries(Profile::Dev)?;
    machines::fetch_etcd()?;
    run_with_built(&built)
}

/// The demo with these binaries.
pub(crate) fn run_with_built(built: &Built) -> Outcome {
    run_with(&Programs::at(&built.dir)?)
}

fn run_with(programs: &Programs) -> Outcome {
    let started = Instant::now();
    // Whatever happens from here on: processes, namespaces and files go with `machines`.
    let mut machines = Machines::start(programs)?;
    let left = machines.traces();
    on_hosts(&mut machines)?;
    drop(machines);
    left.are_gone()?;
    println!(
        "\nNothing is left: no process, no namespace, no file. The demo took {:.0} s.",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A container on a host.
struct Guest {
    name: &'static str,
    host: u8,
    container: Container,
    attachment: Attachment,
    network: Network,
}

fn on_hosts(machines: &mut Machines) -> Outcome {
    println!("\nA network for all of them, made once:");
    machines.pontoon(
        1,
        &[
            "network",
            "create",
            NETWORK,
            "--subnet",
            "10.5.0.0/16",
            "--mode",
            "vxlan",
        ],
    )?;
    for number in 1..=3 {
        machines.start_agent(number, NETWORK)?;
    }
    for number in 1..=3 {
        let block = wait_for("a block", || machines.block(number, NETWORK))?.0;
        println!("  h{number} has block {block}");
    }

    println!(
        "\nA container on each, by conf/samples/overlay.conflist with the plugin dns behind it:"
    );
    let web = join(machines, 1, "web", &[(8080, 80)])?;
    let app = join(machines, 2, "app", &[])?;
    let db = join(machines, 3, "db", &[])?;
    let _servers = (
        web.container.serve(80)?,
        app.container.serve(80)?,
        db.container.serve(80)?,
    );

    println!("\nNames over hosts, asked by app on h2:");
    for guest in [&web, &db] {
        let address = guest.address()?;
        let took = wait_for_name(&app, guest.name, Some(address))?;
        println!(
            "  {} is {address} on h{} (known after {:.0} ms)",
            guest.name,
            guest.host,
            took.as_secs_f64() * 1000.0
        );
    }

    println!("\nPackets over hosts, by the tunnel:");
    packets(&web, &app, &db)?;
    switch_off(machines, &web, &app, &db)?;

    println!("\nDEL on each host, and the agents and etcd end:");
    for guest in [&web, &app, &db] {
        runtime(machines, guest.host).del(&guest.network, &guest.attachment)?;
        println!("  {} left", guest.name);
    }
    Ok(())
}

impl Guest {
    fn address(&self) -> Outcome<IpAddr> {
        let address = self.attachment.address(false);
        address
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| Failure::new(format!("{} has no IPv4 address", self.name)))
    }

    fn at(&self, port: u16) -> Outcome<SocketAddr> {
        Ok(SocketAddr::new(self.address()?, port))
    }
}

fn runtime(machines: &Machines, number: u8) -> Runtime<'_> {
    Runtime::new(machines.host(number), &machines.programs, "")
}

/// The sample, with its leases in a folder of the demo, rules by netlink whatever is installed here, and names.
fn network(machines: &Machines, number: u8) -> Outcome<Network> {
    let sample = Network::load(&root().join("conf/samples/overlay.conflist"))?;
    let mut list = sample.list().clone();
    list["name"] = json!(NETWORK);
    let key = json!(Backend::Nftables.key());
    Ok(Network::from_list(list)
        .with_ipam("dataDir", json!(machines.leases(number)))
        .with("overlay", "ipMasqBackend", key.clone())
        .with("portmap", "backend", key.clone())
        .with("firewall", "backend", key.clone())
        .followed_by(json!({
            "type": "dns", "backend": key, "resolvConf": machines.file(number, "resolv.conf"),
        })))
}

fn join(
    machines: &Machines,
    number: u8,
    name: &'static str,
    ports: &[(u16, u16)],
) -> Outcome<Guest> {
    let network = network(machines, number)?;
    let container = Container::new(name)?;
    let mut attachment = Attachment::new(&container).named(name);
    for (of_host, of_container) in ports {
        attachment = attachment.publish("", *of_host, *of_container, "tcp");
    }
    let started = Instant::now();
    let result = runtime(machines, number).add(&network, &mut attachment)?;
    let took = started.elapsed();
    let published: Vec<String> = ports
        .iter()
        .map(|(of_host, of_container)| format!(", port {of_container} published as {of_host}"))
        .collect();
    println!(
        "  {name} on h{number}: {}{} ({:.0} ms)",
        words_of(&result, "/ips/0/address"),
        published.concat(),
        took.as_secs_f64() * 1000.0
    );
    Ok(Guest {
        name,
        host: number,
        container,
        attachment,
        network,
    })
}

fn packets(web: &Guest, app: &Guest, db: &Guest) -> Outcome {
    for (from, to) in [(app, db), (app, web), (db, web)] {
        let target = to.at(80)?;
        let what = format!(
            "{} on h{} -> {} on h{}",
            from.name, from.host, to.name, to.host
        );
        for (protocol, ask) in pontoon_lab::BOTH {
            let answer = from.container.run(|| ask(target, WAIT))?;
            let reply = show(&format!("{what}, {protocol}"), target, answer)?;
            if reply.peer != from.address()? {
                return Err(Failure::new(format!(
                    "the address of {} was lost: {} saw {}",
                    from.name, to.name, reply.peer
                )));
            }
        }
    }
    Ok(())
}

/// Switches h3 off and on again.
fn switch_off(machines: &mut Machines, web: &Guest, app: &Guest, db: &Guest) -> Outcome {
    let outside = machines.outside();
    let published = SocketAddr::new(Cluster::address(1), 8080);
    let answer = outside
        .run(|| tcp(published, WAIT))
        .map_err(Failure::act("enter the outside"))?;
    show(
        "outside client -> published port of h1, TCP",
        published,
        answer,
    )?;

    println!(
        "\nh3 is switched off: its agent and its member of etcd are killed, its cable is pulled."
    );
    let target = web.at(80)?;
    let stop = AtomicBool::new(false);
    let (answers, longest) = thread::scope(|scope| -> Outcome<(usize, Duration)> {
        let stream = scope.spawn(|| app.container.run(|| ask_until(target, &stop)));
        let seen = while_off(machines, app, db);
        stop.store(true, Ordering::Relaxed);
        let counted = stream
            .join()
            .map_err(|_| Failure::new("the stream of questions panicked"))??;
        seen.map(|()| counted)
    })?;
    println!(
        "  meanwhile app on h2 asked web on h1 every {} ms: {answers} answers, the longest pause was {} ms",
        PAUSE.as_millis(),
        longest.as_millis()
    );
    if answers == 0 || longest >= WAIT {
        return Err(Failure::new("packets between the other hosts were lost"));
    }

    println!("\nh3 is switched on again:");
    let since = Instant::now();
    machines.switch_on(3, NETWORK)?;
    wait_for_name(app, db.name, Some(db.address()?))?;
    println!(
        "  name db is back after {:.1} s",
        since.elapsed().as_secs_f64()
    );
    let target = db.at(80)?;
    let answer = app.container.run(|| tcp(target, WAIT))?;
    show("app on h2 -> db on h3, TCP", target, answer).map(drop)
}

/// Switches h3 off, and shows what the others see.
fn while_off(machines: &mut Machines, app: &Guest, db: &Guest) -> Outcome {
    machines.switch_off(3)?;
    let target = db.at(80)?;
    match app.container.run(|| tcp(target, WAIT))? {
        Ok(_) => return Err(Failure::new("a host that is off answers")),
        Err(silence) => println!("  app on h2 -> db on h3, TCP: {silence}"),
    }
    let took = wait_for_name(app, db.name, None)?;
    println!(
        "  name db is gone after {:.1} s: the lease of h3 has run out",
        took.as_secs_f64()
    );
    machines.pontoon(1, &["nodes"])
}

/// Asks until told to end: how many answers came, and the longest time between two.
fn ask_until(target: SocketAddr, stop: &AtomicBool) -> (usize, Duration) {
    let (mut last, mut longest, mut answers) = (Instant::now(), Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        if udp(target, WAIT).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            answers += 1;
        }
        sleep(PAUSE);
    }
    (answers, longest.max(last.elapsed()))
}

/// Waits until a container is answered so; how long that took.
fn wait_for_name(asker: &Guest, name: &str, expected: Option<IpAddr>) -> Outcome<Duration> {
    let gateway = asker.attachment.gateway(false);
    let server: IpAddr = gateway
        .and_then(|gateway| gateway.parse().ok())
        .ok_or_else(|| Failure::new("the container has no gateway"))?;
    // A bare name that no container has goes on to other servers, of which the demo has none.
    let name = match expected {
        Some(_) => name.to_owned(),
        None => format!("{name}.{DOMAIN}"),
    };
    let ask = || {
        let question = || question::address_of(server, &name, WAIT);
        let answer = asker.container.run(question)?;
        Ok(answer.is_ok_and(|found| found == expected).then_some(()))
    };
    Ok(wait_for(&format!("the name {name}"), ask)?.1)
}

/// Polls until there is something; what, and after how long.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<(T, Duration)> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok((found, started.elapsed()));
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "{what}: not as expected within {PATIENCE:?}"
            )));
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether a file or folder is there.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
