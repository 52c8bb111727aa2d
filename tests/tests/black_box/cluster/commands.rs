//! The admin's commands about networks and hosts.

use std::process::Command;

use pontoon_lab::{Failure, Outcome, Programs};
use serde_json::Value;

use super::scene::{NETWORK, PATIENCE, SUBNET, Scene, same, wait_for};

#[test]
fn networks_that_clash_are_refused() -> Outcome {
    let scene = Scene::new(false)?;
    scene.create(NETWORK, &["--subnet", SUBNET])?;
    for (arguments, expected) in [
        (
            &["network", "create", "lan", "--subnet", "10.6.0.0/16"][..],
            "there is a network lan",
        ),
        (
            &["network", "create", "web", "--subnet", "10.5.128.0/17"],
            "10.5.0.0/16 of network lan",
        ),
        (
            &[
                "network",
                "create",
                "web",
                "--subnet",
                "10.6.0.0/16",
                "--vni",
                "4096",
            ],
            "network lan has VNI 4096",
        ),
        (
            &["network", "create", "web", "--subnet", "10.6.0.0/24"],
            "--block may be 25 to 30",
        ),
    ] {
        scene.refused(arguments, 1, expected)?;
    }
    scene.refused(&["network", "rm", "web"], 3, "no network web")?;
    scene.create(
        "web",
        &[
            "--subnet",
            "10.6.0.0/16",
            "--mode",
            "vxlan",
            "--port",
            "4790",
        ],
    )?;
    let listed: Value = serde_json::from_str(&scene.ask(3, &["network", "ls", "--json"])?)
        .map_err(Failure::act("read the networks"))?;
    same("VNI of web", listed["web"]["vni"].as_u64(), Some(4097))?;
    same("port of web", listed["web"]["port"].as_u64(), Some(4790))?;
    scene.ask(1, &["network", "rm", "web"])?;
    scene.create("mail", &["--subnet", "10.6.0.0/16"])?;
    let table = scene.ask(1, &["network", "ls"])?;
    match table.contains("mail") && !table.contains("web") {
        true => Ok(()),
        false => Err(Failure::new(table)),
    }
}

#[test]
fn of_networks_made_at_once_one_gets_the_subnet() -> Outcome {
    let scene = Scene::new(false)?;
    let settings: Vec<_> = (1..=3)
        .map(|number| scene.settings(number, "root"))
        .collect::<Outcome<_>>()?;
    let program = Programs::built()?.program("pontoon-node");
    let made = std::thread::scope(|scope| {
        let each = scene.cluster.hosts.iter().zip(&settings).enumerate();
        let threads: Vec<_> = each
            .map(|(number, (host, settings))| {
                let mut command = Command::new(&program);
                command.arg("--config").arg(settings).args([
                    "network",
                    "create",
                    &format!("n{number}"),
                    "--subnet",
                    SUBNET,
                ]);
                scope.spawn(move || {
                    host.run(|| command.output().is_ok_and(|it| it.status.success()))
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.filter(|done| matches!(done, Ok(Ok(true)))).count()
    });
    same("networks that were made", made, 1)?;
    let keys = scene.etcdctl("get --prefix /pontoon/v1/ --keys-only")?;
    same(
        "keys",
        keys.lines().filter(|line| !line.is_empty()).count(),
        2,
    )
}

#[test]
fn a_network_in_use_is_not_removed_and_a_host_that_lives_not_forgotten() -> Outcome {
    let scene = Scene::with_agents()?;
    scene.refused(&["network", "rm", "lan"], 1, "h1 h2 h3")?;
    scene.refused(&["node", "forget", "h2"], 1, "host h2 is alive")?;
    scene.refused(&["node", "forget", "h9"], 3, "no host h9")?;
    let lost = scene.block_of(2)?;
    scene.kill(2)?;
    let (_, took) = wait_for("the lease's end", PATIENCE, || {
        Ok(scene
            .admin(1, &["node", "forget", "h2"])?
            .status
            .success()
            .then_some(()))
    })?;
    eprintln!(
        "a killed host could be forgotten after {:.1} s",
        took.as_secs_f64()
    );
    scene.wait_for_peers(1, 1)?;
    let keys = scene.etcdctl("get --prefix /pontoon/v1/ --keys-only")?;
    if keys.contains("h2") || keys.contains(&lost.replace('/', "-")) {
        return Err(Failure::new(keys));
    }
    // It comes back, and asks again for the block that it has on disk.
    scene.start(2)?;
    scene.wait_for_peers(1, 2)?;
    same("its block", scene.block_of(2)?, lost)
}

#[test]
fn pontoon_hands_over_to_the_program_that_talks_to_etcd() -> Outcome {
    let scene = Scene::new(false)?;
    let settings = scene.settings(1, "root")?.display().to_string();
    let pontoon = |arguments: &[&str]| {
        let arguments = [arguments, &["--config", &settings]].concat();
        scene.run_program("pontoon", 1, &arguments)
    };
    let made = pontoon(&["network", "create", NETWORK, "--subnet", SUBNET])?;
    let words = String::from_utf8_lossy(&made.stdout).into_owned();
    same("what it says", words.as_str(), "network lan has VNI 4096\n")?;
    for (arguments, code) in [
        (&["network", "ls"][..], 0),
        (&["nodes"], 0),
        (&["node", "forget", "h9"], 3),
        (&["network", "create"], 2),
        (&["network", "create", NETWORK, "--subnet", SUBNET], 1),
    ] {
        let output = pontoon(arguments)?;
        same(&format!("{arguments:?}"), output.status.code(), Some(code))?;
    }
    let help = scene.run_program("pontoon", 1, &["node", "drain", "--help"])?;
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    same("help", text.contains("--undo"), true)
}
