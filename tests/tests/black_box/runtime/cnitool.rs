//! The chain through real cnitool, 1.1.2 and 1.3.0, and DEL after everything that can happen to a
//! host between ADD and DEL.

use std::fs;
use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use pontoon_lab::{
    Backend, Container, Failure, HOST_V4, Network, Outcome, Scratch, Site, find, missing,
    target_dir, tcp,
};
use serde_json::json;

/// A host whose network is a file, and a cnitool to run on it.
struct Scene {
    site: Site,
    tool: PathBuf,
    conf: Scratch,
    network: Network,
    container: Container,
}

impl Scene {
    fn new(backend: Backend, version: &str) -> Outcome<Self> {
        let tool = target_dir()?
            .join("tools")
            .join(format!("cnitool-{version}"));
        if !tool.is_file() {
            return Err(missing(&format!("cnitool {version}")));
        }
        let site = Site::new(backend)?;
        let conf = Scratch::new("conf")?;
        let container = Container::new("tool")?;
        // libcni keeps results by network name for the whole machine: one name for each scene.
        let name = format!("net-{}", container.id);
        let spec = if version == "1.1.2" { "1.0.0" } else { "1.1.0" };
        let network = site
            .network(&name, "tool0", &["10.73.0.0/24", "fd00:73::/64"])
            .in_version(spec);
        let file = conf.path().join("10-tool.conflist");
        fs::write(&file, network.list().to_string()).map_err(Failure::act("write the conflist"))?;
        Ok(Self {
            site,
            tool,
            conf,
            network,
            container,
        })
    }

    fn tool(&self, verb: &str, netns: &str) -> Outcome<String> {
        let runtime = self.site.runtime();
        let mut command = Command::new(&self.tool);
        command
            .args([verb, self.network.name(), netns])
            .env("CNI_PATH", runtime.programs().dir())
            .env("NETCONFPATH", self.conf.path())
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .env("CAP_ARGS", json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] }).to_string())
            .env("PATH", runtime.path());
        let output: Output = self
            .site
            .host
            .run(|| command.output())?
            .map_err(Failure::act("run cnitool"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = [output.stdout, output.stderr].concat();
        Err(Failure::new(format!(
            "cnitool {verb}: {}: {}",
            output.status,
            String::from_utf8_lossy(&words).trim()
        )))
    }

    fn answers(&self) -> Outcome<bool> {
        let _server = self.container.serve(80)?;
        let target = SocketAddr::new(HOST_V4, 8080);
        let reply = self
            .site
            .host
            .run_outside(|| tcp(target, Duration::from_secs(3)))?;
        Ok(reply.is_ok_and(|reply| reply.server == self.container.id))
    }
}

/// The whole life of an attachment.
fn life(backend: Backend, version: &str) -> Outcome {
    let scene = Scene::new(backend, version)?;
    let netns = scene.container.path_text();
    let before = scene.site.snapshot()?;
    let result = scene.tool("add", &netns)?;
    if !result.contains("10.73.0.2/24") {
        return Err(Failure::new(format!("no address in the result: {result}")));
    }
    if !scene.answers()? {
        return Err(Failure::new("the published port does not answer"));
    }
    scene.tool("check", &netns)?;
    if version == "1.3.0" {
        scene.tool("status", &netns)?;
        // cnitool knows of no attachment that is valid: everything goes.
        scene.tool("gc", &netns)?;
        scene
            .site
            .nothing_left(&before, &[&scene.network], "ADD and GC")?;
    }
    scene.tool("del", &netns)?;
    scene.tool("del", &netns)?;
    scene
        .site
        .nothing_left(&before, &[&scene.network], "ADD and DEL twice")
}

#[test]
fn life_by_cnitool_1_1_2() -> Outcome {
    Backend::ALL
        .into_iter()
        .try_for_each(|backend| life(backend, "1.1.2").map_err(|error| named(backend, error)))
}

#[test]
fn life_by_cnitool_1_3_0() -> Outcome {
    Backend::ALL
        .into_iter()
        .try_for_each(|backend| life(backend, "1.3.0").map_err(|error| named(backend, error)))
}

fn named(backend: Backend, error: Failure) -> Failure {
    Failure::new(format!("{backend}: {error}"))
}

/// DEL twice after `mishap`, which may give another namespace path for it.
fn converges(what: &str, mishap: impl Fn(&mut Scene) -> Outcome<String>) -> Outcome {
    for backend in Backend::ALL {
        let mut scene = Scene::new(backend, "1.1.2")?;
        let before = scene.site.snapshot()?;
        scene.tool("add", &scene.container.path_text())?;
        let netns = mishap(&mut scene).map_err(|error| named(backend, error))?;
        for _ in 0..2 {
            scene
                .tool("del", &netns)
                .map_err(|error| named(backend, error))?;
        }
        scene
            .site
            .nothing_left(&before, &[&scene.network], &format!("DEL {what}"))
            .map_err(|error| named(backend, error))?;
    }
    Ok(())
}

#[test]
fn del_after_the_rules_were_flushed() -> Outcome {
    converges("after flushes", |scene| {
        for multi in ["xtables-nft-multi", "xtables-legacy-multi"] {
            let program = find(multi).ok_or_else(|| missing(multi))?;
            for family in ["iptables", "ip6tables"] {
                for arguments in [
                    &["-F"][..],
                    &["-t", "nat", "-F"],
                    &["-t", "nat", "-X"],
                    &["-X"],
                ] {
                    scene
                        .site
                        .host
                        .command(Command::new(&program).arg(family).args(arguments))?;
                }
            }
        }
        let nft = find("nft").ok_or_else(|| missing("nft"))?;
        scene
            .site
            .host
            .command(Command::new(nft).args(["flush", "ruleset"]))?;
        Ok(scene.container.path_text())
    })
}

#[test]
fn del_after_the_namespace_is_gone() -> Outcome {
    converges("of a namespace that is gone", |scene| {
        let path = scene.container.path_text();
        mem::replace(&mut scene.container, Container::new("spare")?).kill()?;
        Ok(path)
    })
}

#[test]
fn del_after_the_bridge_was_deleted() -> Outcome {
    converges("without its bridge", |scene| {
        let act = "delete the bridge";
        scene.site.host.run(|| -> Outcome {
            let mut socket = pontoon_netlink::RouteSocket::open().map_err(Failure::act(act))?;
            let bridge = socket.link_by_name("tool0").map_err(Failure::act(act))?;
            let index = bridge
                .ok_or_else(|| Failure::new("there is no bridge"))?
                .index;
            socket
                .delete_link(index)
                .map_err(Failure::act(act))
                .map(drop)
        })??;
        Ok(scene.container.path_text())
    })
}
