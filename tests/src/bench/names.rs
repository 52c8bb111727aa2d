//! The resolver beside others: unbound, dnsmasq and aardvark-dns, each with the same ten thousand
//! names on the same host, asked by dnsperf from a container.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{
    Attachment, Backend, Container, Daemon, Failure, Host, NameServer, Network, OUTSIDE_V4,
    Outcome, Programs, Runtime, Scratch, libraries, target_dir,
};
use serde_json::{Value, json};

use super::table::{Bar, Row, Table};
use crate::build::root;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const NAMES: usize = 10_000;
/// How long dnsperf asks, in seconds.
const SECONDS: u32 = 5;
/// Questions of each kind whose answers are timed.
const TIMED: usize = 500;
/// Clock ticks a second of /proc (`USER_HZ`).
const TICK: f64 = 100.0;

/// A name server that runs, and how it is asked.
struct Server {
    name: &'static str,
    pid: u32,
    port: u16,
    /// What a local name ends with.
    domain: &'static str,
    /// It answers what is not local too.
    forwards: bool,
}

/// What ends a server when it is dropped.
struct Kept {
    _daemon: Option<Daemon>,
    /// One that is nobody's child any more.
    background: Option<Pid>,
}

impl Kept {
    fn of(daemon: Daemon) -> Self {
        Self {
            _daemon: Some(daemon),
            background: None,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(pid) = self.background {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}

/// What was measured of one.
struct Figures {
    name: &'static str,
    local: f64,
    cached: Option<f64>,
    memory: f64,
}

pub(crate) fn measure(table: &mut Table, programs: &Programs) -> Outcome {
    let scene = Scene::new(programs)?;
    let ours = scene.ours()?;
    let mut figures = vec![scene.figures(&ours)?];
    let (more, most) = scene.forwarding(&ours)?;
    for start in [Scene::unbound, Scene::dnsmasq, Scene::aardvark] {
        let (server, _kept) = start(&scene)?;
        figures.push(scene.figures(&server)?);
    }
    let (own, others) = figures
        .split_first()
        .ok_or_else(|| Failure::new("nothing was measured"))?;
    for other in others {
        table.push(Row {
            what: format!("names: CPU per local query, beside {}", other.name),
            reference: Some(other.local),
            ours: own.local,
            unit: "µs",
            bar: match other.name {
                "unbound" => Bar::at_most(1.0, own.local / other.local, "of unbound's"),
                _ => Bar::None,
            },
        });
    }
    for other in others {
        if let (Some(theirs), Some(ours)) = (other.cached, own.cached) {
            table.push(Row {
                what: format!("names: CPU per cached query, beside {}", other.name),
                reference: Some(theirs),
                ours,
                unit: "µs",
                bar: Bar::None,
            });
        }
    }
    for other in others {
        table.push(Row {
            what: format!("names: memory with {NAMES} names, beside {}", other.name),
            reference: Some(other.memory),
            ours: own.memory,
            unit: "kB",
            bar: Bar::None,
        });
    }
    table.push(Row {
        what: "names: a forwarded query, and the same asked directly".to_owned(),
        reference: Some(most),
        ours: more,
        unit: "µs",
        bar: Bar::Asked(
            format!("{:.0} µs more, at most 100", more - most),
            more - most <= 100.0,
        ),
    });
    Ok(())
}

struct Scene {
    host: Host,
    client: Container,
    tools: PathBuf,
    files: Scratch,
    // Held alive.
    _containers: Vec<Container>,
    _upstream: NameServer,
}

/// The address of a name by its number; 0.2 and 0.3 are those of containers.
fn address(number: usize) -> Ipv4Addr {
    let [.., high, low] = (number + 256).to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

impl Scene {
    fn new(programs: &Programs) -> Outcome<Self> {
        let output = Command::new("bash")
            .arg(root().join("tests/scripts/nameservers.sh"))
            .arg(target_dir()?.join("tools"))
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(Failure::act("run nameservers.sh"))?;
        if !output.status.success() {
            return Err(Failure::new(
                "nameservers.sh failed: there is nobody to compare with",
            ));
        }
        let tools = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let (host, files) = (Host::new()?, Scratch::new("names")?);
        let upstream = NameServer::start(host.outside(), OUTSIDE_V4, Ipv4Addr::new(192, 0, 2, 1))?;
        let conf = files.path().join("resolv.conf");
        fs::write(&conf, format!("nameserver {OUTSIDE_V4}\n"))
            .map_err(Failure::act("write resolv.conf"))?;
        let subnets = ["10.88.0.0/16"];
        let backend = Backend::Nftables;
        let mut list = Network::docker("names", "names0", &subnets, backend, files.path())
            .list()
            .clone();
        let dns = json!({ "type": "dns", "backend": backend.key(), "resolvConf": conf });
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(dns);
        }
        let network = Network::from_list(list);
        let runtime = Runtime::new(&host, programs, "");
        let mut containers = Vec::new();
        for name in ["client", "web"] {
            let container = Container::new(name)?;
            let mut attachment = Attachment::new(&container).named(name);
            runtime.add(&network, &mut attachment)?;
            containers.push(container);
        }
        let client = containers.remove(0);
        Ok(Self {
            host,
            client,
            tools,
            files,
            _containers: containers,
            _upstream: upstream,
        })
    }

    fn status(&self) -> Outcome<Value> {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.host.state_dir().join("dns/control"))?;
            stream.write_all(b"status\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let text = ask().map_err(Failure::act("ask the resolver"))?;
        serde_json::from_str(&text).map_err(Failure::act("read the resolver's status"))
    }

    /// Ours, once it knows all names.
    fn ours(&self) -> Outcome<Server> {
        let folder = self.host.state_dir().join("dns/records/names");
        let act = "write records";
        let entries = fs::read_dir(&folder).map_err(Failure::act(act))?;
        let file = entries
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("web"));
        let file = file.ok_or_else(|| Failure::new("there is no record of web"))?;
        let text = fs::read(&file).map_err(Failure::act(act))?;
        let mut record: Value = serde_json::from_slice(&text).map_err(Failure::act(act))?;
        for number in 2..NAMES {
            let id = format!("m{number}");
            record["container"] = json!(id);
            record["names"] = json!([id]);
            record["addresses"] = json!([address(number)]);
            let draft = folder.join(".draft");
            fs::write(&draft, record.to_string()).map_err(Failure::act(act))?;
            fs::rename(draft, folder.join(format!("{id}:eth0"))).map_err(Failure::act(act))?;
        }
        let started = Instant::now();
        loop {
            let status = self.status()?;
            if status["numbers"]["records"] == json!(NAMES) {
                let number = |key: &str| status[key].as_u64().unwrap_or_default();
                return Ok(Server {
                    name: "pontoon-dns",
                    pid: u32::try_from(number("pid")).unwrap_or_default(),
                    port: u16::try_from(number("port")).unwrap_or_default(),
                    domain: ".dns.pontoon",
                    forwards: true,
                });
            }
            if started.elapsed() > Duration::from_secs(30) {
                return Err(Failure::new(format!("not all records are seen: {status}")));
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn program(&self, path: &str) -> Command {
        let mut command = Command::new(self.tools.join(path));
        command.env("LD_LIBRARY_PATH", libraries(&self.tools));
        command
    }

    /// Starts a program that stays in the foreground.
    fn daemon(&self, command: &mut Command, server: &Server) -> Outcome<Daemon> {
        let log = self.files.path().join(server.name);
        let at = SocketAddr::from((GATEWAY, server.port));
        let question = query(&format!("m2{}", server.domain));
        let ready = || {
            self.client
                .run(|| ask(at, &question).is_ok())
                .unwrap_or(false)
        };
        Daemon::start(&self.host, command, &log, ready)
    }

    fn unbound(&self) -> Outcome<(Server, Kept)> {
        let mut server = Server {
            name: "unbound",
            pid: 0,
            port: 5301,
            domain: ".dns.pontoon",
            forwards: true,
        };
        let mut conf = format!(
            "server:\n interface: {GATEWAY}@{}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"/\"\n pidfile: \"\"\n use-syslog: no\n access-control: 0.0.0.0/0 allow\n num-threads: 1\n module-config: \"iterator\"\n local-zone: \"dns.pontoon.\" static\n",
            server.port
        );
        for number in 2..NAMES {
            let _ = writeln!(
                conf,
                " local-data: \"m{number}.dns.pontoon. IN A {}\"",
                address(number)
            );
        }
        let _ = write!(
            conf,
            "remote-control:\n control-enable: no\nforward-zone:\n name: \".\"\n forward-addr: {OUTSIDE_V4}\n"
        );
        let file = self.files.path().join("unbound.conf");
        fs::write(&file, conf).map_err(Failure::act("write unbound.conf"))?;
        let mut command = self.program("usr/sbin/unbound");
        command.args(["-d", "-c"]).arg(file);
        let daemon = self.daemon(&mut command, &server)?;
        server.pid = daemon.pid();
        Ok((server, Kept::of(daemon)))
    }

    fn dnsmasq(&self) -> Outcome<(Server, Kept)> {
        let mut server = Server {
            name: "dnsmasq",
            pid: 0,
            port: 5302,
            domain: ".dns.pontoon",
            forwards: true,
        };
        let mut hosts = String::new();
        for number in 2..NAMES {
            let _ = writeln!(hosts, "{} m{number}.dns.pontoon", address(number));
        }
        let file = self.files.path().join("hosts");
        fs::write(&file, hosts).map_err(Failure::act("write hosts"))?;
        let mut command = self.program("usr/sbin/dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
            ])
            .args([
                "--bind-interfaces",
                "--no-resolv",
                "--no-hosts",
                "--pid-file=",
            ])
            .args(["--local=/dns.pontoon/", "--cache-size=10000"])
            .arg(format!("--port={}", server.port))
            .arg(format!("--listen-address={GATEWAY}"))
            .arg(format!("--server={OUTSIDE_V4}"))
            .arg(format!("--addn-hosts={}", file.display()));
        let daemon = self.daemon(&mut command, &server)?;
        server.pid = daemon.pid();
        Ok((server, Kept::of(daemon)))
    }

    fn aardvark(&self) -> Outcome<(Server, Kept)> {
        let folder = self.files.path().join("aardvark");
        let act = "run aardvark-dns";
        fs::create_dir_all(&folder).map_err(Failure::act(act))?;
        let mut file = format!("{GATEWAY}\n");
        for number in 2..NAMES {
            let _ = writeln!(file, "{number:064x} {}  m{number}", address(number));
        }
        fs::write(folder.join("names"), file).map_err(Failure::act(act))?;
        let mut server = Server {
            name: "aardvark-dns",
            pid: 0,
            port: 5303,
            domain: "",
            forwards: false,
        };
        let mut command = self.program("usr/lib/podman/aardvark-dns");
        command
            .arg("--config")
            .arg(&folder)
            .args(["--port", &server.port.to_string(), "run"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        // It goes into the background by itself.
        let status = self.host.run(|| command.status())?;
        status.map_err(Failure::act(act))?;
        let pid = fs::read_to_string(folder.join("aardvark.pid")).map_err(Failure::act(act))?;
        server.pid = pid.trim().parse().map_err(Failure::act(act))?;
        let kept = Kept {
            background: Some(Pid::from_raw(server.pid.cast_signed())),
            _daemon: None,
        };
        let at = SocketAddr::from((GATEWAY, server.port));
        let question = query("m2");
        let started = Instant::now();
        while !self.client.run(|| ask(at, &question).is_ok())? {
            if started.elapsed() > Duration::from_secs(20) {
                return Err(Failure::new("aardvark-dns does not answer"));
            }
        }
        Ok((server, kept))
    }

    fn figures(&self, server: &Server) -> Outcome<Figures> {
        let mut local = String::new();
        for number in 2..NAMES {
            let _ = writeln!(local, "m{number}{} A", server.domain);
        }
        let memory = resident(server.pid)?;
        let local = self.cost(server, &local)?;
        let cached = match server.forwards {
            true => Some(self.cost(server, "cached.example A\n")?),
            false => None,
        };
        Ok(Figures {
            name: server.name,
            local,
            cached,
            memory,
        })
    }

    /// CPU time of the server for one query, in microseconds.
    fn cost(&self, server: &Server, queries: &str) -> Outcome<f64> {
        let file = self.files.path().join("queries");
        fs::write(&file, queries).map_err(Failure::act("write queries"))?;
        let mut command = self.program("usr/bin/dnsperf");
        command
            .args(["-s", &GATEWAY.to_string(), "-p", &server.port.to_string()])
            .args(["-l", &SECONDS.to_string(), "-c", "8", "-q", "200", "-d"])
            .arg(&file);
        let before = cpu(server.pid)?;
        let output = self.client.run(|| command.output())?;
        let output = output.map_err(Failure::act("run dnsperf"))?;
        let spent = cpu(server.pid)? - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |key: &str| -> Option<f64> {
            let line = text.lines().find(|line| line.trim().starts_with(key))?;
            line.split_whitespace().nth(2)?.parse().ok()
        };
        let good = text.contains("NOERROR") && !text.contains("NXDOMAIN");
        match number("Queries completed:").filter(|count| *count > 0.0 && good) {
            Some(count) => Ok(spent * 1e6 / count),
            None => Err(Failure::new(format!(
                "{}: dnsperf says {text}",
                server.name
            ))),
        }
    }

    /// What a question takes that is forwarded, and one that is asked directly, in microseconds.
    fn forwarding(&self, server: &Server) -> Outcome<(f64, f64)> {
        let times = self.client.run(|| {
            let mut both = [Vec::new(), Vec::new()];
            for number in 0..TIMED {
                for (times, at, name) in [
                    (0, SocketAddr::from((GATEWAY, server.port)), "by"),
                    (1, SocketAddr::new(OUTSIDE_V4, 53), "direct"),
                ] {
                    let question = query(&format!("{name}{number}.example"));
                    let started = Instant::now();
                    if ask(at, &question).is_ok() {
                        both[times].push(started.elapsed());
                    }
                }
            }
            both
        })?;
        if times.iter().any(|times| times.len() < TIMED) {
            return Err(Failure::new("a forwarded question has no answer"));
        }
        let [mut by, mut direct] = times;
        Ok((
            super::median(&mut by) * 1000.0,
            super::median(&mut direct) * 1000.0,
        ))
    }
}

/// A question for A.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x50, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// Asks, and waits for an answer without an error.
fn ask(at: SocketAddr, question: &[u8]) -> std::io::Result<()> {
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(at)?;
    socket.send(question)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    match reply.get(..length) {
        Some(reply) if length > 12 && reply[3] & 15 == 0 && reply[..2] == question[..2] => Ok(()),
        _ => Err(std::io::Error::other("no good answer")),
    }
}

/// CPU time that a process has spent, in seconds.
fn cpu(pid: u32) -> Outcome<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(Failure::act(&path))?;
    let rest = text.rsplit(") ").next().unwrap_or_default();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok());
    match (number(11), number(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICK),
        _ => Err(Failure::new(format!("{path}: {text:?}"))),
    }
}

/// Memory that a process has, in kB.
fn resident(pid: u32) -> Outcome<f64> {
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let text = fs::read_to_string(&path).map_err(Failure::act(path.display()))?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| Failure::new(format!("{}: no VmRSS", path.display())))
}
