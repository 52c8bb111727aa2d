//! `pontoon lint` where it is run: the folder of the host's networks, and what depends on the host.

use std::fs;
use std::process::Command;

use pontoon_lab::{Backend, Failure, Network, Outcome, Scratch, Site};
use serde_json::{Value, json};

/// A host, and the folder of its networks.
struct Scene {
    site: Site,
    conf: Scratch,
}

impl Scene {
    fn new() -> Outcome<Self> {
        Ok(Self {
            site: Site::new(Backend::Nftables)?,
            conf: Scratch::new("conf")?,
        })
    }

    fn write(&self, file: &str, list: &Value) -> Outcome {
        let text = serde_json::to_string_pretty(list).map_err(Failure::act("print a conflist"))?;
        fs::write(self.conf.path().join(file), text).map_err(Failure::act("write a conflist"))
    }

    fn network(&self, name: &str, subnet: &str) -> Network {
        let network = self.site.network(name, &format!("br-{name}"), &[subnet]);
        network.in_version("1.0.0")
    }

    /// What lint says, with its exit code.
    fn lint(&self, arguments: &[&str]) -> Outcome<(Option<i32>, String)> {
        let conf = self.conf.path().display().to_string();
        let bin = self.site.runtime().programs().dir().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", &bin];
        let told = self
            .site
            .pontoon(&[&["lint"], arguments, &places].concat())?;
        Ok((told.status, told.stdout + &told.stderr))
    }

    /// Without a file: exit code, and the words that each file earns.
    #[track_caller]
    fn says(&self, status: i32, expected: &[(&str, &str)]) {
        let (ended, text) = self.lint(&[]).unwrap();
        assert_eq!(ended, Some(status), "{text}");
        for (file, words) in expected {
            let line = |line: &str| line.contains(file) && line.contains(words);
            assert!(text.lines().any(line), "no {words} of {file}:\n{text}");
        }
        let told = text
            .lines()
            .filter(|line| !line.ends_with(": nothing to say"));
        assert_eq!(told.count(), expected.len(), "{text}");
    }
}

#[test]
fn without_a_file_the_hosts_networks_are_judged_for_this_host() -> Outcome {
    let scene = Scene::new()?;
    let (status, text) = scene.lint(&[])?;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("no network is configured there"), "{text}");
    let good = scene.network("good", "10.20.0.0/24");
    scene.write("10-good.conflist", good.list())?;
    scene.says(0, &[]);
    // It stays so while the network is used.
    let (_container, attachment) = scene.site.join("one", &good)?;
    scene.says(0, &[]);

    scene.write(
        "20-uplink.conflist",
        scene.network("uplink", "198.18.7.0/24").list(),
    )?;
    let wide = scene
        .network("wide", "10.21.0.0/24")
        .with("bridge", "mtu", json!(9000));
    scene.write("30-wide.conflist", wide.list())?;
    let mut absent = scene.network("absent", "10.22.0.0/24").list().clone();
    absent["plugins"][1]["type"] = json!("ipvlan");
    scene.write("40-absent.conflist", &absent)?;
    scene.write(
        "50-twice.conflist",
        scene.network("twice", "10.20.0.128/25").list(),
    )?;
    for words in [
        "link add docker0 type bridge",
        "link add veth1a2b3c4 type veth peer name other",
        "link set veth1a2b3c4 master docker0",
    ] {
        let mut ip = Command::new("ip");
        scene.site.host.command(ip.args(words.split(' ')))?;
    }
    let docker = scene
        .network("docker", "10.23.0.0/24")
        .with("bridge", "bridge", json!("docker0"));
    scene.write("60-docker.conflist", docker.list())?;
    fs::write(scene.conf.path().join("70-broken.conflist"), "{").map_err(Failure::act("write"))?;
    scene.says(
        1,
        &[
            (
                "20-uplink",
                "key \"subnet\": 198.18.7.0/24 clashes with 198.18.7.0/24 on eth0 of this host",
            ),
            (
                "30-wide",
                "warning: key \"mtu\": 9000 is more than eth0 of this host has, 1500",
            ),
            ("40-absent", "plugin ipvlan is not in "),
            ("50-twice", "clashes with 10.20.0.0/24 of the network in "),
            (
                "50-twice",
                "key \"subnet\": 10.20.0.128/25 clashes with 10.20.0.0/24 on br-good of this host",
            ),
            (
                "60-docker",
                "docker0 was not made by Pontoon and has ports of another program (veth1a2b3c4)",
            ),
            ("70-broken", "the file ends too early"),
        ],
    );
    // A folder that is named is judged for any host.
    let conf = scene.conf.path().display().to_string();
    let (status, text) = scene.lint(&[&conf])?;
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains("of the network in ") && !text.contains("of this host"),
        "{text}"
    );
    let one = scene
        .conf
        .path()
        .join("20-uplink.conflist")
        .display()
        .to_string();
    let (status, text) = scene.lint(&[&one])?;
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = scene.lint(&[&one, "--host"])?;
    assert!(
        status == Some(1) && text.contains("on eth0 of this host"),
        "{text}"
    );
    scene.site.runtime().del(&good, &attachment)?;
    Ok(())
}

#[test]
fn standard_input_is_a_file() -> Outcome {
    let scene = Scene::new()?;
    let bad = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge", "bridge": "a-bridge-of-22-bytes.."}]}"#;
    let told = scene.site.pontoon_reads(&["lint", "-"], bad)?;
    let words = "-:1:79: error: plugin bridge refuses it: key \"bridge\"";
    if told.status != Some(1) || !told.stdout.starts_with(words) {
        return Err(Failure::new(told.stdout + &told.stderr));
    }
    let missing = scene
        .site
        .pontoon(&["lint", "--conf-dir", "/nonexistent"])?;
    if missing.status != Some(3) {
        return Err(Failure::new(missing.stdout + &missing.stderr));
    }
    Ok(())
}
