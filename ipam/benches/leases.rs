//! ADD and DEL of host-local in process, on a network without leases and on
//! one with 60,000: the second may cost at most 1.2 times the first.
#![allow(clippy::expect_used, reason = "a bench ends where something fails")]

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use pontoon_conf::{Error, Invocation, NetworkConfig, Verb};
use pontoon_ipam::host_local;

const ROUNDS: usize = 2000;

fn invocation(container: &str) -> Invocation {
    let environment = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => container,
            "CNI_NETNS" => "/run/netns/x",
            "CNI_IFNAME" => "eth0",
            "CNI_PATH" => "/opt/cni/bin",
            _ => return None,
        };
        Some(value.to_owned())
    };
    Invocation::from_environment(environment)
        .expect("environment")
        .expect("verb")
}

/// Median time of ADD and of DEL with so many leases in the directory, one
/// of them at least ours, so that the index stays.
fn measure(folder: &Path, leases: u32) -> Result<(Duration, Duration), Error> {
    let network = folder.join("networks/n");
    fs::create_dir_all(&network).expect("folder");
    let first = u32::from(Ipv4Addr::new(172, 17, 0, 2));
    for number in 0..leases {
        let name = Ipv4Addr::from(first + number).to_string();
        fs::write(network.join(name), format!("{number:064x}\r\neth0")).expect("lease");
    }
    let text = format!(
        r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": {{"type": "host-local", "dataDir": "{}"}}}}"#,
        folder.join("networks").display()
    );
    let config = NetworkConfig::parse(text.as_bytes(), Verb::Add)?;
    let state = folder.join("state");
    host_local::add(&invocation("warm"), &config, &state)?;
    let mut times = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let invocation = invocation(&format!("bench{round:059x}"));
        let start = Instant::now();
        host_local::add(&invocation, &config, &state)?;
        times.0.push(start.elapsed());
        let start = Instant::now();
        host_local::del(&invocation, &config, &state)?;
        times.1.push(start.elapsed());
    }
    times.0.sort_unstable();
    times.1.sort_unstable();
    Ok((times.0[ROUNDS / 2], times.1[ROUNDS / 2]))
}

fn main() -> Result<(), Error> {
    let mut out = io::stdout();
    let mut sums = Vec::new();
    for leases in [0, 60_000] {
        let folder = tempfile::tempdir().expect("folder");
        let (add, del) = measure(folder.path(), leases)?;
        writeln!(out, "{leases:6} leases: ADD {add:?}, DEL {del:?} (median)").expect("stdout");
        sums.push(add + del);
    }
    let ratio = sums[1].as_secs_f64() / sums[0].as_secs_f64();
    writeln!(out, "ratio of ADD and DEL: {ratio:.2}").expect("stdout");
    assert!(ratio <= 1.2, "60,000 leases must not be felt");
    Ok(())
}
