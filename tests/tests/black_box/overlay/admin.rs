//! The admin's command on a host of a network: it lists the containers, finds nothing wrong but that no agent runs, and
//! makes again what is flushed.

use std::fs;
use std::net::SocketAddr;

use pontoon_lab::{Backend, Failure, Outcome, Scratch, tcp};
use serde_json::{Value, json};

use super::scene::{DIRECT, Scene, VXLAN};

#[test]
fn the_admins_command_knows_networks_of_several_hosts() -> Outcome {
    for (backend, below) in [(Backend::Nftables, VXLAN), (Backend::IptablesNft, DIRECT)] {
        let scene = Scene::new(backend, below, 2)?;
        scene.write()?;
        let networks = [0, 1]
            .map(|host| scene.network(host, "lan", Value::Null, json!({ "profile": "docker" })));
        let a = scene.join(0, &networks[0])?;
        let b = scene.join(1, &networks[1])?;
        let site = &scene.sites[0];
        let conf = Scratch::new("conf")?;
        fs::write(
            conf.path().join("10-lan.conflist"),
            networks[0].list().to_string(),
        )
        .map_err(Failure::act("write the conflist"))?;
        let conf = conf.path().display().to_string();
        let plugins = site.runtime().programs().dir().display().to_string();
        let places = ["--conf-dir", &conf, "--bin-dir", &plugins];

        let told = |what: &str, text: &str| format!("{backend} {below:?}: {what}: {text}");
        let list = site.pontoon_json(&["ls"])?.to_string();
        for part in [a.container.id.as_str(), "br-lan", "10.5.1.2"] {
            assert!(list.contains(part), "{}", told(part, &list));
        }
        let shown = site.pontoon_ends(&["inspect", &a.container.id], 0)?;
        assert!(shown.contains("overlay"), "{}", told("inspect", &shown));
        let graph = site.pontoon_ends(&["graph"], 0)?;
        assert!(graph.contains("br-lan"), "{}", told("graph", &graph));
        let report = site.pontoon_json(&[&["doctor"][..], &places].concat())?;
        let findings = report["findings"].as_array().into_iter().flatten();
        let ids: Vec<&str> = findings.filter_map(|one| one["id"].as_str()).collect();
        // No agent runs here.
        let shown = report["findings"].to_string();
        assert_eq!(ids, ["agent-not-running"], "{}", told("doctor", &shown));

        site.flush()?;
        site.pontoon_ends(&["repair", "lan"], 0)?;
        site.runtime().check(&networks[0], &a.attachment)?;
        let target = SocketAddr::new(b.address(false)?, 80);
        let reply = a.ask(tcp, target)?;
        assert!(
            reply.is_ok(),
            "{}",
            told("after a repair", &format!("{reply:?}"))
        );
        scene.leave(0, &networks[0], &a)?;
        let gone = site.pontoon_ends(&[&["gc", "lan", "--all-dead"][..], &places].concat(), 0)?;
        assert!(
            gone.contains("removed bridge br-lan"),
            "{}",
            told("gc", &gone)
        );
    }
    Ok(())
}
