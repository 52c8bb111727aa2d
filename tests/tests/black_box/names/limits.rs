//! The resolver at its bounds: few descriptors, more questions and more connections than one client may
//! have.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::socket as sys;
use pontoon_lab::{Backend, Failure, Outcome, Site, same};
use serde_json::json;

use super::churn::question;

/// For how long an answer is waited for: far longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let pid = status["worker"].as_u64().unwrap_or_default();
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
    // The next worker has the keeper's limits.
    let keeper = status["pid"].to_string();
    let line = format!("prlimit --pid {keeper} --nofile=30 && kill -9 {pid}");
    let done = Command::new("sh")
        .args(["-c", &line])
        .status()
        .map_err(Failure::act("run prlimit"))?;
    same("prlimit", &done.to_string(), "exit status: 0")?;
    let begun = Instant::now();
    let pid = loop {
        let now = site.pontoon_json(&["dns", "status"]);
        let now = now.map_or(0, |status| status["worker"].as_u64().unwrap_or_default());
        if now != 0 && now != pid {
            break now;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new("there is no other worker"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
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

/// A connection from an address, and whether the resolver answers by it.
fn connection(from: IpAddr, to: SocketAddr) -> Outcome<Option<TcpStream>> {
    let act = "connect";
    let text = |error: &dyn std::fmt::Display| Failure::new(format!("{act}: {from}: {error}"));
    let family = match from {
        IpAddr::V4(_) => sys::AddressFamily::Inet,
        IpAddr::V6(_) => sys::AddressFamily::Inet6,
    };
    let fd = sys::socket(family, sys::SockType::Stream, sys::SockFlag::empty(), None)
        .map_err(|error| text(&error))?;
    let own = sys::SockaddrStorage::from(SocketAddr::new(from, 0));
    sys::bind(fd.as_raw_fd(), &own).map_err(|error| text(&error))?;
    sys::connect(fd.as_raw_fd(), &sys::SockaddrStorage::from(to)).map_err(|error| text(&error))?;
    let mut stream = TcpStream::from(fd);
    let packet = question(7, "web");
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&packet);
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(|error| text(&error))?;
    let mut reply = [0; 2];
    // What is not served is closed.
    let served = stream.write_all(&framed).is_ok() && stream.read_exact(&mut reply).is_ok();
    Ok(served.then_some(stream))
}

#[test]
fn connections_are_counted_by_attachment_and_not_by_address() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("many", 75, json!({}));
    let (greedy, first) = site.join_named("greedy", &network)?;
    let (other, second) = site.join_named("web", &network)?;
    let parse = |text: Option<String>| -> Outcome<IpAddr> {
        text.unwrap_or_default()
            .parse()
            .map_err(Failure::act("parse an address"))
    };
    let [v4, v6] = [false, true].map(|v6| parse(first.address(v6)));
    let [at4, at6] = [false, true].map(|v6| parse(first.gateway(v6)));
    let ways = [(v4?, at4?), (v6?, at6?)];
    let held = greedy.run(|| -> Outcome<Vec<TcpStream>> {
        let mut held = Vec::new();
        for number in 0..33 {
            let (from, to) = ways[number % 2];
            let served = connection(from, SocketAddr::new(to, 53))?;
            if served.is_some() != (number < 32) {
                return Err(Failure::new(format!("connection {number}: {served:?}")));
            }
            held.extend(served);
        }
        Ok(held)
    })??;
    let own = format!("NOERROR {}", second.address(false).unwrap_or_default());
    same("another's", &other.dig(&["+tcp", "web.dns.pontoon"])?, &own)?;
    // Addresses that it takes for itself are together one more.
    greedy.output("ip", &["link", "set", "eth0", "up"])?;
    let stolen: Vec<String> = (1..=40)
        .map(|number| format!("10.75.200.{number}"))
        .collect();
    for address in &stolen {
        greedy.output(
            "ip",
            &["address", "add", &format!("{address}/16"), "dev", "eth0"],
        )?;
    }
    let strangers = greedy.run(|| -> Outcome<Vec<TcpStream>> {
        let mut held = Vec::new();
        for address in &stolen {
            held.extend(connection(
                parse(Some(address.clone()))?,
                SocketAddr::new(ways[0].1, 53),
            )?);
        }
        Ok(held)
    })??;
    same("strangers served", &strangers.len().to_string(), "32")?;
    same("another's", &other.dig(&["+tcp", "web.dns.pontoon"])?, &own)?;
    drop((held, strangers));
    site.runtime().del(&network, &second)?;
    Ok(site.runtime().del(&network, &first)?)
}
