//! A host with a bridge and a client, and the servers that run there.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{
    Attachment, Backend, Container, Daemon, Failure, Host, NameServer, Network, OUTSIDE_V4,
    Outcome, Programs, Runtime, Scratch, libraries,
};
use serde_json::{Value, json};

use super::super::unpacked;
use super::{GATEWAY, NAMES, ask, query};

/// A name server that runs, and how it is asked.
pub(super) struct Server {
    pub(super) name: &'static str,
    /// Its processes: their time and memory are counted together.
    pub(super) pids: Vec<u32>,
    pub(super) port: u16,
    /// What a local name ends with.
    pub(super) domain: &'static str,
    /// What ends it when it is dropped; `None` for the resolver, which ends with its records.
    kept: Option<Kept>,
}

/// What ends a server.
enum Kept {
    /// A child.
    Child(#[expect(dead_code, reason = "held for its end")] Daemon),
    /// One that has left its parent.
    Background(Pid),
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Self::Background(pid) = self {
            let _ = kill(*pid, Signal::SIGTERM);
        }
    }
}

pub(super) struct Scene {
    host: Host,
    pub(super) client: Container,
    tools: PathBuf,
    pub(super) files: Scratch,
    // Held alive.
    _containers: Vec<Container>,
    _upstream: NameServer,
}

/// The address of a name by its number; 0.2 and 0.3 are those of containers.
pub(super) fn address(number: usize) -> Ipv4Addr {
    let [.., high, low] = (number + 256).to_be_bytes();
    Ipv4Addr::new(10, 88, high, low)
}

impl Scene {
    pub(super) fn new(programs: &Programs) -> Outcome<Self> {
        let tools = unpacked("nameservers.sh")?;
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

    /// The resolver, once it knows as many names.
    pub(super) fn ours(&self, names: usize) -> Outcome<Server> {
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
        for number in 2..names {
            // As long as the ids of Docker and Podman, which aardvark-dns gets too.
            let id = format!("{number:064x}");
            record["container"] = json!(id);
            record["names"] = json!([format!("m{number}")]);
            record["netns"] = json!(format!("/run/netns/{number}"));
            record["addresses"] = json!([address(number)]);
            let draft = folder.join(".draft");
            fs::write(&draft, record.to_string()).map_err(Failure::act(act))?;
            fs::rename(draft, folder.join(format!("{id}:eth0"))).map_err(Failure::act(act))?;
        }
        let started = Instant::now();
        loop {
            let status = self.status()?;
            if status["numbers"]["records"] == json!(names) {
                let number = |key: &str| status[key].as_u64().unwrap_or_default();
                return Ok(Server {
                    name: "pontoon-dns",
                    pids: ["worker", "pid", "standby"]
                        .map(|key| u32::try_from(number(key)).unwrap_or_default())
                        .into(),
                    port: u16::try_from(number("port")).unwrap_or_default(),
                    domain: ".dns.pontoon",
                    kept: None,
                });
            }
            if started.elapsed() > Duration::from_secs(30) {
                return Err(Failure::new(format!("not all records are seen: {status}")));
            }
            sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn program(&self, path: &str) -> Command {
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

    pub(super) fn unbound(&self) -> Outcome<Server> {
        let mut server = Server {
            name: "unbound",
            pids: Vec::new(),
            port: 5301,
            domain: ".dns.pontoon",
            kept: None,
        };
        let mut conf = format!(
            "server:\n interface: {GATEWAY}@{}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"/\"\n pidfile: \"\"\n use-syslog: no\n access-control: 0.0.0.0/0 allow\n num-threads: 1\n module-config: \"iterator\"\n local-zone: \"dns.pontoon.\" static\n",
            server.port
        );
        for number in 2..NAMES {
            let _ = writeln!(
                conf,
                " local-data: \"m{number}.dns.pontoon. IN A {0}\"\n local-data-ptr: \"{0} m{number}.dns.pontoon\"",
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
        server.pids = vec![daemon.pid()];
        server.kept = Some(Kept::Child(daemon));
        Ok(server)
    }

    pub(super) fn dnsmasq(&self) -> Outcome<Server> {
        let mut server = Server {
            name: "dnsmasq",
            pids: Vec::new(),
            port: 5302,
            domain: ".dns.pontoon",
            kept: None,
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
        server.pids = vec![daemon.pid()];
        server.kept = Some(Kept::Child(daemon));
        Ok(server)
    }

    pub(super) fn aardvark(&self) -> Outcome<Server> {
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
            pids: Vec::new(),
            port: 5303,
            domain: "",
            kept: None,
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
        let pid: u32 = pid.trim().parse().map_err(Failure::act(act))?;
        server.pids = vec![pid];
        server.kept = Some(Kept::Background(Pid::from_raw(pid.cast_signed())));
        let at = SocketAddr::from((GATEWAY, server.port));
        let question = query("m2");
        let started = Instant::now();
        while !self.client.run(|| ask(at, &question).is_ok())? {
            if started.elapsed() > Duration::from_secs(20) {
                return Err(Failure::new("aardvark-dns does not answer"));
            }
        }
        Ok(server)
    }
}
