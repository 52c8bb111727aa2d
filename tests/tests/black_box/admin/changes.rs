//! The commands of `pontoon` that change something: gc, install, uninstall.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_lab::{Attachment, Backend, Container, Failure, Network, Outcome, Scratch, Site};
use serde_json::{Value, json};

#[track_caller]
fn wrong(text: impl Into<String>) -> Outcome {
    Err(Failure::new(text))
}

/// A host whose network is a file, with one container alive and one gone without DEL.
struct Scene {
    site: Site,
    conf: Scratch,
    network: Network,
    alive: (Container, Attachment),
    dead: Attachment,
}

impl Scene {
    fn new() -> Outcome<Self> {
        let site = Site::new(Backend::Nftables)?;
        let network = site.network("yard", "yard0", &["10.81.0.0/24"]);
        let conf = Scratch::new("conf")?;
        fs::write(
            conf.path().join("10-yard.conflist"),
            network.list().to_string(),
        )
        .map_err(Failure::act("write the conflist"))?;
        let alive = site.join("alive", &network)?;
        let container = Container::new("dead")?;
        let mut dead = Attachment::new(&container).publish("", 8080, 80, "tcp");
        site.runtime().add(&network, &mut dead)?;
        container.kill()?;
        Ok(Self {
            site,
            conf,
            network,
            alive,
            dead,
        })
    }

    fn gc(&self, arguments: &[&str]) -> Outcome<Value> {
        let conf = self.conf.path().display().to_string();
        let bin = self.site.runtime().programs().dir().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", &bin];
        self.site
            .pontoon_json(&[&["gc", "yard"], arguments, &places].concat())
    }

    fn ids(&self) -> Outcome<Vec<String>> {
        let list = self.site.pontoon_json(&["ls"])?;
        let ids = list.as_array().into_iter().flatten();
        Ok(ids
            .filter_map(|one| one["id"].as_str().map(str::to_owned))
            .collect())
    }
}

#[test]
fn gc_removes_the_dead_and_says_so_first() -> Outcome {
    let scene = Scene::new()?;
    let before = scene.site.snapshot()?;
    // A lease of a container that was never attached.
    let lease = scene.site.leases.path().join("yard/10.81.0.77");
    fs::write(&lease, "stranger\r\neth0").map_err(Failure::act("plant a lease"))?;
    let planned = scene.gc(&["--all-dead", "--dry-run"])?;
    let shown = planned["doomed"].to_string();
    if planned["removed"] != false
        || shown.contains("yard0")
        || planned["doomed"].as_array().map(Vec::len) != Some(2)
        || !shown.contains(&scene.dead.container_id)
        || !shown.contains("10.81.0.77 of stranger")
    {
        return wrong(format!("not the plan: {planned}"));
    }
    if !lease.exists() || scene.ids()?.len() != 2 {
        return wrong("--dry-run removed something");
    }
    let done = scene.gc(&["--all-dead"])?;
    if done["doomed"] != planned["doomed"] || done["removed"] != true {
        return wrong(format!("not what was planned: {done}"));
    }
    if lease.exists() || scene.ids()? != [scene.alive.0.id.clone()] {
        return wrong(format!("left: {:?}", scene.ids()?));
    }
    scene.site.runtime().check(&scene.network, &scene.alive.1)?;
    let again = scene.gc(&["--all-dead"])?;
    if again["doomed"] != json!([]) || again["removed"] != false {
        return wrong(format!("the second time something was removed: {again}"));
    }
    // The dead one has left nothing: its port can be had.
    let container = Container::new("heir")?;
    let mut heir = Attachment::new(&container).publish("", 8080, 80, "tcp");
    scene.site.runtime().add(&scene.network, &mut heir)?;
    scene.site.runtime().del(&scene.network, &heir)?;
    let rules = before.lines("rules").len();
    let after = scene.site.snapshot()?;
    if after.lines("rules").len() >= rules {
        return wrong(format!("rules of the dead are left:\n{after:?}"));
    }
    Ok(())
}

/// The bridge, which stays after the last DEL, is told before it goes and when it goes.
#[test]
fn gc_tells_of_the_bridge_too() -> Outcome {
    let scene = Scene::new()?;
    let bridge = || -> Outcome<bool> {
        let lines = scene.site.snapshot()?;
        Ok(lines
            .lines("links")
            .iter()
            .any(|line| line.contains("yard0")))
    };
    let doomed = |report: &Value| -> Vec<String> {
        let all = report["doomed"].as_array().into_iter().flatten();
        all.map(|one| format!("{} {}", one["what"], one["name"]).replace('"', ""))
            .collect()
    };
    // The dead one holds it no more, and the living one leaves.
    scene.site.runtime().del(&scene.network, &scene.alive.1)?;
    let planned = scene.gc(&["--all-dead", "--dry-run"])?;
    let named = |report: &Value| doomed(report).contains(&"bridge yard0".to_owned());
    if !named(&planned) || planned["removed"] != false || !bridge()? {
        return wrong(format!("not the plan: {planned}"));
    }
    let done = scene.gc(&["--all-dead"])?;
    if doomed(&done) != doomed(&planned) || done["removed"] != true || bridge()? {
        return wrong(format!("not what was planned: {done}"));
    }
    let again = scene.gc(&["--all-dead"])?;
    if again["doomed"] != json!([]) || again["removed"] != false {
        return wrong(format!("the second time something was removed: {again}"));
    }
    // A port of another program holds it: then it is not told either.
    let (_held, held) = scene.site.join("held", &scene.network)?;
    for words in [
        "link add port0 type vxlan id 7 dstport 4789",
        "link set port0 master yard0",
    ] {
        let mut ip = Command::new("ip");
        scene.site.host.command(ip.args(words.split(' ')))?;
    }
    scene.site.runtime().del(&scene.network, &held)?;
    for arguments in [&["--all-dead", "--dry-run"][..], &["--all-dead"]] {
        let report = scene.gc(arguments)?;
        if named(&report) || !bridge()? {
            return wrong(format!("a bridge with a port: {report}"));
        }
    }
    Ok(())
}

#[test]
fn gc_keeps_what_it_is_told() -> Outcome {
    let scene = Scene::new()?;
    let other = scene.site.join("other", &scene.network)?;
    scene.gc(&["--keep", &other.0.id])?;
    if scene.ids()? != [other.0.id.clone()] {
        return wrong(format!("kept: {:?}", scene.ids()?));
    }
    scene.site.runtime().check(&scene.network, &other.1)?;
    scene.site.pontoon_ends(&["gc", "yard"], 2)?;
    let conf = scene.conf.path().display().to_string();
    let unknown = ["gc", "nothing", "--all-dead", "--conf-dir", &conf];
    scene.site.pontoon_ends(&unknown, 3)?;
    // Without records no attachment can be told to be dead.
    let foreign = json!({ "name": "foreign", "type": "ipvlan", "ipam": { "type": "host-local" } });
    fs::write(
        scene.conf.path().join("20-foreign.conf"),
        foreign.to_string(),
    )
    .map_err(Failure::act("write a configuration"))?;
    let foreign = ["gc", "foreign", "--all-dead", "--conf-dir", &conf];
    scene.site.pontoon_ends(&foreign, 1)?;
    let keep = ["gc", "yard", "--keep", "unknown", "--conf-dir", &conf];
    scene.site.pontoon_ends(&keep, 3).map(drop)
}

/// Two empty folders, as strings.
struct Folders(Scratch);

impl Folders {
    fn new() -> Outcome<Self> {
        let scratch = Scratch::new("install")?;
        fs::create_dir_all(scratch.path().join("bin")).map_err(Failure::act("make a folder"))?;
        Ok(Self(scratch))
    }

    fn bin(&self, name: &str) -> PathBuf {
        self.0.path().join("bin").join(name)
    }

    fn conf(&self) -> PathBuf {
        self.0.path().join("conf/10-docker0.conflist")
    }

    fn run(&self, site: &Site, arguments: &[&str], status: i32) -> Outcome<String> {
        let bin = self.0.path().join("bin").display().to_string();
        let conf = self.0.path().join("conf").display().to_string();
        let folders = ["--bin-dir", &bin, "--conf-dir", &conf];
        site.pontoon_ends(&[arguments, &folders].concat(), status)
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(Failure::act(format!("read {}", path.display())))
}

#[test]
fn install_spares_another_vendors_until_forced_and_uninstall_puts_back() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let folders = Folders::new()?;
    let theirs = b"#!/bin/sh\n# another vendor's\n";
    fs::write(folders.bin("bridge"), theirs).map_err(Failure::act("write a plugin"))?;
    folders.run(&site, &["install"], 1)?;
    if read(&folders.bin("bridge"))? != theirs || folders.bin("portmap").exists() {
        return wrong("a refused install changed something");
    }
    folders.run(&site, &["install", "--force", "--sample", "docker0"], 0)?;
    let built = site.runtime().programs().program("bridge");
    if read(&folders.bin("bridge"))? != read(&built)? || !folders.conf().is_file() {
        return wrong("not installed");
    }
    // The installed ones work, and again is the same.
    folders.run(&site, &["install"], 0)?;
    let text = folders.run(&site, &["uninstall"], 0)?;
    if read(&folders.bin("bridge"))? != theirs || !text.contains("put back") {
        return wrong(format!("not put back:\n{text}"));
    }
    let left: Vec<_> = fs::read_dir(folders.bin(""))
        .map_err(Failure::act("list the folder"))?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    if left != ["bridge"] || folders.conf().exists() {
        return wrong(format!("left: {left:?}"));
    }
    folders.run(&site, &["uninstall"], 0)?;
    if read(&folders.bin("bridge"))? != theirs {
        return wrong("the second uninstall removed another vendor's plugin");
    }
    Ok(())
}

#[test]
fn an_edited_configuration_stays() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let folders = Folders::new()?;
    folders.run(&site, &["install", "--sample", "docker0"], 0)?;
    let mut list: Value = serde_json::from_slice(&read(&folders.conf())?)
        .map_err(Failure::act("parse the sample"))?;
    list["name"] = json!("mine");
    fs::write(folders.conf(), list.to_string()).map_err(Failure::act("edit the sample"))?;
    folders.run(&site, &["install", "--sample", "docker0"], 0)?;
    folders.run(&site, &["uninstall"], 0)?;
    let kept = read(&folders.conf())?;
    if kept != list.to_string().as_bytes() {
        return wrong("the edited configuration was touched");
    }
    site.pontoon_ends(&["install", "--from", "/proc"], 3)
        .map(drop)
}

/// A runtime that takes the first file of the folder must not find one that was not asked for.
#[test]
fn no_network_is_installed_unasked() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let folders = Folders::new()?;
    let text = folders.run(&site, &["install"], 0)?;
    if folders.conf().exists() || !text.contains("--sample NAME") {
        return wrong(format!("a network unasked, or no word of it:\n{text}"));
    }
    let samples = ["install", "--sample", "names", "--sample", "icc-off"];
    folders.run(&site, &samples, 0)?;
    let conf = folders.0.path().join("conf");
    for name in ["10-names.conflist", "10-icc-off.conflist"] {
        if !conf.join(name).is_file() {
            return wrong(format!("{name} is not installed"));
        }
    }
    folders.run(&site, &["install", "--sample", "nothing"], 2)?;
    folders.run(&site, &["uninstall"], 0)?;
    match fs::read_dir(&conf).map_err(Failure::act("list"))?.count() {
        0 => Ok(()),
        left => wrong(format!("{left} networks are left")),
    }
}

/// Where docker0 is Docker's, the sample of that name keeps off it.
#[test]
fn the_sample_has_a_bridge_of_its_own_beside_docker() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    for words in [
        "link add docker0 type bridge",
        "addr add 172.17.0.1/16 dev docker0",
        "link set docker0 up",
    ] {
        let mut ip = Command::new("ip");
        site.host.command(ip.args(words.split(' ')))?;
    }
    let folders = Folders::new()?;
    let text = folders.run(&site, &["install", "--sample", "docker0"], 0)?;
    let list: Value = serde_json::from_slice(&read(&folders.conf())?)
        .map_err(Failure::act("parse the sample"))?;
    let bridge = &list["plugins"][0];
    if !text.contains("Docker")
        || bridge["bridge"] != "pontoon0"
        || bridge["ipam"]["subnet"] != "auto"
    {
        return wrong(format!("{text}{list}"));
    }
    // It works there, off Docker's subnet, and goes again.
    let network = Network::load(&folders.conf())?.with_ipam("dataDir", json!(site.leases.path()));
    let network = network
        .with("bridge", "ipMasqBackend", json!("nftables"))
        .with("portmap", "backend", json!("nftables"))
        .with("firewall", "backend", json!("nftables"));
    let (_container, attachment) = site.join("mine", &network)?;
    let address = attachment.result.clone().unwrap_or_default()["ips"][0]["address"].clone();
    if address
        .as_str()
        .is_none_or(|address| address.starts_with("172.17."))
    {
        return wrong(format!("an address of Docker's: {address}"));
    }
    site.runtime().del(&network, &attachment)?;
    folders.run(&site, &["uninstall"], 0)?;
    if folders.conf().exists() {
        return wrong("the sample stays");
    }
    Ok(())
}

#[test]
fn uninstall_refuses_while_containers_are_attached() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let folders = Folders::new()?;
    folders.run(&site, &["install"], 0)?;
    let network = site.network("yard", "yard0", &["10.81.0.0/24"]);
    let alive = site.join("alive", &network)?;
    let container = Container::new("dead")?;
    let mut dead = Attachment::new(&container);
    site.runtime().add(&network, &mut dead)?;
    container.kill()?;
    let [bin, conf] = ["bin", "conf"].map(|name| folders.0.path().join(name).display().to_string());
    let told = site.pontoon(&["uninstall", "--bin-dir", &bin, "--conf-dir", &conf])?;
    let text = told.stderr;
    if told.status != Some(1) {
        return wrong(format!("uninstalled with containers attached:\n{text}"));
    }
    let (alive_id, dead_id) = (alive.1.container_id.as_str(), dead.container_id.as_str());
    for words in [alive_id, dead_id, "network yard", "--force"] {
        if !text.contains(words) {
            return wrong(format!("no {words}: {text}"));
        }
    }
    if !folders.bin("bridge").is_file() {
        return wrong("a refused uninstall removed a plugin");
    }
    site.runtime().del(&network, &dead)?;
    folders.run(&site, &["uninstall"], 1)?;
    folders.run(&site, &["uninstall", "--force"], 0)?;
    if folders.bin("bridge").exists() {
        return wrong("--force removed nothing");
    }
    site.runtime().del(&network, &alive.1)?;
    folders.run(&site, &["install"], 0)?;
    folders.run(&site, &["uninstall"], 0).map(drop)
}
