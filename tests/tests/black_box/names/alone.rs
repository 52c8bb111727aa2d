//! The resolver without a container to serve, and as a collector of metrics sees it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{Backend, Failure, Outcome, Site, same};
use serde_json::json;

/// When all containers are gone without a DEL, the resolver goes too, and the next ADD has another.
#[test]
fn a_resolver_of_the_dead_ends() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("front", 86, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    let pid = site.pontoon_json(&["dns", "status"])?["pid"].to_string();
    let process = PathBuf::from(format!("/proc/{pid}"));
    // Longer than it takes to look, with a container that is alive.
    thread::sleep(Duration::from_secs(6));
    if !process.exists() {
        return Err(Failure::new("it went while a container was there"));
    }
    web.kill()?;
    let killed = Instant::now();
    while process.exists() {
        if killed.elapsed() > Duration::from_secs(15) {
            return Err(Failure::new("it is still there"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    let (next, own) = site.join_named("next", &network)?;
    let answer = next.dig(&["next.dns.pontoon"])?;
    let own = own.address(false).unwrap_or_default();
    same(
        "the name of the next one",
        &answer,
        &format!("NOERROR {own}"),
    )?;
    Ok(site.runtime().del(&network, &attachment)?)
}

/// Prometheus's text over the control socket, with and without HTTP.
#[test]
fn figures_for_a_collector() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("front", 87, json!({}));
    let (web, _attachment) = site.join_named("web", &network)?;
    web.dig(&["web.dns.pontoon"])?;
    let ask = |request: &str| -> Outcome<String> {
        let talk = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(site.host.state_dir().join("dns/control"))?;
            stream.write_all(request.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        talk().map_err(Failure::act(format!("ask for {request:?}")))
    };
    let plain = ask("metrics\n")?;
    let told = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let Some((head, body)) = told.split_once("\r\n\r\n") else {
        return Err(Failure::new(format!("no HTTP: {told:?}")));
    };
    let length = format!("Content-Length: {}", body.len());
    let whole = head.starts_with("HTTP/1.0 200 OK") && head.contains(&length);
    let named = |text: &str| {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        text.contains("# TYPE ") && lines.any(|line| line.ends_with(" 1"))
    };
    if !whole || !named(body) || !named(&plain) {
        return Err(Failure::new(format!("{told:?}\n{plain:?}")));
    }
    Ok(())
}
