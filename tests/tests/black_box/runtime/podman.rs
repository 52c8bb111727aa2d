//! A real podman 4.3 with its CNI backend: what it writes and sends by itself, answered by the
//! plugins under test. Every test ends with nothing left on the host.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pontoon_lab::{
    BOTH, Backend, Failure, HOST_V4, HOST_V6, IMAGE, NoReply, Outcome, Podman, Site, same,
};

const WAIT: Duration = Duration::from_secs(3);
/// For how long what must not come is waited for.
const SOON: Duration = Duration::from_millis(500);

/// Runs a test with every backend, each on a fresh host, and wants the host as before.
fn each(test: fn(&Site, &Podman<'_>) -> Outcome) -> Outcome {
    Backend::ALL.into_iter().try_for_each(|backend| {
        let tried = || {
            let site = Site::new(backend)?;
            let podman = Podman::new(&site)?;
            let before = podman.snapshot()?;
            let done = test(&site, &podman);
            podman.clear()?;
            done?;
            gone(&site, &podman, &before)
        };
        tried().map_err(|error| Failure::new(format!("{backend}: {error}")))
    })
}

/// Nothing of ours is left a second after the last container.
fn gone(site: &Site, podman: &Podman<'_>, before: &pontoon_lab::Snapshot) -> Outcome {
    let before = before.clone().without("sysctls");
    let look = || {
        // The default network is never removed: its bridge stays, as docker0 does.
        let now = podman.snapshot()?.without("sysctls");
        Ok(now.without_link("cni-podman0"))
    };
    before.settles(look, &format!("podman with {}", site.backend))
}

/// A published port is answered by the container of this name: asked from outside and from the
/// host itself, TCP and UDP.
#[track_caller]
fn published(site: &Site, port: u16, name: &str, addresses: &[IpAddr]) -> Outcome {
    let line = std::panic::Location::caller().line();
    for address in addresses {
        for (protocol, ask) in BOTH {
            let target = SocketAddr::new(*address, port);
            let what = format!("line {line}: {protocol} to {target}");
            let answer = site.host.run_outside(|| ask(target, WAIT))?;
            let answer = answer.map_err(|none| Failure::new(format!("{what}: {none}")))?;
            same(&what, &answer.server, name)?;
            let answer = site.host.run(|| ask(target, WAIT))?;
            let answer =
                answer.map_err(|none| Failure::new(format!("{what}, from the host: {none}")))?;
            same(&what, &answer.server, name)?;
        }
    }
    Ok(())
}

/// No process answers at this port.
#[track_caller]
fn closed(site: &Site, port: u16, address: IpAddr) -> Outcome {
    let line = std::panic::Location::caller().line();
    for (protocol, ask) in BOTH {
        let target = SocketAddr::new(address, port);
        if let Ok(reply) = site.host.run_outside(|| ask(target, SOON))? {
            return Err(Failure::new(format!(
                "line {line}: {protocol} to {target}: {reply:?}"
            )));
        }
    }
    Ok(())
}

/// The address a container has on a network, by what podman says.
fn address(podman: &Podman<'_>, name: &str, network: &str) -> Outcome<String> {
    let told = podman.inspect(name)?;
    told["NetworkSettings"]["Networks"][network]["IPAddress"]
        .as_str()
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{name} has no address on {network}: {told}")))
}

/// A page fetched in `name`, where a name must be found first.
fn fetched(podman: &Podman<'_>, name: &str, url: &str) -> Outcome {
    let page = podman.inside(name, &format!("timeout 10 wget -q -O - {url}"))?;
    same(&format!("{url} in {name}"), &page, "hello")
}

fn names(_: &Site, podman: &Podman<'_>) -> Outcome {
    podman.run(&["network", "create", "n"])?;
    let web = [
        "-d",
        "--name",
        "web",
        "--network",
        "n",
        "--network-alias",
        "www",
    ];
    let serve = [IMAGE, "httpd", "-f", "-p", "80", "-h", "/www"];
    let run: Vec<&str> = ["run"].into_iter().chain(web).chain(serve).collect();
    let id = podman.run(&run)?;
    podman.start("client", &["--network", "n"])?;
    let short = &id[..12];
    for name in ["web", "WEB", "www", "web.dns.podman", short] {
        fetched(podman, "client", &format!("http://{name}"))?;
    }
    // A network with IPv4 only: musl asks for both families.
    let own = address(podman, "web", "n")?;
    for name in ["web", "www", short] {
        same(
            name,
            &podman.inside("client", &format!("resolve {name}"))?,
            &own,
        )?;
    }
    // On another network it is unknown, until it is connected, under the alias of that network.
    podman.run(&["network", "create", "m"])?;
    podman.start("other", &["--network", "m"])?;
    let unknown = podman.inside("other", "resolve web.dns.podman")?;
    if unknown.contains(&own) {
        return Err(Failure::new("a name of another network is told"));
    }
    podman.run(&["network", "connect", "--alias", "store", "m", "web"])?;
    let second = address(podman, "web", "m")?;
    for name in ["web", "store"] {
        same(
            name,
            &podman.inside("other", &format!("resolve {name}"))?,
            &second,
        )?;
        fetched(podman, "other", &format!("http://{name}"))?;
    }
    podman.run(&["network", "disconnect", "m", "web"])?;
    let unknown = podman.inside("other", "resolve store.dns.podman")?;
    if unknown.contains(&second) {
        return Err(Failure::new("a name is told after its container left"));
    }
    fetched(podman, "client", "http://www")
}

fn ports(site: &Site, podman: &Podman<'_>) -> Outcome {
    podman.run(&["network", "create", "n"])?;
    let both = |host: &str, inside: &str| format!("{host}:{inside}");
    let (plain, range) = (both("8080", "80"), both("9000-9003", "9000-9003"));
    let udp = ["8080:80/udp", "9000-9003:9000-9003/udp"];
    podman.start(
        "web",
        &[
            "--network",
            "n",
            "-p",
            &plain,
            "-p",
            udp[0],
            "-p",
            &range,
            "-p",
            udp[1],
        ],
    )?;
    let serve = || -> Outcome<Vec<pontoon_lab::Echo>> {
        [80, 9000, 9001, 9002, 9003]
            .into_iter()
            .map(|port| podman.serve("web", port))
            .collect()
    };
    let all = || -> Outcome {
        for port in [8080, 9000, 9001, 9002, 9003] {
            published(site, port, "web", &[HOST_V4])?;
        }
        closed(site, 9004, HOST_V4)
    };
    let servers = serve()?;
    // The backend is that of the test, though no key names it.
    let native = |line: &&str| line.starts_with("nft inet pontoon");
    let rules = podman.snapshot()?;
    if rules.lines("rules").iter().any(native) != (site.backend == Backend::Nftables) {
        return Err(Failure::new("another backend has made the rules"));
    }
    all()?;
    // From the host by loopback too.
    for (protocol, ask) in BOTH {
        let target = SocketAddr::from(([127, 0, 0, 1], 8080));
        let answer = site.host.run(|| ask(target, WAIT))?;
        answer.map_err(|none| Failure::new(format!("{protocol} to {target}: {none}")))?;
    }
    // All rules are flushed; podman's own repair makes them again.
    site.flush()?;
    closed(site, 8080, HOST_V4)?;
    podman.run(&["network", "reload", "web"])?;
    all()?;
    drop(servers);
    podman.run(&["restart", "-t", "0", "web"])?;
    let servers = serve()?;
    all()?;
    drop(servers);
    podman.run(&["stop", "-t", "0", "web"])?;
    closed(site, 8080, HOST_V4)?;
    podman.run(&["start", "web"])?;
    let servers = serve()?;
    all()?;
    drop(servers);
    // A port that is taken is refused, and nothing of the second one is left behind.
    let before = podman.snapshot()?;
    let refused = podman.attempt(&[
        "run",
        "-d",
        "--name",
        "late",
        "--network",
        "n",
        "-p",
        &plain,
        IMAGE,
        "sleep",
        "100000",
    ])?;
    if refused.0 {
        return Err(Failure::new("a port is published twice"));
    }
    podman.run(&["rm", "-f", "-t", "0", "late"])?;
    before.same_as(&podman.snapshot()?, "a refused port")?;
    podman.run(&["rm", "-f", "-t", "0", "web"]).map(drop)
}

fn fixed(site: &Site, podman: &Podman<'_>) -> Outcome {
    let (mac, ip) = ("92:d0:c6:0a:29:33", "10.90.1.77");
    podman.run(&["network", "create", "--subnet", "10.90.1.0/24", "n"])?;
    podman.start(
        "web",
        &[
            "--network",
            "n",
            "--ip",
            ip,
            "--mac-address",
            mac,
            "-p",
            "8080:80",
            "-p",
            "8080:80/udp",
        ],
    )?;
    same("--ip", &address(podman, "web", "n")?, ip)?;
    let link = podman.inside("web", "cat /sys/class/net/eth0/address")?;
    same("--mac-address", &link, mac)?;
    let server = podman.serve("web", 80)?;
    published(site, 8080, "web", &[HOST_V4])?;
    drop(server);
    let taken = podman.attempt(&["run", "--rm", "--network", "n", "--ip", ip, IMAGE, "true"])?;
    if taken.0 {
        return Err(Failure::new("one address is given twice"));
    }
    // Both families, both fixed: podman sends them as a capability then.
    podman.run(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.90.2.0/24",
        "--subnet",
        "fd00:90:2::/64",
        "six",
    ])?;
    let (v4, v6) = ("10.90.2.66", "fd00:90:2::66");
    podman.start(
        "dual",
        &[
            "--network",
            "six",
            "--ip",
            v4,
            "--ip6",
            v6,
            "-p",
            "8081:80",
            "-p",
            "8081:80/udp",
        ],
    )?;
    let told = podman.inspect("dual")?["NetworkSettings"]["Networks"]["six"].clone();
    same("--ip", told["IPAddress"].as_str().unwrap_or_default(), v4)?;
    same(
        "--ip6",
        told["GlobalIPv6Address"].as_str().unwrap_or_default(),
        v6,
    )?;
    let server = podman.serve("dual", 80)?;
    published(site, 8081, "dual", &[HOST_V4, HOST_V6])?;
    drop(server);
    podman.start("client", &["--network", "six"])?;
    let found = podman.inside("client", "resolve dual | sort")?;
    same("both families", &found, &format!("{v4}\n{v6}"))
}

fn several(site: &Site, podman: &Podman<'_>) -> Outcome {
    // In either order of networks, of which podman calls the plugins in that of their names: the
    // port is published through the one that has a way out.
    for (inner, outer) in [("a-inner", "b-outer"), ("z-inner", "y-outer")] {
        podman.run(&["network", "create", "--internal", inner])?;
        podman.run(&["network", "create", outer])?;
        let both = format!("{inner},{outer}");
        podman.start(
            "web",
            &["--network", &both, "-p", "8080:80", "-p", "8080:80/udp"],
        )?;
        let server = podman.serve("web", 80)?;
        published(site, 8080, "web", &[HOST_V4])?;
        // Internal means that there is no way out, by this network alone.
        podman.start("shut", &["--network", inner])?;
        let beyond = site.host.serve_outside(80)?;
        let (open, shut) = (podman.netns("web")?, podman.netns("shut")?);
        for (protocol, ask) in BOTH {
            let target = SocketAddr::new(pontoon_lab::OUTSIDE_V4, 80);
            let act = "enter a container";
            let answer = open.run(|| ask(target, WAIT)).map_err(Failure::act(act))?;
            answer.map_err(|none| Failure::new(format!("{protocol} to {target}: {none}")))?;
            let answer = shut.run(|| ask(target, SOON)).map_err(Failure::act(act))?;
            if answer != Err(NoReply::Unreachable) && answer != Err(NoReply::Timeout) {
                return Err(Failure::new(format!(
                    "internal, and yet {protocol}: {answer:?}"
                )));
            }
            let within: IpAddr = address(podman, "web", inner)?
                .parse()
                .map_err(Failure::act("read an address"))?;
            let answer = shut
                .run(|| ask(SocketAddr::new(within, 80), WAIT))
                .map_err(Failure::act(act))?;
            answer.map_err(|none| Failure::new(format!("{protocol} within: {none}")))?;
        }
        drop((server, beyond));
        // The network that the port is published through goes: then the port is published no longer.
        podman.run(&["network", "disconnect", outer, "web"])?;
        closed(site, 8080, HOST_V4)?;
        podman.run(&["rm", "-f", "-t", "0", "web", "shut"])?;
    }
    handed_over(site, podman)
}

/// Two networks with a way out: one publishes, and the other takes over from it.
fn handed_over(site: &Site, podman: &Podman<'_>) -> Outcome {
    podman.run(&["network", "create", "first"])?;
    podman.run(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.90.2.0/24",
        "--subnet",
        "fd00:90:2::/64",
        "second",
    ])?;
    for leaves in ["first", "second"] {
        podman.start(
            "web",
            &[
                "--network",
                "first,second",
                "-p",
                "8080:80",
                "-p",
                "8080:80/udp",
            ],
        )?;
        let server = podman.serve("web", 80)?;
        published(site, 8080, "web", &[HOST_V4, HOST_V6])?;
        podman.run(&["network", "disconnect", leaves, "web"])?;
        published(site, 8080, "web", &[HOST_V4])?;
        podman.run(&["network", "connect", leaves, "web"])?;
        published(site, 8080, "web", &[HOST_V4, HOST_V6])?;
        site.flush()?;
        podman.run(&["network", "reload", "web"])?;
        published(site, 8080, "web", &[HOST_V4, HOST_V6])?;
        drop(server);
        podman.run(&["rm", "-f", "-t", "0", "web"])?;
        closed(site, 8080, HOST_V4)?;
        closed(site, 8080, HOST_V6)?;
    }
    Ok(())
}

fn pods(site: &Site, podman: &Podman<'_>) -> Outcome {
    podman.run(&["network", "create", "n"])?;
    podman.run(&[
        "pod",
        "create",
        "--name",
        "p",
        "--network",
        "n",
        "-p",
        "8080:80",
        "-p",
        "8080:80/udp",
    ])?;
    podman.start("one", &["--pod", "p"])?;
    podman.start("two", &["--pod", "p"])?;
    let server = podman.serve("two", 80)?;
    published(site, 8080, "two", &[HOST_V4])?;
    let (one, two) = (podman.netns("one")?, podman.netns("two")?);
    if !one.same_as(&two) {
        return Err(Failure::new(
            "containers of a pod have namespaces of their own",
        ));
    }
    drop(server);
    podman.start("client", &["--network", "n"])?;
    if podman.inside("client", "resolve p")?.is_empty() {
        return Err(Failure::new("a pod has no name"));
    }
    // The default network has no names, and works.
    podman.start(
        "plain",
        &["--network", "podman", "-p", "8081:80", "-p", "8081:80/udp"],
    )?;
    let server = podman.serve("plain", 80)?;
    published(site, 8081, "plain", &[HOST_V4])?;
    drop(server);
    podman.run(&["pod", "stop", "-t", "0", "p"])?;
    closed(site, 8080, HOST_V4)?;
    podman.run(&["pod", "start", "p"])?;
    let server = podman.serve("two", 80)?;
    published(site, 8080, "two", &[HOST_V4])?;
    drop(server);
    podman.run(&["pod", "rm", "-f", "-t", "0", "p"])?;
    closed(site, 8080, HOST_V4)
}

const COMPOSE: &str = "\
version: '3'
services:
  web:
    image: localhost/box:1
    command: [httpd, -f, -p, '80', -h, /www]
    ports: ['8090:80', '8091:81', '8091:81/udp']
    networks: [back, front]
  client:
    image: localhost/box:1
    command: [sleep, '100000']
    networks: [front]
networks:
  back: {internal: true}
  front: {}
";

fn composed(site: &Site, podman: &Podman<'_>) -> Outcome {
    let dir = pontoon_lab::Scratch::new("compose")?;
    fs::write(dir.path().join("compose.yml"), COMPOSE)
        .map_err(Failure::act("write compose.yml"))?;
    podman.compose(dir.path(), &["up", "-d"])?;
    fetched(podman, "made_client_1", "http://web")?;
    let server = podman.serve("made_web_1", 81)?;
    published(site, 8091, "made_web_1", &[HOST_V4])?;
    drop(server);
    podman.compose(dir.path(), &["down", "-t", "0"])?;
    closed(site, 8091, HOST_V4)
}

#[test]
fn names_and_aliases_follow_containers() -> Outcome {
    each(names)
}

#[test]
fn ports_live_as_long_as_their_container() -> Outcome {
    each(ports)
}

#[test]
fn fixed_addresses_of_both_families() -> Outcome {
    each(fixed)
}

#[test]
fn several_networks_one_internal() -> Outcome {
    each(several)
}

#[test]
fn pods_and_the_default_network() -> Outcome {
    each(pods)
}

#[test]
fn compose_with_an_internal_network_first() -> Outcome {
    each(composed)
}
