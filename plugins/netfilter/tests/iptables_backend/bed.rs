//! Hosts and containers as threads: each node's thread has a network namespace of its own, which
//! goes when the thread ends.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, gettid};
use pontoon_netfilter::iptables::{Iptables, Variant};
use pontoon_netfilter::{Egress, Mark, NetworkRules, Owner, Port, Protocol, Published, Ruleset};
use tempfile::TempDir;

pub(crate) const VARIANTS: [Variant; 2] = [Variant::Nft, Variant::Legacy];

type Work = Box<dyn FnOnce() + Send>;

/// A machine: a thread in a fresh network namespace that does what it is told.
pub(crate) struct Node {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Node {
    pub(crate) fn new() -> Self {
        assert!(
            Uid::effective().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let (work, todo) = channel::<Work>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell.send(gettid().as_raw()).expect("the maker waits");
            for work in todo {
                work();
            }
        });
        let tid = told.recv().expect("the thread tells its id");
        let node = Self {
            work: Some(work),
            thread: Some(thread),
            tid,
        };
        node.sh("ip link set lo up");
        node
    }

    /// Runs `work` inside and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = channel();
        let job: Work = Box::new(move || {
            give.send(work()).ok();
        });
        self.work
            .as_ref()
            .expect("alive")
            .send(job)
            .expect("the node's thread lives");
        take.recv().expect("the work on the node came to an end")
    }

    /// Runs each line of `script`; all must succeed. Returns what they printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let text = script.to_owned();
        let output = self
            .run(move || Command::new("sh").args(["-ec", &text]).output())
            .expect("a shell");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {words}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// A veth pair between two nodes.
    pub(crate) fn wire(&self, name: &str, other: &Self, peer: &str) {
        self.sh(&format!(
            "ip link add {name} type veth peer name {peer} netns {}\nip link set {name} up",
            other.tid
        ));
        other.sh(&format!("ip link set {peer} up"));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A host with one variant of iptables.
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) variant: Variant,
    lock: TempDir,
}

impl Host {
    pub(crate) fn new(variant: Variant) -> Self {
        Self {
            node: Node::new(),
            variant,
            lock: TempDir::new().expect("a directory"),
        }
    }

    /// A backend as a new process would have it.
    pub(crate) fn backend(&self) -> Iptables {
        let found = Iptables::detect(&[PathBuf::from("/usr/sbin")], Some(self.variant));
        let detected = found
            .expect("detection")
            .expect("the Debian package iptables is installed");
        Iptables::new(detected, self.lock.path().join("lock"))
    }

    #[track_caller]
    pub(crate) fn apply(&self, ruleset: &Ruleset) {
        let (mut backend, value) = (self.backend(), ruleset.clone());
        self.node.run(move || backend.apply(&value)).expect("apply");
    }

    #[track_caller]
    pub(crate) fn withdraw(&self, ruleset: &Ruleset) {
        let (mut backend, value) = (self.backend(), ruleset.clone());
        self.node
            .run(move || backend.withdraw(&value))
            .expect("withdraw");
    }

    #[track_caller]
    pub(crate) fn verify(&self, ruleset: &Ruleset) -> Vec<String> {
        let (mut backend, value) = (self.backend(), ruleset.clone());
        self.node
            .run(move || backend.verify(&value))
            .expect("verify")
    }

    #[track_caller]
    pub(crate) fn remove_all(&self) {
        let mut backend = self.backend();
        self.node
            .run(move || backend.remove_all())
            .expect("remove_all");
    }

    /// `iptables ARGUMENTS` of this host's variant.
    #[track_caller]
    pub(crate) fn iptables(&self, arguments: &str) -> String {
        self.node
            .sh(&format!("/usr/sbin/iptables-{} {arguments}", self.infix()))
    }

    /// Loads IPv4 rules as another program would.
    #[track_caller]
    pub(crate) fn restore(&self, rules: &str) {
        let infix = self.infix();
        self.node.sh(&format!(
            "iptables-{infix}-restore --noflush <<'END'\n{rules}END"
        ));
    }

    /// The same for IPv6.
    #[track_caller]
    pub(crate) fn restore6(&self, rules: &str) {
        let infix = self.infix();
        self.node.sh(&format!(
            "ip6tables-{infix}-restore --noflush <<'END'\n{rules}END"
        ));
    }

    /// All rules of both families' nat, raw and filter, policies left out.
    pub(crate) fn rules(&self) -> String {
        let infix = self.infix();
        let lists: String = ["iptables", "ip6tables"]
            .iter()
            .flat_map(|tool| {
                ["nat", "raw", "filter"].map(|table| format!("{tool}-{infix} -t {table} -S;"))
            })
            .collect();
        let lines = self.node.sh(&lists);
        lines
            .lines()
            .filter(|line| !line.starts_with("-P"))
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// How many rules contain `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.rules()
            .lines()
            .filter(|line| line.starts_with("-A") && line.contains(text))
            .count()
    }

    pub(crate) fn infix(&self) -> &'static str {
        match self.variant {
            Variant::Nft => "nft",
            Variant::Legacy => "legacy",
        }
    }
}

/// A network with one subnet of each family, masqueraded.
pub(crate) fn network(name: &str, bridge: &str, number: u8) -> Ruleset {
    let egress = |subnet: String| Egress {
        subnet: subnet.parse().expect("subnet"),
        snat: vec![],
    };
    Ruleset {
        network: Some(NetworkRules {
            network: name.to_owned(),
            bridge: bridge.to_owned(),
            egress: vec![
                egress(format!("10.{number}.0.0/24")),
                egress(format!("fd00:{number}::/64")),
            ],
        }),
        ..Ruleset::default()
    }
}

/// `container` of network `name` at 10.NUMBER.0.LAST and fd00:NUMBER::LAST.
pub(crate) fn published(
    name: &str,
    container: &str,
    (number, last): (u8, u8),
    ports: &[Port],
) -> Ruleset {
    Ruleset {
        published: Some(Published {
            owner: owner(name, container),
            v4: Some(format!("10.{number}.0.{last}/24").parse().expect("address")),
            v6: Some(
                format!("fd00:{number}::{last}/64")
                    .parse()
                    .expect("address"),
            ),
            ports: ports.to_vec(),
            beside: Vec::new(),
            snat: true,
            masquerade_all: false,
            mark: Mark::Bit(13),
            conditions_v4: vec![],
            conditions_v6: vec![],
        }),
        ..Ruleset::default()
    }
}

pub(crate) fn owner(network: &str, container: &str) -> Owner {
    Owner {
        network: network.to_owned(),
        container: container.to_owned(),
        interface: "eth0".to_owned(),
    }
}

pub(crate) fn port(protocol: Protocol, host_port: u16, container_port: u16) -> Port {
    Port {
        protocol,
        host_ip: None,
        host_port,
        container_port,
    }
}

pub(crate) fn tcp(host_port: u16, container_port: u16) -> Port {
    port(Protocol::Tcp, host_port, container_port)
}
