//! The chapter of `plugins/node/README.md` that takes a person from nothing to three machines: its commands are run as
//! they stand, each machine with folders of its own, and with stand-ins for what the lab does not have: `apt-get`, `ssh`
//! and `systemctl`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{
    BOTH, Cluster, Echo, Failure, NameServer, Outcome, Programs, Scratch, Screen, find, missing,
    target_dir,
};
use pontoon_netlink::Netns;

use super::scene::PATIENCE;
use crate::house::readme_commands::same;

const CHAPTER: &str = "## From nothing to three machines";
/// Folders of each machine's own.
const OWN: [&str; 11] = [
    "/etc/cni",
    "/etc/default",
    "/etc/etcd",
    "/etc/netns",
    "/etc/pontoon",
    "/etc/systemd/system",
    "/opt",
    "/root/ca",
    "/usr/local/bin",
    "/var/lib/cni",
    "/var/lib/etcd",
];
const LATE: &str = "120";

/// Installs what is there already: etcd, its user, and a name server for the machine.
const APT_GET: &str = r#"#!/bin/sh -e
[ "$*" = "install -y etcd-server etcd-client openssl" ]
ln -s TOOLS/etcd TOOLS/etcdctl /usr/local/bin
cp /etc/passwd SCRATCH/passwd-$(hostid-of-lab)
echo etcd:x:998:998::/var/lib/etcd:/bin/false >> SCRATCH/passwd-$(hostid-of-lab)
mount --bind SCRATCH/passwd-$(hostid-of-lab) /etc/passwd
"#;

/// Goes to the machine with this address.
const SSH: &str = r#"#!/bin/sh -e
number=${1#root@198.18.60.}
shift
exec nsenter -t $(cat SCRATCH/machine-$number) -n -m sh -c "$*"
"#;

/// Starts what the two units start.
const SYSTEMCTL: &str = r#"#!/bin/sh -e
log=SCRATCH/log-$(hostid-of-lab)
case "$*" in
"enable etcd") ;;
"restart --no-block etcd")
  set -a; . /etc/default/etcd; set +a
  etcd < /dev/null >> $log 2>&1 &
  echo $! >> SCRATCH/pids ;;
"enable --now pontoon-node")
  program=$(sed -n s/^ExecStart=//p /etc/systemd/system/pontoon-node.service)
  $program < /dev/null >> $log 2>&1 &
  echo $! >> SCRATCH/pids ;;
*) echo "systemctl $*: the lab has no such unit"; exit 1 ;;
esac
"#;

/// A block of the chapter.
struct Block {
    commands: String,
    printed: Option<String>,
}

/// The blocks of the chapter, which stand in a list.
fn blocks(text: &str) -> Vec<Block> {
    let chapter = text.split(CHAPTER).nth(1).unwrap_or_default();
    let chapter = chapter.split("\n## ").next().unwrap_or_default();
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let content: String = lines
            .by_ref()
            .take_while(|line| !line.trim_start().starts_with("```"))
            .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
            .collect();
        match (info, blocks.last_mut()) {
            ("sh", _) => blocks.push(Block {
                commands: content,
                printed: None,
            }),
            (_, Some(block)) => block.printed = Some(content),
            (_, None) => {}
        }
    }
    blocks
}

/// The machines, with what the commands have started.
struct Machines {
    screens: Vec<Screen>,
    keepers: Vec<Child>,
    cluster: Cluster,
    scratch: Scratch,
}

impl Machines {
    fn new() -> Outcome<Self> {
        let mut machines = Self {
            screens: Vec::new(),
            keepers: Vec::new(),
            cluster: Cluster::new(3)?,
            scratch: Scratch::new("readme")?,
        };
        for number in 1..=3 {
            machines.install(number)?;
        }
        Ok(machines)
    }

    /// What the chapter says is there already, and the stand-ins.
    fn install(&mut self, number: u8) -> Outcome {
        // Namespaces of containers are on each machine other ones.
        let screen = Screen::new(&[&OWN[..], &["/run/netns"]].concat())?;
        let programs = Programs::built()?;
        let built = programs.dir().display();
        let tools = target_dir()?.join("tools");
        let cnitool = tools.join("cnitool-1.3.0");
        if !cnitool.exists() {
            return Err(missing("cnitool 1.3.0"));
        }
        let scratch = self.scratch.path().display().to_string();
        for (name, script) in [
            ("apt-get", APT_GET),
            ("ssh", SSH),
            ("systemctl", SYSTEMCTL),
            ("hostid-of-lab", &format!("#!/bin/sh\necho {number}\n")),
        ] {
            let file = screen.at("/usr/local/bin").join(name);
            let script = script
                .replace("TOOLS", &tools.join("etcd/usr/bin").display().to_string())
                .replace("SCRATCH", &scratch);
            fs::write(&file, script)
                .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
                .map_err(Failure::act(format!("write {}", file.display())))?;
        }
        let host = &self.cluster.hosts[usize::from(number) - 1];
        let act = "start the keeper of a machine";
        let keeper = screen.run(host, || Command::new("sleep").arg("900").spawn())?;
        let keeper = keeper.map_err(Failure::act(act))?;
        let file = self.scratch.path().join(format!("machine-{number}"));
        fs::write(file, keeper.id().to_string()).map_err(Failure::act(act))?;
        self.keepers.push(keeper);
        self.screens.push(screen);
        let resolv = self.scratch.path().join("resolv.conf");
        fs::write(&resolv, format!("nameserver {}\n", Cluster::address(100)))
            .map_err(Failure::act("write resolv.conf"))?;
        self.run(
            number,
            &format!(
                "mkdir -p /opt/cni/bin /etc/cni/net.d\nln -s {built}/* /opt/cni/bin/\n\
                 ln -s {built}/pontoon /usr/local/bin/\nln -s {} /usr/local/bin/cnitool\n\
                 mount --bind {} $(readlink -f /etc/resolv.conf)\n",
                cnitool.display(),
                resolv.display(),
            ),
        )
        .map(drop)
    }

    /// Runs commands on a machine; what they printed.
    fn run(&self, number: u8, commands: &str) -> Outcome<String> {
        let at = usize::from(number) - 1;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = format!("exec 2>&1\nset -o pipefail\n{commands}");
        let mut command = Command::new("timeout");
        command
            .args([LATE, "/bin/bash", "-e", "-c", &script])
            .current_dir(root)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        match self.screens[at].output(&self.cluster.hosts[at], &mut command)? {
            (true, printed) => Ok(printed),
            (false, printed) => Err(Failure::new(format!(
                "on machine {number}:\n{commands}\nfails:\n{printed}\n{}",
                self.words(number)
            ))),
        }
    }

    /// What its etcd and agent have said last.
    fn words(&self, number: u8) -> String {
        let log = self.scratch.path().join(format!("log-{number}"));
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The container's namespace on a machine.
    fn container(&self, number: u8) -> Outcome<Netns> {
        let at = usize::from(number) - 1;
        let open = || Netns::open(&PathBuf::from("/run/netns/app"));
        self.screens[at]
            .run(&self.cluster.hosts[at], open)?
            .map_err(Failure::act("open the container's namespace"))
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.scratch.path().join("pids")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for keeper in &mut self.keepers {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

#[test]
fn a_person_with_three_machines_gets_there_by_the_chapter() -> Outcome {
    for needed in ["nsenter", "openssl", "ip"] {
        find(needed).ok_or_else(|| missing(needed))?;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/node/README.md");
    let text = fs::read_to_string(file).map_err(Failure::act("read the README"))?;
    let blocks = blocks(&text);
    if blocks.len() < 9 {
        return Err(Failure::new(format!(
            "the chapter has {} blocks",
            blocks.len()
        )));
    }
    let machines = Machines::new()?;
    let switch = machines.cluster.switch();
    let _server = NameServer::start(switch, Cluster::address(100), Ipv4Addr::new(192, 0, 2, 1))?;
    let mut last = String::new();
    for (number, block) in blocks.iter().enumerate() {
        let everywhere = block.commands.starts_with("N=1\n") || number == 0;
        let hosts = if everywhere { 1..=3 } else { 1..=1 };
        for host in hosts {
            let commands = block.commands.replacen("N=1\n", &format!("N={host}\n"), 1);
            last = machines.run(host, &commands)?;
        }
        if let Some(printed) = &block.printed {
            let shown: Vec<&str> = printed.lines().collect();
            if !same(&shown, &last.lines().collect::<Vec<_>>()) {
                return Err(Failure::new(format!("prints\n{last}and not\n{printed}")));
            }
        }
    }
    // The address that the container on the first machine is told of that on the second one, and packets.
    let address = last
        .lines()
        .find_map(|line| line.trim().strip_prefix("A 5 "));
    let address: IpAddr = address
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| Failure::new(format!("no address of app2: {last}")))?;
    let (from, to) = (machines.container(1)?, machines.container(2)?);
    let _echo = Echo::start(&to, "app2", 80)?;
    for (protocol, ask) in BOTH {
        let target = SocketAddr::new(address, 80);
        let answer = from.run(|| ask(target, PATIENCE));
        let answer = answer.map_err(Failure::act("enter the container"))?;
        let reply = answer.map_err(|silence| Failure::new(format!("{protocol}: {silence}")))?;
        if reply.server != "app2" {
            return Err(Failure::new(format!("{protocol}: {reply:?}")));
        }
    }
    Ok(())
}
