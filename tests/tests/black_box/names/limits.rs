//! The resolver at its bounds: few descriptors, and more questions than one client may ask.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{Backend, Failure, Outcome, Site, same};
use serde_json::json;

/// Seconds of processor time that a process has used, in hundredths.
fn ticks(pid: u64) -> Outcome<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/stat")).map_err(Failure::act("read stat"))?;
    let numbers: Vec<u64> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse().ok())
        .collect();
    Ok(numbers.iter().sum())
}

/// Connections that cannot be accepted stay ready: the resolver must not do nothing but ask for
/// them, and goes on answering.
#[test]
fn few_descriptors_are_no_busy_loop() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("few", 89, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    let status = site.pontoon_json(&["dns", "status"])?;
    let pid = status["pid"].as_u64().unwrap_or_default();
    let limit =
        fs::read_to_string(format!("/proc/{pid}/limits")).map_err(Failure::act("read limits"))?;
    let files: Vec<u64> = limit
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .into_iter()
        .flat_map(str::split_whitespace)
        .filter_map(|word| word.parse().ok())
        .collect();
    if files.len() != 2 || files[0] < files[1].min(16_384) {
        return Err(Failure::new(format!("the limit was not raised: {files:?}")));
    }
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), "--nofile=30"])
        .status()
        .map_err(Failure::act("run prlimit"))?;
    same("prlimit", &done.to_string(), "exit status: 0")?;
    let gateway = attachment.gateway(false).unwrap_or_default();
    let at = format!("{gateway}:53");
    let connections: Vec<_> = web.run(|| {
        (0..30)
            .map(|_| {
                TcpStream::connect_timeout(
                    &at.parse().expect("an address"),
                    Duration::from_millis(500),
                )
            })
            .collect()
    })?;
    let before = ticks(pid)?;
    std::thread::sleep(Duration::from_secs(2));
    let used = ticks(pid)? - before;
    if used > 20 {
        return Err(Failure::new(format!(
            "{used} hundredths of two idle seconds"
        )));
    }
    let server = format!("@{gateway}");
    let own = format!("NOERROR {}", attachment.address(false).unwrap_or_default());
    same("by UDP meanwhile", &web.dig(&[&server, "web"])?, &own)?;
    drop(connections);
    same("by TCP after", &web.dig(&[&server, "+tcp", "web"])?, &own)?;
    Ok(site.runtime().del(&network, &attachment)?)
}
