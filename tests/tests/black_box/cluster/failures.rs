//! What happens when something fails, and how long it takes.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pontoon_lab::{Cluster, Etcd, Failure, Outcome};
use serde_json::{Value, json};

use super::scene::{NETWORK, PATIENCE, Scene, same, wait_for};

fn alive(status: &Value, host: &str) -> bool {
    status["hosts"][host] == true
}

fn connected(status: &Value) -> bool {
    status["etcd"]["connected"] == true
}

/// Waits until every agent is connected and sees all hosts alive; how long that took.
fn all_well(scene: &Scene) -> Outcome<Duration> {
    let started = Instant::now();
    for number in 1..=3 {
        scene.wait_for_status(number, "all hosts are alive", |status| {
            connected(status) && ["h1", "h2", "h3"].iter().all(|host| alive(status, host))
        })?;
    }
    Ok(started.elapsed())
}

/// The files of all hosts.
fn files(scene: &Scene) -> Outcome<Vec<Value>> {
    let mut all = Vec::new();
    for number in 1..=3 {
        all.push(scene.file(number, "lan.json")?);
        all.push(scene.file(number, "lan.peers.json")?);
    }
    Ok(all)
}

/// Notes that no host was told dead, and that no file changed, while something goes on.
fn unmoved(scene: &Scene, during: impl FnOnce() -> Outcome) -> Outcome {
    let before = files(scene)?;
    during()?;
    same("files", files(scene)?, before)
}

#[test]
fn the_leader_of_etcd_is_killed() -> Outcome {
    let scene = Scene::with_agents()?;
    all_well(&scene)?;
    let leader = scene.etcd.borrow().leader(&scene.cluster)?;
    unmoved(&scene, || {
        scene.etcd.borrow_mut().kill(leader)?;
        let started = Instant::now();
        wait_for("a write", PATIENCE, || {
            Ok(scene.etcdctl("put /lab/x 1").ok())
        })?;
        eprintln!(
            "writes stopped for {:.1} s",
            started.elapsed().as_secs_f64()
        );
        let took = all_well(&scene)?;
        eprintln!(
            "all agents were connected {:.1} s later",
            took.as_secs_f64()
        );
        // Nobody's lease ran out.
        sleep(Duration::from_secs(12));
        all_well(&scene)?;
        scene.etcd.borrow_mut().restart(&scene.cluster, leader)
    })
}

#[test]
fn the_quorum_is_lost_and_comes_back() -> Outcome {
    let scene = Scene::with_agents()?;
    all_well(&scene)?;
    unmoved(&scene, || {
        for number in [1, 2] {
            scene.etcd.borrow_mut().kill(number)?;
        }
        let took = scene.wait_for_status(3, "it is told", |status| !connected(status))?;
        eprintln!("an agent noticed after {:.1} s", took.as_secs_f64());
        sleep(Duration::from_secs(15));
        for number in 1..=3 {
            // What was known stays known.
            same("peers", scene.peers(number)?.len(), 2)?;
        }
        for number in [1, 2] {
            scene.etcd.borrow_mut().restart(&scene.cluster, number)?;
        }
        let took = all_well(&scene)?;
        eprintln!(
            "all was well {:.1} s after the members' start",
            took.as_secs_f64()
        );
        Ok(())
    })
}

/// Takes a host off the network, whose member of etcd leads or follows, and puts it back. The others see it dead after
/// at most so many seconds.
fn cut_off(leads: bool, most: f64) -> Outcome {
    let scene = Scene::with_agents()?;
    all_well(&scene)?;
    let leader = scene.etcd.borrow().leader(&scene.cluster)?;
    let number = if leads { leader } else { leader % 3 + 1 };
    let other = number % 3 + 1;
    let host = format!("h{number}");
    unmoved(&scene, || {
        scene.cluster.connect(number, false)?;
        let took =
            scene.wait_for_status(other, "the other is dead", |status| !alive(status, &host))?;
        let seconds = took.as_secs_f64();
        eprintln!("the others saw the host (leader: {leads}) dead after {seconds:.1} s");
        let late = scene.wait_for_status(number, "it is told", |status| !connected(status))?;
        eprintln!("it had noticed {:.1} s after that", late.as_secs_f64());
        scene.cluster.connect(number, true)?;
        let back = all_well(&scene)?;
        eprintln!("all was well {:.1} s after it was back", back.as_secs_f64());
        match seconds > most {
            true => Err(Failure::new(format!(
                "the others saw it dead after {seconds:.1} s only"
            ))),
            false => Ok(()),
        }
    })
}

#[test]
fn a_host_is_cut_off_and_comes_back() -> Outcome {
    // Its lease, and what the machine adds.
    cut_off(false, 13.0)
}

#[test]
fn the_host_of_etcd_s_leader_is_cut_off_and_comes_back() -> Outcome {
    // A new leader gives every lease its whole time again.
    cut_off(true, 20.0)
}

#[test]
fn the_agent_is_killed_hung_and_ended() -> Outcome {
    let scene = Scene::with_agents()?;
    all_well(&scene)?;
    unmoved(&scene, || {
        // Killed and started again: no other host notices.
        scene.kill(2)?;
        scene.start(2)?;
        let took = all_well(&scene)?;
        eprintln!(
            "an agent that was killed was back after {:.1} s",
            took.as_secs_f64()
        );
        same("it was never dead", alive(&scene.status(1)?, "h2"), true)?;
        // Ended: its lease runs out by itself.
        scene.stop(2);
        sleep(Duration::from_secs(3));
        same("alive after 3 s", alive(&scene.status(1)?, "h2"), true)?;
        let took = scene.wait_for_status(1, "h2 is dead", |status| !alive(status, "h2"))?;
        eprintln!(
            "an agent that was ended was dead {:.1} s after that",
            took.as_secs_f64()
        );
        scene.start(2)?;
        all_well(&scene)?;
        // Hung: the same.
        scene.with_agent(2, |agent| agent.signal(Signal::SIGSTOP))??;
        let took = scene.wait_for_status(1, "h2 is dead", |status| !alive(status, "h2"))?;
        eprintln!("a hung agent was dead after {:.1} s", took.as_secs_f64());
        scene.with_agent(2, |agent| agent.signal(Signal::SIGCONT))??;
        all_well(&scene).map(drop)
    })
}

#[test]
fn the_watch_is_compacted_while_an_agent_sleeps() -> Outcome {
    let scene = Scene::with_agents()?;
    all_well(&scene)?;
    scene.with_agent(2, |agent| agent.signal(Signal::SIGSTOP))??;
    scene.create("other", &["--subnet", "10.6.0.0/16"])?;
    // More than etcd keeps for a watch that does not read: 128 answers, and what is on the way.
    let value = "x".repeat(60_000);
    let held = scene.etcd.borrow();
    let (etcd, cluster): (&Etcd, &Cluster) = (&held, &scene.cluster);
    let value = value.as_str();
    let write = |thread: usize| -> Outcome {
        for turn in 0..60 {
            let key = format!("/pontoon/v1/lab/{thread}-{turn}");
            etcd.control_as(cluster, "root", &["put", &key, value])?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| scope.spawn(move || write(thread)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| Failure::new("a writer panicked"))?
        })
    })?;
    let text = scene.etcdctl("get / --write-out json")?;
    let head: Value = serde_json::from_str(&text).map_err(Failure::act("read etcd's revision"))?;
    let revision = head["header"]["revision"].as_i64().unwrap_or_default();
    scene.etcdctl(&format!("compact {revision}"))?;
    scene.with_agent(2, |agent| agent.signal(Signal::SIGCONT))??;
    let took = scene.wait_for_status(2, "it is connected again", |status| {
        connected(status)
            && scene
                .words(2)
                .contains("the watch is behind etcd's compaction")
    })?;
    eprintln!(
        "the agent had listed again {:.1} s after it woke",
        took.as_secs_f64()
    );
    scene.configure(2, "other")?;
    wait_for(
        "a block of the network that was made meanwhile",
        PATIENCE,
        || Ok(scene.blocks(2, "other")?.first().cloned()),
    )?;
    all_well(&scene).map(drop)
}

#[test]
fn two_hosts_claim_one_block() -> Outcome {
    let scene = Scene::with_agents()?;
    let (first, second) = (scene.block_of(1)?, scene.block_of(2)?);
    // h2 is away; its keys are lost, and h1's file says that the block is its own.
    scene.kill(2)?;
    wait_for("the end of h2", PATIENCE, || {
        Ok(scene
            .admin(1, &["node", "forget", "h2"])?
            .status
            .success()
            .then_some(()))
    })?;
    scene.stop(1);
    let host = &scene.cluster.hosts[0];
    let path = host.lasting_dir().join("overlay/lan.json");
    let mut file = scene.file(1, "lan.json")?;
    file["blocks"] = json!([first, second]);
    fs::write(&path, file.to_string()).map_err(Failure::act("write h1's file"))?;
    scene.start(1)?;
    wait_for("the block of h2", PATIENCE, || {
        Ok(scene
            .peers(3)?
            .contains(&("h1".to_owned(), second.clone()))
            .then_some(()))
    })?;
    // h2 comes back with containers in the block that is h1's now.
    let leases = scene.leases(2, NETWORK);
    let address = second.replace("0/24", "7");
    fs::create_dir_all(&leases)
        .and_then(|()| fs::write(leases.join(address), "c"))
        .map_err(Failure::act("write a lease"))?;
    scene.start(2)?;
    let about = format!("block {second} of network lan");
    scene.wait_for_status(2, "the lost block is told", |status| {
        let text = status["warnings"][&about].as_str().unwrap_or_default();
        text.contains("host h1 has it now") && text.contains("1 containers")
    })?;
    let (blocks, _) = wait_for("another block for h2", PATIENCE, || {
        let blocks = scene.blocks(2, NETWORK)?;
        Ok((!blocks.is_empty()).then_some(blocks))
    })?;
    match blocks.contains(&second) {
        true => Err(Failure::new(format!("h2 has {blocks:?}"))),
        false => Ok(()),
    }
}

#[test]
fn etcd_loses_everything() -> Outcome {
    let scene = Scene::with_agents()?;
    let before: Vec<String> = (1..=3)
        .map(|it| scene.block_of(it))
        .collect::<Outcome<_>>()?;
    // A container on each, so that the network is in use.
    for (number, block) in (1..=3).zip(&before) {
        let leases = scene.leases(number, NETWORK);
        fs::create_dir_all(&leases)
            .and_then(|()| fs::write(leases.join(block.replace("0/24", "7")), "c"))
            .map_err(Failure::act("write a lease"))?;
    }
    sleep(Duration::from_secs(2));
    let network = scene.etcdctl("get /pontoon/v1/net/lan --print-value-only")?;
    unmoved(&scene, || {
        scene.etcdctl("del --prefix /pontoon/v1/")?;
        sleep(Duration::from_secs(4));
        let claims = scene.etcdctl("get --prefix /pontoon/v1/block/ --keys-only")?;
        same("claims of a network that is not there", claims.trim(), "")
    })?;
    let etcd = scene.etcd.borrow();
    let put = ["put", "/pontoon/v1/net/lan", network.trim()];
    etcd.control_as(&scene.cluster, "root", &put)?;
    let (_, took) = wait_for("the blocks of all", PATIENCE, || {
        let claims = etcd.control(
            &scene.cluster,
            "get --prefix /pontoon/v1/block/ --keys-only",
        )?;
        let all = before
            .iter()
            .all(|block| claims.contains(&block.replace('/', "-")));
        Ok(all.then_some(()))
    })?;
    eprintln!(
        "all blocks were claimed again after {:.1} s",
        took.as_secs_f64()
    );
    for (number, block) in (1..=3).zip(&before) {
        same(
            "blocks",
            scene.blocks(number, NETWORK)?,
            vec![block.clone()],
        )?;
        scene.wait_for_peers(number, 2)?;
    }
    all_well(&scene).map(drop)
}
