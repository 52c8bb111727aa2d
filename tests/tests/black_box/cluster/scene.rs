//! Three hosts with etcd and agents.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pontoon_lab::{Cluster, Daemon, Etcd, Failure, Outcome, Programs, Scratch};
use serde_json::{Value, json};

/// The network of the tests.
pub(super) const NETWORK: &str = "lan";
pub(super) const SUBNET: &str = "10.5.0.0/16";

/// For how long something may take that is not measured.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Scene {
    // Before what they run on.
    agents: RefCell<Vec<Option<Daemon>>>,
    pub(super) etcd: RefCell<Etcd>,
    pub(super) cluster: Cluster,
    pub(super) dir: Scratch,
    /// More lines of the agents' configuration about etcd.
    more_of_etcd: RefCell<String>,
}

/// Polls until `look` finds something; what it found, and after how long.
pub(super) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Outcome<Option<T>>,
) -> Outcome<(T, Duration)> {
    let started = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok((found, started.elapsed()));
        }
        if started.elapsed() > patience {
            return Err(Failure::new(format!("{what}: not within {patience:?}")));
        }
        sleep(Duration::from_millis(20));
    }
}

impl Scene {
    /// Hosts and etcd, without agents.
    pub(super) fn new(with_tls: bool) -> Outcome<Self> {
        Self::with_members(with_tls, &[])
    }

    /// The same, with more options of etcd's members.
    pub(super) fn with_members(with_tls: bool, options: &[&str]) -> Outcome<Self> {
        let cluster = Cluster::new(3)?;
        let etcd = Etcd::start_with(&cluster, with_tls, options)?;
        if with_tls {
            etcd.limit(&cluster)?;
        }
        Ok(Self {
            agents: RefCell::new(vec![None, None, None]),
            etcd: RefCell::new(etcd),
            cluster,
            dir: Scratch::new("cluster")?,
            more_of_etcd: RefCell::default(),
        })
    }

    /// The same with a network, its configuration on every host, and an agent on each: each has a block.
    pub(super) fn with_agents() -> Outcome<Self> {
        Self::with_network(&[])
    }

    /// The same, with more options of the network.
    pub(super) fn with_network(options: &[&str]) -> Outcome<Self> {
        let scene = Self::new(false)?;
        scene.join(options)?;
        Ok(scene)
    }

    /// Makes the network, its configuration on every host, and an agent on each, and waits until each has a block.
    pub(super) fn join(&self, options: &[&str]) -> Outcome {
        self.create(NETWORK, &[&["--subnet", SUBNET], options].concat())?;
        for number in 1..=3 {
            self.configure(number, NETWORK)?;
            self.start(number)?;
        }
        for number in 1..=3 {
            self.block_of(number)?;
        }
        // Each of the two other hosts has a block of each family.
        let families = 1 + options.iter().filter(|it| **it == "--subnet").count();
        for number in 1..=3 {
            self.wait_for_peers(number, 2 * families)?;
        }
        Ok(())
    }

    /// Sets a line of the agents' configuration about etcd.
    pub(super) fn set_more_of_etcd(&self, line: &str) {
        *self.more_of_etcd.borrow_mut() = format!("{line}\n");
    }

    /// A file or folder of a host.
    pub(super) fn at(&self, number: u8, name: &str) -> PathBuf {
        self.dir.path().join(format!("h{number}-{name}"))
    }

    /// Where a host keeps a network's leases.
    pub(super) fn leases(&self, number: u8, network: &str) -> PathBuf {
        self.at(number, "leases").join(network)
    }

    /// Writes a host's configuration of a network.
    pub(super) fn configure(&self, number: u8, network: &str) -> Outcome {
        let folder = self.at(number, "net.d");
        let list = json!({
            "cniVersion": "1.1.0", "name": network,
            "plugins": [{
                "type": "overlay", "bridge": "br-lan", "isGateway": true,
                "ipam": { "type": "host-local", "dataDir": self.at(number, "leases") },
            }],
        });
        let file = folder.join(format!("{network}.conflist"));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(file, list.to_string()))
            .map_err(Failure::act("write a configuration"))
    }

    /// Writes the agent's configuration, with the certificate `name` where there is TLS; the file.
    pub(super) fn settings(&self, number: u8, name: &str) -> Outcome<PathBuf> {
        let etcd = self.etcd.borrow();
        let mut text = format!(
            "host = \"h{number}\"\nconflists = {:?}\n\n[etcd]\nendpoints = {:?}\n",
            self.at(number, "net.d"),
            etcd.endpoints(number),
        );
        if let Some(tls) = etcd.authority() {
            for (key, file) in [
                ("ca", "ca.pem".to_owned()),
                ("certificate", format!("{name}.pem")),
                ("key", format!("{name}.key")),
            ] {
                text += &format!("{key} = {:?}\n", tls.file(&file));
            }
        }
        text += &self.more_of_etcd.borrow();
        let file = self.at(number, &format!("{name}.toml"));
        fs::write(&file, text).map_err(Failure::act("write the agent's configuration"))?;
        Ok(file)
    }

    /// Runs `pontoon-node` on a host as the admin.
    pub(super) fn admin(&self, number: u8, arguments: &[&str]) -> Outcome<Output> {
        let settings = self.settings(number, "root")?;
        self.run(
            number,
            &["--config", &settings.display().to_string()],
            arguments,
        )
    }

    /// Runs `pontoon-node` on a host.
    pub(super) fn run(&self, number: u8, first: &[&str], arguments: &[&str]) -> Outcome<Output> {
        self.run_program("pontoon-node", number, &[first, arguments].concat())
    }

    /// Runs a program on a host.
    pub(super) fn run_program(
        &self,
        program: &str,
        number: u8,
        arguments: &[&str],
    ) -> Outcome<Output> {
        let mut command = Command::new(Programs::built()?.program(program));
        command.env_clear().args(arguments);
        let host = &self.cluster.hosts[usize::from(number) - 1];
        host.run(|| command.output())?
            .map_err(Failure::act(format!("run {program} {arguments:?}")))
    }

    /// The same, which must succeed; what it says.
    pub(super) fn ask(&self, number: u8, arguments: &[&str]) -> Outcome<String> {
        let output = self.admin(number, arguments)?;
        let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(words(&output.stdout)),
            false => Err(Failure::new(format!(
                "pontoon-node {arguments:?}: {}: {}",
                output.status,
                words(&output.stderr)
            ))),
        }
    }

    /// The same, which must fail with these words.
    pub(super) fn refused(&self, arguments: &[&str], code: i32, expected: &str) -> Outcome {
        let output = self.admin(1, arguments)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.code() == Some(code) && words.contains(expected) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "pontoon-node {arguments:?}: {}: {words:?}, without {expected:?}",
            output.status
        )))
    }

    pub(super) fn create(&self, network: &str, more: &[&str]) -> Outcome {
        let arguments = [&["network", "create", network], more].concat();
        self.ask(1, &arguments).map(drop)
    }

    /// Starts the agent of a host, and waits until it answers.
    pub(super) fn start(&self, number: u8) -> Outcome {
        let settings = self.settings(number, &format!("h{number}"))?;
        let mut command = Command::new(Programs::built()?.program("pontoon-node"));
        command.env_clear().arg("--config").arg(settings);
        let host = &self.cluster.hosts[usize::from(number) - 1];
        let socket = host.state_dir().join("node/control");
        let answers = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        let log = self.at(number, "log");
        let daemon = Daemon::start(host, &mut command, &log, answers)?;
        self.agents.borrow_mut()[usize::from(number) - 1] = Some(daemon);
        Ok(())
    }

    /// Ends the agent of a host with SIGTERM.
    pub(super) fn stop(&self, number: u8) {
        drop(self.agents.borrow_mut()[usize::from(number) - 1].take());
    }

    /// Kills the agent of a host.
    pub(super) fn kill(&self, number: u8) -> Outcome {
        match self.agents.borrow_mut()[usize::from(number) - 1].take() {
            Some(agent) => agent.kill(),
            None => Err(Failure::new(format!("no agent runs on host {number}"))),
        }
    }

    /// Does something with the agent of a host.
    pub(super) fn with_agent<T>(&self, number: u8, act: impl FnOnce(&Daemon) -> T) -> Outcome<T> {
        let agents = self.agents.borrow();
        let agent = agents[usize::from(number) - 1].as_ref();
        agent
            .map(act)
            .ok_or_else(|| Failure::new(format!("no agent runs on host {number}")))
    }

    /// What the agent of a host has said.
    pub(super) fn words(&self, number: u8) -> String {
        fs::read_to_string(self.at(number, "log")).unwrap_or_default()
    }

    /// What the agent of a host says of itself.
    pub(super) fn status(&self, number: u8) -> Outcome<Value> {
        let output = self.run(number, &[], &["status", "--json"])?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            Failure::new(format!("the status of h{number}: {error}: {words}"))
        })
    }

    /// A file that the agent of a host writes; null when there is none.
    pub(super) fn file(&self, number: u8, name: &str) -> Outcome<Value> {
        let host = &self.cluster.hosts[usize::from(number) - 1];
        let path = host.lasting_dir().join("overlay").join(name);
        match fs::read(&path) {
            Err(_) => Ok(Value::Null),
            Ok(text) => {
                serde_json::from_slice(&text).map_err(Failure::act(path.display().to_string()))
            }
        }
    }

    /// The blocks in a host's file of a network.
    pub(super) fn blocks(&self, number: u8, network: &str) -> Outcome<Vec<String>> {
        let file = self.file(number, &format!("{network}.json"))?;
        let blocks = file["blocks"].as_array().into_iter().flatten();
        Ok(blocks
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect())
    }

    /// The hosts in a host's list of peers, with their blocks.
    pub(super) fn peers(&self, number: u8) -> Outcome<BTreeSet<(String, String)>> {
        let file = self.file(number, &format!("{NETWORK}.peers.json"))?;
        let peers = file["peers"].as_array().into_iter().flatten();
        let pair = |peer: &Value| {
            let blocks = peer["blocks"].as_array().into_iter().flatten();
            let host = peer["host"].as_str().unwrap_or_default().to_owned();
            blocks
                .filter_map(|block| Some((host.clone(), block.as_str()?.to_owned())))
                .collect::<Vec<_>>()
        };
        Ok(peers.flat_map(pair).collect())
    }

    /// Waits until a host has a block; the first one.
    pub(super) fn block_of(&self, number: u8) -> Outcome<String> {
        let what = format!("a block of h{number}");
        let found = wait_for(&what, PATIENCE, || {
            Ok(self.blocks(number, NETWORK)?.first().cloned())
        });
        found
            .map(|(block, _)| block)
            .map_err(|error| Failure::new(format!("{error}\n{}", self.words(number))))
    }

    /// Waits until a host has so many peers; how long it took.
    pub(super) fn wait_for_peers(&self, number: u8, count: usize) -> Outcome<Duration> {
        let what = format!("{count} peers of h{number}");
        let found = wait_for(&what, PATIENCE, || {
            Ok((self.peers(number)?.len() == count).then_some(()))
        });
        found.map(|((), took)| took)
    }

    /// Waits until the status of a host is so; how long it took.
    pub(super) fn wait_for_status(
        &self,
        number: u8,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Outcome<Duration> {
        let what = format!("h{number}: {what}");
        let found = wait_for(&what, PATIENCE, || {
            Ok(is_so(&self.status(number)?).then_some(()))
        });
        found
            .map(|((), took)| took)
            .map_err(|error| Failure::new(format!("{error}\n{}", self.words(number))))
    }

    /// Runs etcdctl as the admin.
    pub(super) fn etcdctl(&self, arguments: &str) -> Outcome<String> {
        self.etcd.borrow().control(&self.cluster, arguments)
    }
}

/// That two values are equal.
#[track_caller]
pub(super) fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    match found == expected {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "{what}: {found:?} instead of {expected:?}"
        ))),
    }
}
