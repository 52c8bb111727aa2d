//! A real containerd 1.6 on a host of the lab, driven by the calls of a kubelet and by `ctr`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_netlink::Netns;
use serde_json::Value;

use super::daemon::Daemon;
use super::failure::{Failure, Outcome};
use super::probe::Echo;
use super::programs::{find, libraries, missing, target_dir};
use super::scratch::Scratch;
use super::screen::{Screen, remove_groups};
use super::site::Site;
use super::snapshot::Snapshot;

/// What containerd, its shims, `ctr` and the plugins write to or read without asking.
const FOLDERS: [&str; 6] = [
    "/etc/cni",
    "/opt",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
];

/// Control groups of pods, and of `ctr`'s containers.
const GROUPS: [&str; 2] = ["k8s.io", "default"];

const IMAGE: &str = "localhost/box:1";

/// containerd with the plugins under test in `/opt/cni/bin`, and everything that it keeps in folders
/// of the test's own. All pods go when this is dropped.
pub struct Containerd<'s> {
    // Before its folders.
    daemon: Option<Daemon>,
    site: &'s Site,
    screen: Screen,
    root: PathBuf,
    cri: PathBuf,
    dir: Scratch,
}

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// Its address, by what containerd says.
    pub address: String,
    /// Its network namespace.
    pub netns: Netns,
}

impl Pod {
    /// Starts an echo server in it.
    pub fn serve(&self, name: &str, port: u16) -> Outcome<Echo> {
        Echo::start(&self.netns, name, port)
    }
}

impl<'s> Containerd<'s> {
    /// Starts it with this network and imports the image.
    pub fn start(site: &'s Site, network: &Value) -> Outcome<Self> {
        let tools = target_dir()?.join("tools");
        let (root, cri) = (tools.join("dockerd-20.10"), tools.join("cri"));
        if !root.join("usr/bin/containerd").is_file() {
            return Err(missing("containerd 1.6"));
        }
        if !cri.join("image.tar").is_file() {
            return Err(missing("grpcio"));
        }
        let mut own = Self {
            daemon: None,
            site,
            screen: Screen::new(&FOLDERS)?,
            root,
            cri,
            dir: Scratch::new("containerd")?,
        };
        own.configure(network)
            .map_err(Failure::act("configure containerd"))?;
        let mut command = own.command(&own.root.join("usr/bin/containerd"));
        command.arg("-c").arg(own.at("config.toml"));
        let answers = || own.ctr(&["version"]).is_ok();
        let act = "run containerd";
        let daemon = Daemon::start_by(
            |command| {
                let started = own.screen.run(&site.host, || command.spawn())?;
                started.map_err(Failure::act(act))
            },
            &mut command,
            &own.at("log"),
            answers,
        )?;
        own.daemon = Some(daemon);
        let image = own.cri.join("image.tar").display().to_string();
        own.ctr(&["-n", "k8s.io", "images", "import", &image])?;
        own.ctr(&["images", "import", &image])?;
        Ok(own)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> String {
        self.at("socket").display().to_string()
    }

    fn configure(&self, network: &Value) -> std::io::Result<()> {
        let bin = self.screen.at("/opt").join("cni/bin");
        fs::create_dir_all(&bin)?;
        for entry in fs::read_dir(self.site.runtime().programs().dir())? {
            let path = entry?.path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                symlink(&path, bin.join(name))?;
            }
        }
        let net = self.screen.at("/etc/cni").join("net.d");
        fs::create_dir_all(&net)?;
        fs::write(net.join("10-lab.conflist"), network.to_string())?;
        // A sandbox may forbid to lower oom_score_adj, and may lack hugetlb.
        let dir = self.dir.path().display();
        fs::write(
            self.at("config.toml"),
            format!(
                "version = 2\n\
                 root = \"{dir}/root\"\n\
                 state = \"{dir}/state\"\n\
                 oom_score = 0\n\
                 [grpc]\n\
                 address = \"{}\"\n\
                 [plugins.\"io.containerd.internal.v1.opt\"]\n\
                 path = \"{dir}/opt\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\n\
                 sandbox_image = \"{IMAGE}\"\n\
                 restrict_oom_score_adj = true\n\
                 disable_hugetlb_controller = true\n\
                 disable_apparmor = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
                 bin_dir = \"/opt/cni/bin\"\n\
                 conf_dir = \"/etc/cni/net.d\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
                 runtime_type = \"io.containerd.runc.v2\"\n",
                self.socket()
            ),
        )
    }

    fn command(&self, program: &Path) -> Command {
        let mut path = self.site.runtime().path().to_owned();
        for folder in ["usr/bin", "usr/sbin"] {
            path.push(":");
            path.push(self.root.join(folder));
        }
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("LD_LIBRARY_PATH", libraries(&self.root));
        command
    }

    fn run(&self, command: &mut Command) -> Outcome<String> {
        let shown = format!("{command:?}");
        match self.screen.output(&self.site.host, command)? {
            (true, text) => Ok(text.trim().to_owned()),
            (false, text) => Err(Failure::new(format!("{shown}: {text}"))),
        }
    }

    /// Runs `pontoon` where containerd's files are: whether it succeeded, and what it printed.
    pub fn pontoon(&self, arguments: &[&str]) -> Outcome<(bool, String)> {
        let mut command = Command::new(self.site.runtime().programs().program("pontoon"));
        command.env("PATH", self.site.admins_path()).args(arguments);
        self.screen.output(&self.site.host, &mut command)
    }

    /// Runs `ctr`.
    pub fn ctr(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = self.command(&self.root.join("usr/bin/ctr"));
        self.run(command.args(["-a", &self.socket()]).args(arguments))
    }

    /// Makes one call of the CRI; see `tests/scripts/cri.py`.
    pub fn call(&self, arguments: &[&str]) -> Outcome<String> {
        let python = find("python3").ok_or_else(|| missing("python3"))?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cri.py");
        let mut command = Command::new(python);
        command
            .env("PYTHONPATH", self.cri.join("python"))
            .arg(script)
            .arg(self.socket());
        self.run(command.args(arguments))
    }

    /// Starts a pod.
    pub fn pod(&self, wish: &Value) -> Outcome<Pod> {
        let id = self.call(&["run", &wish.to_string()])?;
        let told = self.call(&["status", &id])?;
        let told: Value =
            serde_json::from_str(&told).map_err(Failure::act("read a pod's status"))?;
        let netns = format!("/proc/{}/ns/net", told["pid"]);
        let netns =
            Netns::open(Path::new(&netns)).map_err(Failure::act("open a pod's namespace"))?;
        Ok(Pod {
            id,
            address: told["address"].as_str().unwrap_or_default().to_owned(),
            netns,
        })
    }

    /// Everything on the host, leases among it.
    pub fn snapshot(&self) -> Outcome<Snapshot> {
        Snapshot::take(&self.site.host, &self.screen.at("/var/lib/cni/networks"))
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let pods = self.call(&["list"]).unwrap_or_default();
        for pod in pods.lines() {
            for verb in ["stop", "remove"] {
                if let Err(failure) = self.call(&[verb, pod]) {
                    eprintln!("a pod stays: {failure}");
                }
            }
        }
        self.daemon = None;
        GROUPS.into_iter().for_each(remove_groups);
    }
}
