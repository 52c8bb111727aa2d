//! A real podman 4.3 with its CNI backend, on a host of the lab.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_netlink::Netns;
use serde_json::Value;

use super::failure::{Failure, Outcome};
use super::firewall::Backend;
use super::probe::Echo;
use super::programs::{find, libraries, missing, target_dir};
use super::scratch::Scratch;
use super::screen::{Screen, remove_groups};
use super::site::Site;
use super::snapshot::Snapshot;

/// What podman, its runtime and the plugins write to without asking.
const FOLDERS: [&str; 5] = [
    "/etc/cni",
    "/etc/containers",
    "/run/containers",
    "/run/netns",
    "/var/lib/cni",
];

/// A folder of every control group hierarchy in which podman makes its own.
const GROUPS: &str = "libpod_parent";

/// The image that containers are made of: busybox, and musl's `resolve`.
pub const IMAGE: &str = "localhost/box:1";

/// podman with the plugins under test, and everything that it keeps in folders of the test's own.
/// All containers and networks go when this is dropped.
pub struct Podman<'s> {
    site: &'s Site,
    screen: Screen,
    root: PathBuf,
    dir: Scratch,
}

impl<'s> Podman<'s> {
    /// Configures it and imports the image. It finds no tools but the site's backend's.
    pub fn new(site: &'s Site) -> Outcome<Self> {
        let root = target_dir()?.join("tools/podman-4.3");
        if !root.join("image.tar").is_file() {
            return Err(missing("podman 4.3"));
        }
        // What podman writes names no backend: iptables is taken where it is found.
        let mut hidden = Vec::new();
        if site.backend == Backend::Nftables {
            for tool in ["xtables-nft-multi", "xtables-legacy-multi"] {
                hidden.push(find(tool).ok_or_else(|| missing(tool))?);
            }
        }
        let podman = Self {
            site,
            screen: Screen::hiding(&FOLDERS, &hidden)?,
            root,
            dir: Scratch::new("podman")?,
        };
        podman
            .configure()
            .map_err(Failure::act("configure podman"))?;
        let image = podman.root.join("image.tar").display().to_string();
        podman.run(&["import", "-q", "-c", "CMD [\"/bin/pause\"]", &image, IMAGE])?;
        Ok(podman)
    }

    fn configure(&self) -> std::io::Result<()> {
        let (dir, root) = (self.dir.path().display(), self.root.display());
        fs::copy(
            self.root.join("etc/containers/policy.json"),
            self.screen.at("/etc/containers").join("policy.json"),
        )?;
        fs::write(
            self.dir.path().join("storage.conf"),
            format!(
                "[storage]\ndriver = \"overlay\"\ngraphroot = \"{dir}/graph\"\nrunroot = \
                 \"{dir}/run\"\n"
            ),
        )?;
        // Limits are named because a sandbox may forbid to raise its own.
        fs::write(
            self.dir.path().join("containers.conf"),
            format!(
                "[containers]\n\
                 cgroups = \"enabled\"\n\
                 default_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
                 log_driver = \"k8s-file\"\n\
                 seccomp_profile = \"{root}/usr/share/containers/seccomp.json\"\n\
                 [engine]\n\
                 cgroup_manager = \"cgroupfs\"\n\
                 conmon_path = [\"{root}/usr/bin/conmon\"]\n\
                 events_logger = \"file\"\n\
                 infra_image = \"{IMAGE}\"\n\
                 runtime = \"runc\"\n\
                 tmp_dir = \"{dir}/tmp\"\n\
                 volume_path = \"{dir}/volumes\"\n\
                 [engine.runtimes]\n\
                 runc = [\"{root}/usr/sbin/runc\"]\n\
                 [network]\n\
                 cni_plugin_dirs = [\"{}\"]\n\
                 default_subnet = \"10.88.0.0/16\"\n\
                 network_backend = \"cni\"\n\
                 network_config_dir = \"/etc/cni/net.d\"\n",
                self.site.runtime().programs().dir().display(),
            ),
        )
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut path: OsString = self.site.runtime().path().to_owned();
        for folder in ["usr/bin", "usr/sbin"] {
            path.push(":");
            path.push(self.root.join(folder));
        }
        // For podman-compose. The tools of the backends are not there.
        path.push(":/usr/bin:/bin");
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir.path())
            .env("LD_LIBRARY_PATH", libraries(&self.root))
            .env("CONTAINERS_CONF", self.dir.path().join("containers.conf"))
            .env(
                "CONTAINERS_STORAGE_CONF",
                self.dir.path().join("storage.conf"),
            );
        command
    }

    /// Runs podman with these arguments and wants it to succeed; what it printed, trimmed.
    pub fn run(&self, arguments: &[&str]) -> Outcome<String> {
        match self.attempt(arguments)? {
            (true, text) => Ok(text),
            (false, text) => Err(Failure::new(format!(
                "podman {}: {text}",
                arguments.join(" ")
            ))),
        }
    }

    /// Runs podman: whether it succeeded, and what it printed.
    pub fn attempt(&self, arguments: &[&str]) -> Outcome<(bool, String)> {
        let mut command = self.command(self.root.join("usr/bin/podman"));
        let (done, text) = self
            .screen
            .output(&self.site.host, command.args(arguments))?;
        Ok((done, text.trim().to_owned()))
    }

    /// Runs `pontoon` where podman's files are: whether it succeeded, and what it printed.
    pub fn pontoon(&self, arguments: &[&str]) -> Outcome<(bool, String)> {
        let programs = self.site.runtime().programs().clone();
        let mut command = Command::new(programs.program("pontoon"));
        command
            .env("PATH", self.site.admins_path())
            .env("CNI_PATH", programs.dir())
            .args(arguments);
        self.screen.output(&self.site.host, &mut command)
    }

    /// Runs podman-compose in a folder.
    pub fn compose(&self, folder: &Path, arguments: &[&str]) -> Outcome<String> {
        let python = find("python3").ok_or_else(|| missing("python3"))?;
        let mut command = self.command(python);
        command
            .env(
                "PYTHONPATH",
                self.root.join("usr/lib/python3/dist-packages"),
            )
            .arg(self.root.join("usr/bin/podman-compose"))
            .args(["-f", &folder.join("compose.yml").display().to_string()])
            .args(["-p", "made"])
            .args(arguments);
        match self.screen.output(&self.site.host, &mut command)? {
            (true, text) => Ok(text),
            (false, text) => Err(Failure::new(format!("podman-compose: {text}"))),
        }
    }

    /// Starts a container that sleeps.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Outcome<String> {
        let mut all = vec!["run", "-d", "--name", name];
        all.extend_from_slice(arguments);
        all.extend([IMAGE, "sleep", "100000"]);
        self.run(&all)
    }

    /// Runs a command in a container; what it printed, whether or not it succeeded.
    pub fn inside(&self, name: &str, command: &str) -> Outcome<String> {
        Ok(self.attempt(&["exec", name, "sh", "-c", command])?.1)
    }

    /// What `podman inspect` says of one object.
    pub fn inspect(&self, name: &str) -> Outcome<Value> {
        let text = self.run(&["inspect", name])?;
        let all: Value =
            serde_json::from_str(&text).map_err(Failure::act("read podman inspect"))?;
        Ok(all[0].clone())
    }

    /// A running container's network namespace.
    pub fn netns(&self, name: &str) -> Outcome<Netns> {
        let pid = &self.inspect(name)?["State"]["Pid"];
        Netns::open(Path::new(&format!("/proc/{pid}/ns/net")))
            .map_err(Failure::act(format!("open the namespace of {name}")))
    }

    /// Starts an echo server in a running container, called by the container's name.
    pub fn serve(&self, name: &str, port: u16) -> Outcome<Echo> {
        Echo::start(&self.netns(name)?, name, port)
    }

    /// Everything on the host, podman's leases among it.
    pub fn snapshot(&self) -> Outcome<Snapshot> {
        Snapshot::take(&self.site.host, &self.screen.at("/var/lib/cni/networks"))
    }

    /// Removes all containers, pods and networks.
    pub fn clear(&self) -> Outcome {
        self.run(&["pod", "rm", "-f", "-a", "-t", "0"])?;
        self.run(&["rm", "-f", "-a", "-t", "0"])?;
        let names = self.run(&["network", "ls", "-q"])?;
        for name in names.lines().filter(|name| *name != "podman") {
            self.run(&["network", "rm", name])?;
        }
        Ok(())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.clear() {
            eprintln!("podman's containers stay: {failure}");
        }
        remove_groups(GROUPS);
    }
}
