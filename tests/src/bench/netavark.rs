//! The chain beside podman 5's network program: netavark's `setup` and `teardown`, run directly, with nftables.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pontoon_lab::{Backend, Container, Failure, Host, Outcome, Programs, Scratch};
use serde_json::json;

use super::contestant::{Contestant, settle};
use super::table::{Bar, Row, Table};
use super::{Cell, RUN, median, unpacked};

/// So many containers, each with a published port, are on either side's network.
const CROWD: u8 = 25;

/// netavark with a host of its own.
struct Netavark {
    // Before the host: containers leave first.
    crowd: Vec<Container>,
    host: Host,
    loader: PathBuf,
    libraries: PathBuf,
    program: PathBuf,
    state: Scratch,
}

impl Netavark {
    fn new(unpacked: &Path) -> Outcome<Self> {
        let architecture = std::env::consts::ARCH;
        let libraries = unpacked.join(format!("usr/lib/{architecture}-linux-gnu"));
        let name = match architecture {
            "x86_64" => "ld-linux-x86-64.so.2".to_owned(),
            other => format!("ld-linux-{other}.so.1"),
        };
        Ok(Self {
            crowd: Vec::new(),
            host: Host::new()?,
            loader: libraries.join(name),
            libraries,
            program: unpacked.join("usr/lib/podman/netavark"),
            state: Scratch::new("netavark")?,
        })
    }

    fn fill(&mut self) -> Outcome {
        for number in 0..CROWD {
            let container = Container::new("crowd")?;
            self.call("setup", &container, number + 2, 10_000 + u16::from(number))?;
            self.crowd.push(container);
        }
        Ok(())
    }

    /// How long a verb takes for a container with the address of this number and one published port.
    fn call(&self, verb: &str, container: &Container, number: u8, port: u16) -> Outcome<Duration> {
        let wanted = json!({
            "container_id": container.id, "container_name": container.id,
            "port_mappings": [{
                "container_port": 80, "host_ip": "", "host_port": port, "protocol": "tcp", "range": 1,
            }],
            "networks": { "bench": {
                "static_ips": [Ipv4Addr::new(10, 75, 0, number)], "interface_name": "eth0",
            } },
            "network_info": { "bench": {
                "name": "bench", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
                "driver": "bridge", "network_interface": "bench0",
                "subnets": [{ "subnet": "10.75.0.0/16", "gateway": "10.75.0.1" }],
                "ipv6_enabled": false, "internal": false, "dns_enabled": false,
                "ipam_options": { "driver": "host-local" },
            } },
        });
        let mut command = Command::new(&self.loader);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NETAVARK_FW", "nftables")
            .env("RUST_LOG", "error")
            .arg("--library-path")
            .arg(&self.libraries)
            .arg(&self.program)
            .arg("--config")
            .arg(self.state.path())
            .args([verb, &container.path_text()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let act = format!("run netavark {verb}");
        self.host.run(|| {
            settle();
            let started = Instant::now();
            let mut child = command.spawn().map_err(Failure::act(&act))?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin
                    .write_all(wanted.to_string().as_bytes())
                    .map_err(Failure::act(&act))?;
            }
            let output = child.wait_with_output().map_err(Failure::act(&act))?;
            let took = started.elapsed();
            if output.status.success() {
                return Ok(took);
            }
            let words = [output.stdout, output.stderr].concat();
            Err(Failure::new(format!(
                "{act}: {}: {}",
                output.status,
                String::from_utf8_lossy(&words).trim()
            )))
        })?
    }
}

/// Measures both sides in turn.
pub(crate) fn measure(table: &mut Table, ours: &Programs, samples: usize) -> Outcome {
    let mut netavark = Netavark::new(&unpacked("netavark.sh")?)?;
    netavark.fill()?;
    let mut contestant = Contestant::new(ours, Backend::Nftables)?;
    contestant.fill(usize::from(CROWD))?;
    Contestant::rest();
    let mut cell = Cell::new(&contestant, 1)?;
    let container = Container::new("bench")?;
    let (mut setups, mut teardowns) = (Vec::new(), Vec::new());
    for _ in 0..samples / RUN {
        for sample in 0..=RUN {
            let setup = netavark.call("setup", &container, CROWD + 2, 30_000)?;
            let teardown = netavark.call("teardown", &container, CROWD + 2, 30_000)?;
            // The first finds the caches full of the other side, and does not count.
            if sample > 0 {
                setups.push(setup);
                teardowns.push(teardown);
            }
        }
        cell.turn()?;
    }
    let (add, del) = cell.medians();
    for (what, theirs, ours, bar) in [
        ("ADD, netavark's setup", median(&mut setups), add, 10.0),
        ("DEL, netavark's teardown", median(&mut teardowns), del, 6.0),
    ] {
        table.push(Row {
            what: format!("beside netavark 1.17.2: {what}"),
            reference: Some(theirs),
            ours,
            unit: "ms",
            bar: Bar::Asked(format!("1/{bar:.0} of netavark's"), theirs / ours >= bar),
        });
    }
    Ok(())
}
