//! A published range of ten thousand ports, as media servers ask for: every backend takes it, its
//! ends are reached and what is beside them is not, and DEL leaves nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pontoon_lab::{Attachment, BOTH, Backend, Container, HOST_V4, HOST_V6, Outcome, Site};
use serde_json::json;

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

fn range(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let before = site.snapshot()?;
    let lan = site.network("lan", "br-lan", &["10.87.0.0/24", "fd00:87::/64"]);
    let container = Container::new("media")?;
    let mut attachment = Attachment::new(&container);
    let mapping = |protocol| json!({ "hostPort": FIRST, "containerPort": 30_000, "range": COUNT, "protocol": protocol });
    let mappings = json!([mapping("tcp"), mapping("udp")]);
    attachment
        .capabilities
        .insert("portMappings".to_owned(), mappings);
    let started = Instant::now();
    site.runtime().add(&lan, &mut attachment)?;
    let added = started.elapsed();
    let at = Instant::now();
    site.runtime().check(&lan, &attachment)?;
    eprintln!("check {:?}", at.elapsed());
    let servers = [30_000, 30_000 + COUNT - 1].map(|port| container.serve(port));
    let [_first, _last] = servers;
    let (_first, _last) = (_first?, _last?);
    for host in [HOST_V4, HOST_V6] {
        for (port, reached) in [
            (FIRST - 1, false),
            (FIRST, true),
            (FIRST + COUNT - 1, true),
            (FIRST + COUNT, false),
        ] {
            for (name, ask) in BOTH {
                let target = SocketAddr::new(host, port);
                let wait = Duration::from_millis(if reached { 3_000 } else { 200 });
                let answer = site.host.run_outside(|| ask(target, wait))?;
                assert_eq!(answer.is_ok(), reached, "{backend}: {name} to {target}");
            }
        }
    }
    let started = Instant::now();
    site.runtime().del(&lan, &attachment)?;
    eprintln!(
        "{backend}: ADD of {COUNT} ports by TCP and UDP {added:.0?}, DEL {:.0?}",
        started.elapsed()
    );
    site.nothing_left(&before, &[&lan], "DEL")
}

#[test]
fn ten_thousand_ports_at_once() -> Outcome {
    Backend::ALL.into_iter().try_for_each(range)
}
