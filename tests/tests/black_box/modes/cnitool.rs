//! The other modes through real cnitool, 1.1.2 and 1.3.0, with the ways in which runtimes name a
//! namespace.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use pontoon_lab::{
    Attachment, Backend, Container, Failure, Network, Outcome, Scratch, Site, missing, target_dir,
};
use pontoon_netlink::Netns;
use serde_json::json;

/// A host whose network is a file, and a cnitool to run on it.
struct Scene {
    site: Site,
    tool: PathBuf,
    conf: Scratch,
    name: String,
}

impl Scene {
    fn new(version: &str, kind: &str, key: Option<(&str, &str)>) -> Outcome<Self> {
        let tool = target_dir()?
            .join("tools")
            .join(format!("cnitool-{version}"));
        if !tool.is_file() {
            return Err(missing(&format!("cnitool {version}")));
        }
        let site = Site::new(Backend::Nftables)?;
        let conf = Scratch::new("conf")?;
        // libcni keeps results by network name for the whole machine: one name for each scene.
        let name = Container::new("net")?.id.clone();
        let spec = if version == "1.1.2" { "1.0.0" } else { "1.1.0" };
        let mut network = Network::from_list(json!({
            "cniVersion": spec, "name": name, "plugins": [{ "type": kind }],
        }));
        if let Some((key, value)) = key {
            network = network.with(kind, key, json!(value));
        }
        let file = conf.path().join("10-mode.conflist");
        fs::write(&file, network.list().to_string()).map_err(Failure::act("write the conflist"))?;
        Ok(Self {
            site,
            tool,
            conf,
            name,
        })
    }

    fn tool(&self, verb: &str, netns: &str) -> Outcome<String> {
        let runtime = self.site.runtime();
        let mut command = Command::new(&self.tool);
        command
            .args([verb, &self.name, netns])
            .env("CNI_PATH", runtime.programs().dir())
            .env("NETCONFPATH", self.conf.path())
            .env("PATH", runtime.path());
        let output = self.site.host.run(|| command.output())?;
        let output = output.map_err(Failure::act("run cnitool"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!(
            "cnitool {verb}: {}",
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim()
        )))
    }

    /// ADD, CHECK, DEL twice; `expected` stands in the result.
    fn life(&self, netns: &str, expected: &str) -> Outcome {
        let before = self.site.snapshot()?;
        let result = self.tool("add", netns)?;
        if !result.contains(expected) {
            return Err(Failure::new(format!("{netns}: no {expected} in {result}")));
        }
        self.tool("check", netns)?;
        self.tool("del", netns)?;
        self.tool("del", netns)?;
        before.same_as(&self.site.snapshot()?, &format!("DEL of {netns}"))
    }
}

struct Process(Child);

impl Process {
    fn inside(netns: &Netns) -> Outcome<Self> {
        let act = "start a process in the namespace";
        let child = netns.run(|| Command::new("sleep").arg("600").spawn());
        Ok(Self(
            child
                .map_err(Failure::act(act))?
                .map_err(Failure::act(act))?,
        ))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const TOOLS: [&str; 2] = ["1.1.2", "1.3.0"];

fn identity(container: &Container) -> Outcome<String> {
    let netns = Netns::open(container.path()).map_err(Failure::act("open a namespace"))?;
    Ok(netns.id().to_string())
}

/// `/run/netns/x` and `/var/run/netns/x`.
fn named(container: &Container) -> [String; 2] {
    let path = container.path_text();
    [path.clone(), path.replacen("/run/", "/var/run/", 1)]
}

#[test]
fn none_by_cnitool() -> Outcome {
    for version in TOOLS {
        let scene = Scene::new(version, "none", None)?;
        let container = Container::new("none")?;
        for path in named(&container) {
            scene.life(&path, "127.0.0.1/8")?;
        }
        let process = Process::inside(container.netns())?;
        scene.life(&process.path(), "127.0.0.1/8")?;
    }
    Ok(())
}

#[test]
fn host_by_cnitool() -> Outcome {
    for version in TOOLS {
        let scene = Scene::new(version, "host", None)?;
        let container = Container::new("host")?;
        let own = identity(&container)?;
        for path in named(&container) {
            scene.life(&path, "198.18.7.1/24")?;
            if identity(&container)? != own {
                return Err(Failure::new(format!("{path} was not restored")));
            }
        }
        // A process on the host is there already; one elsewhere cannot be taken there.
        let process = Process::inside(scene.site.host.netns())?;
        scene.life(&process.path(), "198.18.7.1/24")?;
        let process = Process::inside(container.netns())?;
        let error = scene.tool("add", &process.path()).err();
        if !error.is_some_and(|error| error.to_string().contains("running process")) {
            return Err(Failure::new("a running process was not refused"));
        }
        scene.tool("del", &process.path())?;
    }
    Ok(())
}

#[test]
fn container_by_cnitool() -> Outcome {
    for version in TOOLS {
        let target = Container::new("shared")?;
        let scene = Scene::new(version, "container", Some(("container", &target.id)))?;
        let site = &scene.site;
        let network = site.network("shared", "shared0", &["10.78.0.0/24"]);
        let mut attachment = Attachment::new(&target);
        site.runtime().add(&network, &mut attachment)?;
        let container = Container::new("joiner")?;
        let own = identity(&container)?;
        for path in named(&container) {
            scene.life(&path, "10.78.0.2/24")?;
            if identity(&container)? != own {
                return Err(Failure::new(format!("{path} was not restored")));
            }
        }
        let process = Process::inside(target.netns())?;
        scene.life(&process.path(), "10.78.0.2/24")?;
        site.runtime().check(&network, &attachment)?;
    }
    Ok(())
}
