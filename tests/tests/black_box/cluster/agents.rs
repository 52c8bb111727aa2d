//! What agents do when all goes well: blocks, peers, files, and giving back.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use pontoon_lab::{Cluster, Failure, Outcome};
use serde_json::json;

use super::scene::{NETWORK, PATIENCE, SUBNET, Scene, same, wait_for};

#[test]
fn three_agents_claim_different_blocks_and_know_each_other() -> Outcome {
    let scene = Scene::with_agents()?;
    let mut blocks = BTreeSet::new();
    for number in 1..=3 {
        blocks.insert((format!("h{number}"), scene.block_of(number)?));
    }
    let different: BTreeSet<&String> = blocks.iter().map(|(_, block)| block).collect();
    same("different blocks", different.len(), 3)?;
    for number in 1..=3_u8 {
        let own = format!("h{number}");
        let expected: BTreeSet<_> = blocks
            .iter()
            .filter(|(host, _)| *host != own)
            .cloned()
            .collect();
        same("peers", scene.peers(number)?, expected)?;
        let file = scene.file(number, "lan.json")?;
        same("VNI", &file["vni"], &json!(4096))?;
        let address = Cluster::address(number).to_string();
        same("underlay", &file["underlay"]["v4"], &json!(address))?;
        let address = Cluster::address_v6(number).to_string();
        same("underlay", &file["underlay"]["v6"], &json!(address))?;
    }
    let nodes: serde_json::Value = serde_json::from_str(&scene.ask(2, &["nodes", "--json"])?)
        .map_err(Failure::act("read the nodes"))?;
    let alive = nodes.as_array().into_iter().flatten();
    same(
        "hosts that are alive",
        alive.filter(|node| node["alive"] == true).count(),
        3,
    )
}

#[test]
fn the_next_block_comes_at_three_quarters_and_goes_with_the_configuration() -> Outcome {
    let scene = Scene::with_agents()?;
    let first = scene.block_of(1)?;
    let leases = scene.leases(1, NETWORK);
    fs::create_dir_all(&leases).map_err(Failure::act("make a folder of leases"))?;
    let prefix = first.trim_end_matches("0/24").to_owned();
    for number in 2..=190 {
        fs::write(leases.join(format!("{prefix}{number}")), "c")
            .map_err(Failure::act("write a lease"))?;
    }
    // 189 of 253 are in use: less than three quarters.
    std::thread::sleep(Duration::from_secs(3));
    same(
        "blocks at 189 addresses",
        scene.blocks(1, NETWORK)?.len(),
        1,
    )?;
    fs::write(leases.join(format!("{prefix}191")), "c").map_err(Failure::act("write a lease"))?;
    let (blocks, took) = wait_for("a second block", PATIENCE, || {
        let blocks = scene.blocks(1, NETWORK)?;
        Ok((blocks.len() == 2).then_some(blocks))
    })?;
    eprintln!(
        "the second block was there {} ms after the 190th address",
        took.as_millis()
    );
    same("the first block stays the first", &blocks[0], &first)?;
    scene.wait_for_peers(2, 3)?;

    // Without a configuration, what is in use stays, and the rest is given back.
    let file = scene.at(1, "net.d").join("lan.conflist");
    fs::remove_file(&file).map_err(Failure::act("remove the configuration"))?;
    fs::remove_dir_all(&leases).map_err(Failure::act("remove the leases"))?;
    let (_, took) = wait_for("giving back", PATIENCE, || {
        let gone = scene.file(1, "lan.json")?.is_null() && scene.peers(2)?.len() == 1;
        Ok(gone.then_some(()))
    })?;
    eprintln!(
        "unused blocks were given back after {} ms",
        took.as_millis()
    );
    // And with a configuration there is a block again.
    scene.configure(1, NETWORK)?;
    scene.block_of(1).map(drop)
}

#[test]
fn a_host_that_is_drained_gives_its_empty_blocks_back() -> Outcome {
    let scene = Scene::with_agents()?;
    scene.ask(2, &["node", "drain", "h1"])?;
    wait_for("a file without blocks", PATIENCE, || {
        Ok(scene.blocks(1, NETWORK)?.is_empty().then_some(()))
    })?;
    scene.wait_for_peers(2, 1)?;
    scene.wait_for_peers(1, 2)?;
    scene.ask(2, &["node", "drain", "h1", "--undo"])?;
    scene.block_of(1)?;
    scene.wait_for_peers(2, 2).map(drop)
}

#[test]
fn once_does_what_the_agent_does() -> Outcome {
    let scene = Scene::new(false)?;
    scene.create(NETWORK, &["--subnet", SUBNET, "--subnet", "fd00:5::/48"])?;
    scene.configure(1, NETWORK)?;
    let settings = scene.settings(1, "root")?;
    let host = &scene.cluster.hosts[0];
    let mut command =
        std::process::Command::new(pontoon_lab::Programs::built()?.program("pontoon-node"));
    command.arg("--config").arg(settings).arg("--once");
    host.command(&mut command)?;
    same("blocks", scene.blocks(1, NETWORK)?.len(), 2)?;
    // Again, it changes nothing.
    let before = scene.etcdctl("get --prefix /pontoon/v1/block/")?;
    host.command(&mut command)?;
    same(
        "claims",
        scene.etcdctl("get --prefix /pontoon/v1/block/")?,
        before,
    )?;
    same("blocks", scene.blocks(1, NETWORK)?.len(), 2)
}

#[test]
fn the_agent_tells_how_it_does() -> Outcome {
    let scene = Scene::with_agents()?;
    let status = scene.status(1)?;
    same("etcd", &status["etcd"]["connected"], &json!(true))?;
    same("peers", &status["networks"]["lan"]["peers"], &json!(2))?;
    same("warnings", &status["warnings"], &json!({}))?;
    let text = scene.ask(1, &["status"])?;
    for word in [
        "host      h1 at 198.18.60.1",
        "hosts     3 alive",
        "network   lan: 10.5.",
    ] {
        if !text.contains(word) {
            return Err(Failure::new(format!("{text} without {word}")));
        }
    }
    let metrics = scene.ask(1, &["status", "--metrics"])?;
    for line in [
        "pontoon_node_etcd_connected 1\n",
        "pontoon_node_hosts{state=\"alive\"} 3\n",
        "pontoon_node_blocks{network=\"lan\"} 1\n",
        "pontoon_node_addresses_room{network=\"lan\"} 253\n",
        "pontoon_node_peers{network=\"lan\"} 2\n",
    ] {
        if !metrics.contains(line) {
            return Err(Failure::new(format!("{metrics} without {line}")));
        }
    }
    // A second agent for the same host does not start.
    let output = scene.run(
        1,
        &["--config", &scene.settings(1, "h1")?.display().to_string()],
        &[],
    )?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    match !output.status.success() && words.contains("another pontoon-node answers") {
        true => Ok(()),
        false => Err(Failure::new(format!("{}: {words}", output.status))),
    }
}

#[test]
fn a_configuration_without_a_network_in_etcd_is_told() -> Outcome {
    let scene = Scene::new(false)?;
    scene.configure(1, NETWORK)?;
    scene.start(1)?;
    scene.wait_for_status(1, "the missing network is told", |status| {
        let text = status["warnings"]["network lan"]
            .as_str()
            .unwrap_or_default();
        text.contains("pontoon network create lan")
    })?;
    scene.create(NETWORK, &["--subnet", SUBNET])?;
    scene.block_of(1)?;
    scene
        .wait_for_status(1, "all is well", |status| status["warnings"] == json!({}))
        .map(drop)
}
