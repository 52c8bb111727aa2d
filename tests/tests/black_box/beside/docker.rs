//! Beside a real Docker: dockerd 20.10 runs on the same host and lets FORWARD drop. Published ports
//! and the way out of our containers work, in either order of start, whatever Docker makes later.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pontoon_lab::{
    Attachment, BOTH, Backend, Container, Daemon, Echo, Failure, HOST_V4, HOST_V6, Network,
    OUTSIDE_V4, OUTSIDE_V6, Outcome, Programs, Runtime, Scratch, Site, find, libraries, missing,
    target_dir, tcp,
};
use pontoon_netlink::{RouteSocket, Setup, VethSpec};
use serde_json::json;

const PLAIN: [&str; 2] = ["10.83.0.0/24", "fd00:83::/64"];
const LAN: [&str; 2] = ["10.84.0.0/24", "fd00:84::/64"];
const WAIT: Duration = Duration::from_secs(3);

/// dockerd with everything of it in a directory of its own.
struct Docker {
    // Before its directory.
    _daemon: Daemon,
    socket: PathBuf,
    _dir: Scratch,
}

impl Docker {
    fn start(site: &Site) -> Outcome<Self> {
        let root = target_dir()?.join("tools/dockerd-20.10");
        let program = root.join("usr/sbin/dockerd");
        if !program.exists() {
            return Err(missing("dockerd 20.10"));
        }
        let iptables = find("xtables-nft-multi").ok_or_else(|| missing("xtables-nft-multi"))?;
        let dir = Scratch::new("dockerd")?;
        let at = |name: &str| dir.path().join(name);
        for name in ["iptables", "ip6tables"] {
            symlink(&iptables, at(name)).map_err(Failure::act("link iptables"))?;
        }
        let path = [at(""), root.join("usr/sbin"), root.join("usr/bin")]
            .map(|dir| dir.display().to_string())
            .join(":");
        let socket = at("socket");
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("LD_LIBRARY_PATH", libraries(&root))
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .args(["--storage-driver", "vfs"]);
        let daemon = Daemon::start(&site.host, &mut command, &at("log"), || {
            ask(&socket, "GET /_ping", "").is_ok()
        })?;
        Ok(Self {
            _daemon: daemon,
            socket,
            _dir: dir,
        })
    }

    /// A network of Docker's own: it puts its rules to the head again.
    fn network(&self, name: &str) -> Outcome {
        let body = json!({ "Name": name, "Driver": "bridge" }).to_string();
        ask(&self.socket, "POST /networks/create", &body).map(drop)
    }
}

/// One question to Docker's API; the answer with its head.
fn ask(socket: &Path, what: &str, body: &str) -> Outcome<String> {
    let act = "ask dockerd";
    let mut stream = UnixStream::connect(socket).map_err(Failure::act(act))?;
    write!(
        stream,
        "{what} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .map_err(Failure::act(act))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(Failure::act(act))?;
    let code = answer.split(' ').nth(1).unwrap_or_default();
    if code.starts_with('2') {
        Ok(answer)
    } else {
        Err(Failure::new(format!("{what}: {answer}")))
    }
}

/// A container with a server on port 80, published on `port`.
struct Guest {
    container: Container,
    attachment: Attachment,
    port: u16,
    _server: Echo,
}

impl Guest {
    fn join(site: &Site, network: &Network, port: u16) -> Outcome<Self> {
        let container = Container::new("web")?;
        let mut attachment = Attachment::new(&container)
            .publish("", port, 80, "tcp")
            .publish("", port, 80, "udp");
        site.runtime().add(network, &mut attachment)?;
        let server = container.serve(80)?;
        Ok(Self {
            container,
            attachment,
            port,
            _server: server,
        })
    }

    /// It is reached from outside at its published port, and reaches the outside.
    #[track_caller]
    fn works(&self, site: &Site, when: &str) {
        let rules = || site.snapshot().map(|all| all.lines("rules").join("\n"));
        for (host, outside) in [(HOST_V4, OUTSIDE_V4), (HOST_V6, OUTSIDE_V6)] {
            for (name, ask) in BOTH {
                let target = SocketAddr::new(host, self.port);
                let answer = site.host.run_outside(|| ask(target, WAIT)).unwrap();
                assert!(
                    answer.is_ok(),
                    "{}, {when}: {name} from outside to {target}\n{}",
                    site.backend,
                    rules().unwrap()
                );
                let target = SocketAddr::new(outside, 80);
                let answer = self.container.run(|| ask(target, WAIT)).unwrap();
                assert!(
                    answer.is_ok(),
                    "{}, {when}: {name} from the container to {target}\n{}",
                    site.backend,
                    rules().unwrap()
                );
            }
        }
    }
}

fn iptables(site: &Site, arguments: &[&str]) -> Outcome<String> {
    let tool = find("xtables-nft-multi").ok_or_else(|| missing("xtables-nft-multi"))?;
    let mut command = Command::new(tool);
    site.host.command(command.arg("iptables").args(arguments))
}

/// FORWARD drops: without that nothing here would be shown.
fn drops(site: &Site) -> Outcome {
    let rules = iptables(site, &["-S", "FORWARD"])?;
    if rules.starts_with("-P FORWARD DROP") {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "Docker's FORWARD does not drop:\n{rules}"
        )))
    }
}

/// Docker is there first; then it makes a network of its own.
fn docker_first(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let docker = Docker::start(&site)?;
    drops(&site)?;
    let _beyond = site.host.serve_outside(80)?;
    for (name, subnets, keys) in [
        ("plain", PLAIN, json!({})),
        ("lan", LAN, json!({ "profile": "docker" })),
    ] {
        let network = site.firewalled(name, &subnets, keys);
        let web = Guest::join(&site, &network, 8080)?;
        web.works(&site, "after Docker");
        docker.network(&format!("theirs-{name}"))?;
        web.works(&site, "after a network of Docker's");
        let next = Guest::join(&site, &network, 8081)?;
        next.works(&site, "the second one");
        site.pontoon_ends(&["doctor"], 0)?;
        for guest in [&web, &next] {
            site.runtime().del(&network, &guest.attachment)?;
        }
    }
    // What Docker has is still there.
    drops(&site)?;
    drop(docker);
    Ok(())
}

/// We are there first; what Docker's drop stops then, the next ADD or the command lets pass again.
fn docker_last(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let _beyond = site.host.serve_outside(80)?;
    let network = site.firewalled("lan", &LAN, json!({ "profile": "docker" }));
    let web = Guest::join(&site, &network, 8080)?;
    web.works(&site, "before Docker");
    let _docker = Docker::start(&site)?;
    // Docker does so itself when it was it that switched forwarding on, as on a host that boots.
    iptables(&site, &["-P", "FORWARD", "DROP"])?;
    let next = Guest::join(&site, &network, 8081)?;
    web.works(&site, "before Docker, after the next ADD");
    next.works(&site, "the next one");
    site.pontoon_ends(&["doctor"], 0)?;
    for guest in [&web, &next] {
        site.runtime().del(&network, &guest.attachment)?;
    }
    Ok(())
}

#[test]
fn docker_was_there() -> Outcome {
    Backend::ALL.into_iter().try_for_each(docker_first)
}

#[test]
fn docker_comes_later() -> Outcome {
    Backend::ALL.into_iter().try_for_each(docker_last)
}

/// A container of another program: a port with this name on a bridge, and an address in a namespace at
/// the other end.
fn stranger(site: &Site, bridge: &str, port: &str, addresses: &[&str]) -> Outcome<Container> {
    let container = Container::new("stranger")?;
    let act = "plug a container of another program";
    let mut socket = site
        .host
        .run(RouteSocket::open)?
        .map_err(Failure::act(act))?;
    let master = socket.link_by_name(bridge).map_err(Failure::act(act))?;
    let netns = container.netns();
    let spec = VethSpec {
        master: master.map(|link| link.index),
        peer_mac: Some([2, 0x42, 0xac, 17, 0, 2]),
        ..VethSpec::new(port, "eth0", netns)
    };
    let veth = socket.create_veth(&spec).map_err(Failure::act(act))?;
    socket
        .take_veth_up(veth.index, &spec)
        .map_err(Failure::act(act))?;
    let mut cidrs = Vec::new();
    for address in addresses {
        cidrs.push(address.parse().map_err(Failure::act(act))?);
    }
    let mut inside = RouteSocket::open_in(netns).map_err(Failure::act(act))?;
    inside
        .configure(&Setup {
            lo_up: true,
            index: veth.peer_index,
            addresses: &cidrs,
            up: true,
            ..Setup::default()
        })
        .map_err(Failure::act(act))?;
    Ok(container)
}

fn ip(site: &Site, arguments: &str) -> Outcome {
    let mut command = Command::new("ip");
    site.host
        .command(command.args(arguments.split(' ')))
        .map(drop)
}

/// A network on a bridge that is there.
fn on(site: &Site, name: &str, bridge: &str, subnets: &[&str]) -> Network {
    site.network(name, bridge, subnets)
}

/// ADD and STATUS are refused, naming bridge and port, and nothing is changed by them.
#[track_caller]
fn refused(site: &Site, network: &Network, port: &str) {
    let before = site.snapshot().unwrap();
    let container = Container::new("late").unwrap();
    let mut attachment = Attachment::new(&container);
    let told = site.try_add(network, &mut attachment).unwrap();
    let told = told.expect("ADD on a bridge of another program");
    assert_eq!(told.code, 107, "{told:?}");
    for word in [network.bridge(), port, "sharedBridge"] {
        assert!(told.to_string().contains(word), "no {word}: {told}");
    }
    let told = site.runtime().status(network).unwrap_err();
    assert_eq!(told.code, 50, "{told:?}");
    before
        .same_as(&site.snapshot().unwrap(), "a refused ADD")
        .unwrap();
}

/// ADD works, and the container is reached from the host.
#[track_caller]
fn welcome(site: &Site, network: &Network) -> (Container, Attachment) {
    let (container, attachment) = site.join("late", network).unwrap();
    site.runtime().check(network, &attachment).unwrap();
    (container, attachment)
}

/// What dockerd made and gives addresses out on is refused by name; its container keeps its address.
fn docker0_is_dockers(backend: Backend) -> Outcome {
    let site = Site::new(backend)?;
    let _docker = Docker::start(&site)?;
    let web = stranger(&site, "docker0", "veth1a2b3c4", &["172.17.0.2/16"])?;
    let _server = web.serve(80)?;
    let target: SocketAddr = "172.17.0.2:80".parse().map_err(Failure::act("parse"))?;
    let answers = |when: &str| {
        for (name, ask) in BOTH {
            let answer = site.host.run(|| ask(target, WAIT)).unwrap();
            assert!(
                answer.is_ok(),
                "{backend}, {when}: {name} to Docker's container"
            );
        }
    };
    answers("before");
    for subnets in [&["172.17.0.0/16"][..], &["fd00:17::/64"], &PLAIN] {
        refused(&site, &on(&site, "dock", "docker0", subnets), "veth1a2b3c4");
    }
    answers("after a refused ADD");
    // Who says so gets an address there, from a part that Docker does not give out.
    let shared = on(&site, "dock", "docker0", &["172.17.0.0/16"])
        .with("bridge", "sharedBridge", json!(true))
        .with_ipam(
            "ranges",
            json!([[{ "subnet": "172.17.0.0/16", "rangeStart": "172.17.200.1" }]]),
        );
    let (container, attachment) = welcome(&site, &shared);
    let answer = container.run(|| tcp(target, WAIT))?;
    assert!(
        answer.is_ok(),
        "{backend}: from a sibling to Docker's container"
    );
    answers("beside a container of ours");
    site.runtime().del(&shared, &attachment)?;
    site.runtime().gc(&shared, &[])?;
    answers("after GC");
    Ok(())
}

#[test]
fn a_bridge_of_dockers_is_refused_unless_it_is_to_be_shared() -> Outcome {
    Backend::ALL.into_iter().try_for_each(docker0_is_dockers)
}

#[test]
fn a_bridge_of_the_admins_is_used_until_another_program_is_on_it() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let _beyond = site.host.neighbour()?;
    ip(&site, "link add lan0 address 02:00:00:00:00:55 type bridge")?;
    ip(&site, "link set lan0 up")?;
    // Bare, with an uplink, and with two networks of ours.
    let one = on(&site, "one", "lan0", &["10.85.0.0/24"]).with("bridge", "isGateway", json!(false));
    let two = on(&site, "two", "lan0", &["10.86.0.0/24"]).with("bridge", "isGateway", json!(false));
    let first = welcome(&site, &one);
    ip(&site, "link set eth1 master lan0")?;
    ip(&site, "link add tunnel0 type vxlan id 7 dstport 4789")?;
    ip(&site, "link set tunnel0 master lan0")?;
    let second = welcome(&site, &one);
    let third = welcome(&site, &two);
    // Containers and virtual machines of others, whichever way they are plugged in.
    ip(&site, "tuntap add tap0 mode tap")?;
    ip(&site, "link set tap0 master lan0")?;
    refused(&site, &one, "tap0");
    refused(&site, &two, "tap0");
    ip(&site, "link del tap0")?;
    let stranger = stranger(&site, "lan0", "veth0", &["10.85.0.2/24"])?;
    refused(&site, &one, "veth0");
    // An address that is written out is no guess.
    let fixed =
        on(&site, "fixed", "lan0", &["10.87.0.0/24"]).with("bridge", "isGateway", json!(false));
    let fixed = fixed.with(
        "bridge",
        "ipam",
        json!({ "type": "static", "addresses": [{ "address": "10.87.0.7/24" }] }),
    );
    let fourth = welcome(&site, &fixed);
    drop(stranger);
    for (network, (_, attachment)) in [
        (&one, &first),
        (&one, &second),
        (&two, &third),
        (&fixed, &fourth),
    ] {
        site.runtime().del(network, attachment)?;
    }
    Ok(())
}

#[test]
fn a_bridge_of_the_reference_plugin_is_used_on() -> Outcome {
    let site = Site::new(Backend::IptablesNft)?;
    let reference = Programs::reference("1.9.1")?;
    let theirs = Runtime::new(&site.host, &reference, site.runtime().path());
    let network = on(&site, "pods", "cni9", &["10.88.0.0/24"]).in_version("1.0.0");
    // A VLAN each on one bridge, or simply two networks: their leases lie side by side.
    let other = on(&site, "more", "cni9", &["10.89.0.0/24"])
        .in_version("1.0.0")
        .with("bridge", "isGateway", json!(false));
    let container = Container::new("theirs")?;
    let mut attachment = Attachment::new(&container);
    theirs.add(&network, &mut attachment)?;
    let (_own, own) = welcome(&site, &network);
    let (_second, second) = welcome(&site, &other);
    theirs.del(&network, &attachment)?;
    let (_third, third) = welcome(&site, &network);
    for (network, attachment) in [(&network, &own), (&other, &second), (&network, &third)] {
        site.runtime().del(network, attachment)?;
    }
    Ok(())
}
