//! Packets between hosts: they pass, they go on passing whatever happens to agents and etcd, and what is deleted by hand
//! by hand comes back.

use std::thread::sleep;
use std::time::Duration;

use pontoon_lab::Outcome;

use super::guests::{Guest, run};
use super::scene::{PATIENCE, Scene, wait_for};

/// What is deleted comes back within 10 s, and a look; deletions are told, so that most is quicker.
const REPAIR: Duration = Duration::from_secs(11);

fn guests(scene: &Scene) -> Outcome<Vec<Guest>> {
    let guests: Vec<Guest> = (1..=3)
        .map(|it| Guest::new(scene, it))
        .collect::<Outcome<_>>()?;
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        guests[from].wait_until_it_reaches(&guests[to], PATIENCE)?;
    }
    Ok(guests)
}

#[test]
fn nothing_is_lost_while_agents_and_etcd_fail() -> Outcome {
    let scene = Scene::with_agents()?;
    let guests = guests(&scene)?;
    let stream = guests[0].stream(&guests[1]);
    scene.kill(1)?;
    scene.kill(2)?;
    sleep(Duration::from_secs(2));
    scene.start(1)?;
    scene.start(2)?;
    sleep(Duration::from_secs(2));
    stream.unbroken("agents killed and started again")?;
    let stream = guests[0].stream(&guests[1]);
    scene.stop(1);
    sleep(Duration::from_secs(12));
    scene.start(1)?;
    stream.unbroken("an agent ended for longer than its lease")?;
    let leader = scene.etcd.borrow().leader(&scene.cluster)?;
    let stream = guests[0].stream(&guests[1]);
    scene.etcd.borrow_mut().kill(leader)?;
    sleep(Duration::from_secs(5));
    stream.unbroken("etcd's leader killed")?;
    let stream = guests[0].stream(&guests[1]);
    scene.etcd.borrow_mut().kill(leader % 3 + 1)?;
    sleep(Duration::from_secs(15));
    stream.unbroken("etcd without a quorum")
}

/// Deletes something on the first host and waits until packets pass to the second one again.
fn deleted(scene: &Scene, guests: &[Guest], what: &str, program: &str, arguments: &str) -> Outcome {
    let before = scene.status(1)?["counts"]["kernel_added"].as_u64();
    run(scene.cluster.hosts[0].netns(), program, arguments)?;
    let (_, took) = wait_for(what, REPAIR, || {
        let now = scene.status(1)?["counts"]["kernel_added"].as_u64();
        Ok((now > before && guests[0].reaches(&guests[1])?).then_some(()))
    })?;
    eprintln!("{what}: back after {} ms", took.as_millis());
    Ok(())
}

#[test]
fn tables_that_somebody_deletes_come_back() -> Outcome {
    let scene = Scene::with_network(&["--mode", "vxlan"])?;
    let guests = guests(&scene)?;
    let block = scene.block_of(2)?;
    let mac = &scene.file(1, "lan.peers.json")?["peers"][0]["mac"];
    let mac = mac.as_str().unwrap_or_default().to_owned();
    let delete =
        |what, program, arguments: &str| deleted(&scene, &guests, what, program, arguments);
    delete("a route", "ip", &format!("route del {block}"))?;
    delete(
        "the neighbours",
        "ip",
        "neigh flush dev vx-lan nud permanent",
    )?;
    delete(
        "a forwarding entry",
        "bridge",
        &format!("fdb del {mac} dev vx-lan self"),
    )?;
    delete("the device", "ip", "link del vx-lan")?;
    delete("the device is down", "ip", "link set vx-lan down")
}

#[test]
fn routes_between_hosts_on_one_link_come_back() -> Outcome {
    let scene = Scene::with_network(&["--mode", "direct"])?;
    let guests = guests(&scene)?;
    let block = scene.block_of(2)?;
    deleted(
        &scene,
        &guests,
        "a direct route",
        "ip",
        &format!("route del {block}"),
    )
}

#[test]
fn a_host_whose_address_changes_is_reached_at_the_new_one() -> Outcome {
    let scene = Scene::with_network(&["--mode", "vxlan"])?;
    let guests = guests(&scene)?;
    let host = &scene.cluster.hosts[1];
    // The kernel keeps the second address when the first one goes.
    host.set("net/ipv4/conf/eth0/promote_secondaries", "1")?;
    run(host.netns(), "ip", "addr add 198.18.60.22/24 dev eth0")?;
    run(host.netns(), "ip", "addr del 198.18.60.2/24 dev eth0")?;
    let (_, told) = wait_for("the new address", PATIENCE, || {
        let peers = scene.file(1, "lan.peers.json")?;
        let peers = peers["peers"].as_array().cloned().unwrap_or_default();
        let is_new = |peer: &serde_json::Value| peer["underlay"]["v4"] == "198.18.60.22";
        Ok(peers.iter().any(is_new).then_some(()))
    })?;
    let took = told + guests[0].wait_until_it_reaches(&guests[1], PATIENCE)?;
    eprintln!(
        "a host with a new address was reached after {:.1} s",
        took.as_secs_f64()
    );
    guests[1]
        .wait_until_it_reaches(&guests[2], PATIENCE)
        .map(drop)
}
