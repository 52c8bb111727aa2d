//! What is not ours is asked of others: of good servers, of bad ones, and of none.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, NameServer, Network, Outcome, Site, WRONG, same,
};
use serde_json::json;

const GOOD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
/// Servers of the host's own, on its loopback.
const FIRST_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
const SECOND_AT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12));

struct Scene {
    site: Site,
    network: Network,
    container: Container,
    attachment: Attachment,
    gateway: String,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let site = Site::new(Backend::Nftables)?;
        let network = site.named_network("fwd", 83, json!({}));
        let (container, attachment) = site.join_named("client", &network)?;
        let gateway = attachment
            .gateway(false)
            .ok_or_else(|| Failure::new("no gateway"))?;
        Ok(Self {
            site,
            network,
            container,
            attachment,
            gateway,
        })
    }

    fn resolv_conf(&self) -> PathBuf {
        self.site.leases.path().join("resolv.conf")
    }

    /// Replaces the host's file as a network manager does.
    fn servers(&self, servers: &[IpAddr]) -> Outcome {
        let text: String = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        let draft = self.resolv_conf().with_extension("new");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, self.resolv_conf()))
            .map_err(Failure::act("write resolv.conf"))
    }

    fn ask(&self, arguments: &[&str]) -> Outcome<String> {
        let at = format!("@{}", self.gateway);
        let mut all = vec![at.as_str()];
        all.extend_from_slice(arguments);
        self.container.dig(&all)
    }

    fn done(&self) -> Outcome {
        Ok(self.site.runtime().del(&self.network, &self.attachment)?)
    }
}

#[test]
fn no_wrong_reply_reaches_a_client() -> Outcome {
    let scene = Scene::new()?;
    let _first = NameServer::start(scene.site.host.netns(), FIRST_AT, GOOD)?;
    scene.servers(&[FIRST_AT])?;
    let good = format!("NOERROR {GOOD}");
    for tcp in ["+notcp", "+tcp"] {
        for name in [
            "plain",
            "wrongid",
            "wrongquestion",
            "wrongtype",
            "query",
            "garbage",
            "truncated",
        ] {
            let name = format!("{name}-{}.test", &tcp[1..]);
            let answer = scene.ask(&[tcp, &name])?;
            if answer.contains(&WRONG.to_string()) {
                return Err(Failure::new(format!("{name}: a wrong reply was believed")));
            }
            same(&name, &answer, &good)?;
        }
        same(
            "an alias alone",
            &scene.ask(&[tcp, "cname.test"])?,
            "NOERROR target.test.",
        )?;
        same(
            "another type",
            &scene.ask(&[tcp, "plain.test", "TYPE65"])?,
            "NOERROR",
        )?;
        same("NXDOMAIN", &scene.ask(&[tcp, "nxdomain.test"])?, "NXDOMAIN")?;
        same("SERVFAIL", &scene.ask(&[tcp, "servfail.test"])?, "SERVFAIL")?;
        same("REFUSED", &scene.ask(&[tcp, "refused.test"])?, "REFUSED")?;
        // 64 kB by TCP, however it is asked for: a truncated reply makes dig ask again over TCP.
        let big = scene.ask(&[tcp, "big.test"])?;
        let count = big.split_whitespace().count() - 1;
        if count != 4000 {
            return Err(Failure::new(format!(
                "{count} of 4000 addresses came by {tcp}"
            )));
        }
    }
    scene.done()
}

#[test]
fn the_next_server_is_asked_and_the_dead_one_last() -> Outcome {
    let scene = Scene::new()?;
    let netns = scene.site.host.netns();
    let first = NameServer::start(netns, FIRST_AT, GOOD)?;
    let second = NameServer::start(netns, SECOND_AT, SECOND)?;
    scene.servers(&[FIRST_AT, SECOND_AT])?;
    same(
        "the first",
        &scene.ask(&["plain.test"])?,
        &format!("NOERROR {GOOD}"),
    )?;
    // Both say so, and both are asked.
    same("SERVFAIL", &scene.ask(&["servfail.test"])?, "SERVFAIL")?;
    if (first.asked("servfail.test"), second.asked("servfail.test")) != (1, 1) {
        return Err(Failure::new("SERVFAIL was final"));
    }
    drop(first);
    // A closed port is heard at once.
    same(
        "a closed port",
        &scene.ask(&["closed.test"])?,
        &format!("NOERROR {SECOND}"),
    )?;
    let deaf = netns
        .run(|| UdpSocket::bind((FIRST_AT, 53)))
        .map_err(Failure::act("enter the host"))?
        .map_err(Failure::act("bind"))?;
    deaf.set_read_timeout(Some(Duration::from_millis(50)))
        .map_err(Failure::act("set a timeout"))?;
    // Known dead, so not asked before the other for a while: what it hears of a question, it hears
    // later than the other, which may be slow itself on a busy machine.
    let done = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        let listener = scope.spawn(|| {
            let mut heard = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let mut query = [0; 512];
                if let Ok(length) = deaf.recv(&mut query) {
                    heard.push((query[..length].to_vec(), Instant::now()));
                }
            }
            heard
        });
        let asked = (0..5).try_for_each(|number| {
            let name = format!("n{number}.test");
            same(&name, &scene.ask(&[&name])?, &format!("NOERROR {SECOND}"))
        });
        done.store(true, Ordering::Relaxed);
        let heard = listener.join();
        let heard = heard.map_err(|_| Failure::new("the deaf server panicked"))?;
        asked.map(|()| heard)
    })?;
    for number in 0..5 {
        let label = format!("\u{2}n{number}\u{4}test").into_bytes();
        let asked = second.first_asked(&format!("n{number}.test"));
        let early = heard.iter().any(|(query, when)| {
            let this = query.windows(label.len()).any(|part| part == label);
            this && asked.is_none_or(|asked| *when < asked)
        });
        if early {
            return Err(Failure::new("the dead server was asked first again"));
        }
    }
    drop(deaf);
    // A silent server: four seconds in all, then SERVFAIL.
    let started = Instant::now();
    same("silence", &scene.ask(&["silent.test"])?, "SERVFAIL")?;
    let took = started.elapsed();
    if took < Duration::from_millis(900) || took > Duration::from_millis(5500) {
        return Err(Failure::new(format!("silence took {took:?}")));
    }
    scene.done()
}

/// A silent server is waited for a second, a closed port is not. On a busy machine a question takes
/// long for other reasons: one of three is in time.
#[test]
fn a_closed_port_is_not_waited_for() -> Outcome {
    let mut took = Vec::new();
    for _ in 0..3 {
        let scene = Scene::new()?;
        let _second = NameServer::start(scene.site.host.netns(), SECOND_AT, SECOND)?;
        scene.servers(&[FIRST_AT, SECOND_AT])?;
        let started = Instant::now();
        same(
            "a closed port",
            &scene.ask(&["closed.test"])?,
            &format!("NOERROR {SECOND}"),
        )?;
        took.push(started.elapsed());
        scene.done()?;
        if took.last() <= Some(&Duration::from_millis(900)) {
            return Ok(());
        }
    }
    Err(Failure::new(format!(
        "a closed port was waited for: {took:?}"
    )))
}

#[test]
fn the_hosts_file_is_followed() -> Outcome {
    let scene = Scene::new()?;
    let netns = scene.site.host.netns();
    let _first = NameServer::start(netns, FIRST_AT, GOOD)?;
    let _second = NameServer::start(netns, SECOND_AT, SECOND)?;
    let started = Instant::now();
    same("no file", &scene.ask(&["a.test"])?, "SERVFAIL")?;
    if started.elapsed() > Duration::from_millis(900) {
        return Err(Failure::new("without a server SERVFAIL takes its time"));
    }
    scene.servers(&[FIRST_AT])?;
    same(
        "a file",
        &scene.ask(&["a.test"])?,
        &format!("NOERROR {GOOD}"),
    )?;
    scene.servers(&[SECOND_AT])?;
    same(
        "by rename",
        &scene.ask(&["a.test"])?,
        &format!("NOERROR {SECOND}"),
    )?;
    fs::write(scene.resolv_conf(), format!("nameserver {FIRST_AT}\n"))
        .map_err(Failure::act("write resolv.conf"))?;
    same(
        "in place",
        &scene.ask(&["a.test"])?,
        &format!("NOERROR {GOOD}"),
    )?;
    // We ourselves are no server.
    let ourselves: IpAddr = scene.gateway.parse().map_err(Failure::act("parse"))?;
    scene.servers(&[ourselves])?;
    same("ourselves", &scene.ask(&["b.test"])?, "SERVFAIL")?;
    scene.done()
}

#[test]
fn the_same_question_is_asked_once() -> Outcome {
    let scene = Scene::new()?;
    let server = NameServer::start(scene.site.host.netns(), FIRST_AT, GOOD)?;
    scene.servers(&[FIRST_AT])?;
    let good = format!("NOERROR {GOOD}");
    // Two seconds late, so that the others come meanwhile; the first attempt ends after one.
    thread::scope(|scope| {
        let askers: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| scene.ask(&["slow.test"])))
            .collect();
        askers.into_iter().try_for_each(|asker| {
            let answer = asker.join().map_err(|_| Failure::new("a panic"))??;
            same("a slow server", &answer, &good)
        })
    })?;
    let asked = server.asked("slow.test");
    if asked > 4 {
        return Err(Failure::new(format!(
            "ten questions were {asked} for the server"
        )));
    }
    // Another one, for the first is still busy being slow.
    let server = NameServer::start(scene.site.host.netns(), SECOND_AT, GOOD)?;
    scene.servers(&[SECOND_AT])?;
    for name in ["cached.test", "CACHED.test", "cached.TEST"] {
        same(name, &scene.ask(&[name])?, &good)?;
    }
    if server.asked("cached.test") != 1 {
        return Err(Failure::new("the cache was not asked"));
    }
    scene.done()
}

#[test]
fn own_servers_are_asked_from_the_container() -> Outcome {
    let scene = Scene::new()?;
    let _host = NameServer::start(scene.site.host.netns(), FIRST_AT, GOOD)?;
    scene.servers(&[FIRST_AT])?;
    let container = Container::new("own")?;
    let mut attachment = Attachment::new(&container).named("own");
    attachment.capabilities.insert(
        "dns".into(),
        json!({ "Servers": [FIRST_AT], "Searches": ["own.test"], "Options": null }),
    );
    let result = scene.site.runtime().add(&scene.network, &mut attachment)?;
    // On the container's own loopback, which is up by now, and which only the container reaches.
    let _inside = NameServer::start(container.netns(), FIRST_AT, SECOND)?;
    same(
        "search",
        &result["dns"]["search"].to_string(),
        "[\"dns.pontoon\",\"own.test\"]",
    )?;
    let at = format!("@{}", scene.gateway);
    let answer = container.dig(&[&at, "a.test"])?;
    if answer != format!("NOERROR {SECOND}") {
        let direct = container.dig(&[&format!("@{FIRST_AT}"), "a.test"])?;
        return Err(Failure::new(format!(
            "its own server: {answer:?} by the resolver, {direct:?} by itself"
        )));
    }
    let answer = container.dig(&[&at, "client"])?;
    let client = scene.attachment.address(false).unwrap_or_default();
    same("names of ours", &answer, &format!("NOERROR {client}"))?;
    same(
        "another's",
        &scene.ask(&["a.test"])?,
        &format!("NOERROR {GOOD}"),
    )?;
    scene.site.runtime().del(&scene.network, &attachment)?;
    scene.done()
}

/// A resolver of the host at every address, and a container that publishes port 53 at every address:
/// neither is in the way.
fn port_53(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let _hosts_own = site
        .host
        .netns()
        .run(|| -> std::io::Result<_> {
            Ok((UdpSocket::bind((any, 53))?, TcpListener::bind((any, 53))?))
        })
        .map_err(Failure::act("enter the host"))?
        .map_err(Failure::act("bind port 53"))?;
    let network = site.named_network("fifty", 84, json!({}));
    let server = Container::new("server")?;
    let mut published = Attachment::new(&server)
        .named("server")
        .publish("", 53, 53, "udp")
        .publish("", 53, 53, "tcp");
    site.runtime().add(&network, &mut published)?;
    let (client, attachment) = site.join_named("client", &network)?;
    let address = published.address(false).unwrap_or_default();
    let at = format!("@{}", attachment.gateway(false).unwrap_or_default());
    for tcp in ["+notcp", "+tcp"] {
        let answer = client.dig(&[&at, tcp, "server"])?;
        same(
            &format!("{backend} {tcp}"),
            &answer,
            &format!("NOERROR {address}"),
        )?;
    }
    site.runtime().del(&network, &attachment)?;
    Ok(site.runtime().del(&network, &published)?)
}

#[test]
fn servers_on_port_53_of_the_host_are_not_in_the_way() -> Outcome {
    Backend::ALL.into_iter().try_for_each(port_53)
}
