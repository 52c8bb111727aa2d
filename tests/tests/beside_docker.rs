//! Beside a real Docker: dockerd 20.10 runs on the same host and lets FORWARD drop. Published ports
//! and the way out of our containers work, whoever came first, whatever Docker makes later.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use xtask::{
    Attachment, BOTH, Backend, Container, Daemon, Echo, Failure, HOST_V4, HOST_V6, Network,
    OUTSIDE_V4, OUTSIDE_V6, Outcome, Scratch, Site, find, libraries, missing, target_dir,
};

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
