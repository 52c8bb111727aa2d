//! The three machines: hosts on one switch, a member of etcd and an agent on each, and what of them must be gone at the
//! end.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use pontoon_lab::{
    Cluster, Daemon, Etcd, Failure, Host, Outcome, Programs, Scratch, processes_with, target_dir,
};
use pontoon_netlink::Netns;
use serde_json::Value;

use super::{is_there, wait_for};
use crate::build::root;

/// The members of etcd, one on each host.
const COUNT: u8 = 3;

/// Unpacks etcd of Debian's package where the tests do.
pub(super) fn fetch_etcd() -> Outcome {
    let output = Command::new("bash")
        .arg(root().join("tests/scripts/etcd.sh"))
        .arg(target_dir()?.join("tools"))
        .output()
        .map_err(Failure::act("run tests/scripts/etcd.sh"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "etcd cannot be fetched: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

pub(super) struct Machines {
    // Before what they run on.
    agents: Vec<Option<Daemon>>,
    etcd: Etcd,
    cluster: Cluster,
    dir: Scratch,
    pub(super) programs: Programs,
}

/// What a run could leave.
pub(super) struct Traces {
    paths: Vec<PathBuf>,
}

impl Machines {
    pub(super) fn start(programs: &Programs) -> Outcome<Self> {
        let dir = Scratch::new("demo")?;
        let cluster = Cluster::new(COUNT)?;
        println!("\nThree hosts, as network namespaces on one switch:");
        for (number, host) in (1..=COUNT).zip(&cluster.hosts) {
            println!(
                "  h{number} at {}, state in {}",
                Cluster::address(number),
                host.state_dir().display()
            );
        }
        let started = Instant::now();
        let etcd = Etcd::start(&cluster, false)?;
        println!(
            "  a member of etcd on each ({:.1} s until they take what is written)",
            started.elapsed().as_secs_f64()
        );
        Ok(Self {
            agents: (0..COUNT).map(|_| None).collect(),
            etcd,
            cluster,
            dir,
            programs: programs.clone(),
        })
    }

    pub(super) fn host(&self, number: u8) -> &Host {
        &self.cluster.hosts[usize::from(number) - 1]
    }

    /// What is outside of the hosts.
    pub(super) fn outside(&self) -> &Netns {
        self.cluster.switch()
    }

    /// A file or folder of a host.
    pub(super) fn file(&self, number: u8, name: &str) -> PathBuf {
        self.dir.path().join(format!("h{number}-{name}"))
    }

    pub(super) fn leases(&self, number: u8) -> PathBuf {
        self.file(number, "leases")
    }

    /// Writes what the agent of a host is told.
    fn settings(&self, number: u8) -> Outcome<PathBuf> {
        let text = format!(
            "host = \"h{number}\"\nconflists = {:?}\n\n[etcd]\nendpoints = {:?}\n",
            self.file(number, "net.d"),
            self.etcd.endpoints(number),
        );
        let file = self.file(number, "node.toml");
        fs::write(&file, text).map_err(Failure::act("write the agent's configuration"))?;
        Ok(file)
    }

    /// Starts the agent of a host, with a configuration of the network.
    pub(super) fn start_agent(&mut self, number: u8, network: &str) -> Outcome {
        let folder = self.file(number, "net.d");
        let leases = self.leases(number);
        let list = serde_json::json!({
            "cniVersion": "1.1.0", "name": network,
            "plugins": [{ "type": "overlay", "ipam": { "type": "host-local", "dataDir": leases } }],
        });
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("10-demo.conflist"), list.to_string()))
            .map_err(Failure::act("write a configuration"))?;
        let settings = self.settings(number)?;
        let mut command = Command::new(self.programs.program("pontoon-node"));
        command.env_clear().arg("--config").arg(settings);
        let host = self.host(number);
        let socket = host.state_dir().join("node/control");
        let answers = || UnixStream::connect(&socket).is_ok();
        let daemon = Daemon::start(host, &mut command, &self.file(number, "log"), answers)?;
        self.agents[usize::from(number) - 1] = Some(daemon);
        Ok(())
    }

    /// Kills what runs on a host, and pulls its cable.
    pub(super) fn switch_off(&mut self, number: u8) -> Outcome {
        if let Some(agent) = self.agents[usize::from(number) - 1].take() {
            agent.kill()?;
        }
        self.etcd.kill(number)?;
        self.cluster.connect(number, false)
    }

    /// The cable is in again, and etcd and the agent start with what is on disk.
    pub(super) fn switch_on(&mut self, number: u8, network: &str) -> Outcome {
        self.cluster.connect(number, true)?;
        self.etcd.restart(&self.cluster, number)?;
        self.start_agent(number, network)
    }

    /// Runs `pontoon` on a host as the admin, and shows command and answer.
    pub(super) fn pontoon(&self, number: u8, arguments: &[&str]) -> Outcome {
        println!("  h{number}# pontoon {}", arguments.join(" "));
        let settings = self.settings(number)?;
        let mut command = Command::new(self.programs.program("pontoon"));
        command.env_clear().args(arguments);
        command.arg("--config").arg(settings);
        let answer = self.host(number).run(|| command.output())?;
        let answer = answer.map_err(Failure::act("run pontoon"))?;
        for line in String::from_utf8_lossy(&answer.stdout).lines() {
            println!("  {line}");
        }
        match answer.status.success() {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "pontoon {arguments:?}: {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.stderr)
            ))),
        }
    }

    /// The block of a host in the file that its agent writes.
    pub(super) fn block(&self, number: u8, network: &str) -> Outcome<Option<String>> {
        let folder = self.host(number).overlay_dir();
        let Ok(text) = fs::read(folder.join(format!("{network}.json"))) else {
            return Ok(None);
        };
        let file: Value = serde_json::from_slice(&text).map_err(Failure::act("read a file"))?;
        Ok(file["blocks"][0].as_str().map(str::to_owned))
    }

    /// What must be gone when this is.
    pub(super) fn traces(&self) -> Traces {
        let hosts = self.cluster.hosts.iter();
        let mut paths: Vec<PathBuf> = hosts
            .flat_map(|host| [host.state_dir(), host.lasting_dir()])
            .collect();
        paths.push(self.dir.path().to_owned());
        Traces { paths }
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        // What a DEL leaves to a child of its own ends within a second or two. Its state must not go before: it would
        // make the folder again. A resolver ends when its state is gone.
        self.agents.clear();
        for number in 1..=COUNT {
            let _ = self.etcd.kill(number);
        }
        let ended = || Ok(self.children().is_empty().then_some(()));
        if wait_for("the end of all children", ended).is_err() {
            eprintln!("still running: {:?}", self.children());
        }
    }
}

impl Machines {
    /// Names of the processes on the hosts, but for the resolvers.
    fn children(&self) -> Vec<String> {
        let own = || fs::read_link("/proc/thread-self/ns/net").ok();
        let hosts = self.cluster.hosts.iter();
        let hosts: Vec<PathBuf> = hosts
            .filter_map(|host| host.run(own).ok().flatten())
            .collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let on_a_host = processes.map(|process| process.path()).filter(|process| {
            let of = fs::read_link(process.join("ns/net"));
            of.is_ok_and(|of| hosts.contains(&of))
        });
        on_a_host
            .filter_map(|process| fs::read_to_string(process.join("comm")).ok())
            .filter(|name| name.trim() != "pontoon-dns")
            .collect()
    }
}

impl Traces {
    /// Waits until no file is left, and no process that names one: a resolver ends a moment after its last container.
    pub(super) fn are_gone(&self) -> Outcome {
        let left = || {
            let texts = self.paths.iter().map(|path| path.display().to_string());
            let running = texts.flat_map(|path| processes_with(&path));
            let files = self.paths.iter().filter(|path| is_there(path));
            files
                .map(|path| path.display().to_string())
                .chain(running)
                .collect::<Vec<_>>()
        };
        let gone = wait_for("what is left", || Ok(left().is_empty().then_some(())));
        gone.map(drop)
            .map_err(|_| Failure::new(format!("left behind: {:?}", left())))
    }
}
