//! Services: one address whose connections spread over the containers of all hosts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use pontoon_lab::{BOTH, Container, Failure, NoReply, Outcome, Snapshot, udp};
use serde_json::{Value, json};

use super::guests::run;
use super::scene::{NETWORK, PATIENCE, Scene, same, wait_for};
use super::tasks::{INNER, Task, WAIT, addresses, all_answers, each_way};

const V6: &str = "fd00:5::/48";

fn scene(mode: &str) -> Outcome<Scene> {
    Scene::with_network(&["--mode", mode, "--subnet", V6])
}

/// A port for each protocol, other than the container's.
fn web() -> Value {
    json!({ "name": "web", "ports": [
        { "port": 80, "targetPort": INNER }, { "port": 80, "targetPort": INNER, "protocol": "udp" },
    ] })
}

/// Containers on three hosts; clients: one beside a container, one of the containers itself, a host.
fn matrix(mode: &str) -> Outcome {
    let scene = scene(mode)?;
    let tasks = [1, 2, 3].map(|number| Task::add(&scene, number, &format!("web{number}"), web()));
    let tasks = tasks.into_iter().collect::<Outcome<Vec<_>>>()?;
    let client = Task::add(&scene, 1, "client", Value::Null)?;
    let mut vips = Vec::new();
    for number in [1, 2, 3] {
        vips = addresses(&scene, number, "web", 3)?;
    }
    same("addresses", vips.len(), 2)?;
    let mut wrong = Vec::new();
    for (what, ask, v6) in each_way() {
        let Some(vip) = vips.iter().find(|it| it.is_ipv6() == v6) else {
            return Err(Failure::new(format!("{what}: no address in {vips:?}")));
        };
        let to = SocketAddr::new(*vip, 80);
        // Who asks, and from whom the container of its own host, and those of others, see it.
        let gateway = client.gateway(v6)?;
        let asked = |from: &Task<'_>| all_answers(&|ask, to| from.ask(ask, to), ask, to);
        for from in [&client, &tasks[0]] {
            let own = from.address(v6)?;
            let expected: BTreeSet<(String, IpAddr)> = tasks
                .iter()
                .zip([gateway, own, own])
                .map(|(task, peer)| (task.container.id.clone(), peer))
                .collect();
            match asked(from) {
                Ok(seen) if seen == expected => {}
                Ok(seen) => wrong.push(format!("{what} from {own}: {seen:?}, not {expected:?}")),
                Err(error) => wrong.push(format!("{what} from {own}: {error}")),
            }
        }
        let host = &scene.cluster.hosts[0];
        match all_answers(&|ask, to| host.run(|| ask(to, WAIT)), ask, to) {
            Ok(seen) => {
                let servers: BTreeSet<String> =
                    seen.into_iter().map(|(server, _)| server).collect();
                if servers.len() != 3 {
                    wrong.push(format!("{what} from the host itself: {servers:?}"));
                }
            }
            Err(error) => wrong.push(format!("{what} from the host itself: {error}")),
        }
        // What is no port of the service is refused at once.
        let started = Instant::now();
        let closed = client.ask(ask, SocketAddr::new(*vip, INNER))?;
        if closed != Err(NoReply::Refused) || started.elapsed() > WAIT / 3 {
            wrong.push(format!(
                "{what}, another port: {closed:?} after {:?}",
                started.elapsed()
            ));
        }
    }
    // The same when bridged packets do not pass netfilter: then a container answers another one of its bridge itself.
    let host = &scene.cluster.hosts[0];
    for key in ["iptables", "ip6tables"] {
        host.set(&format!("net/bridge/bridge-nf-call-{key}"), "0")?;
    }
    for (what, ask, v6) in each_way() {
        let vip = vips.iter().find(|it| it.is_ipv6() == v6);
        for from in [&client, &tasks[0]] {
            let to = vip.map(|vip| SocketAddr::new(*vip, 80));
            let asked = to.map(|to| all_answers(&|ask, to| from.ask(ask, to), ask, to));
            match asked.transpose() {
                Ok(Some(seen)) if seen.len() == 3 => {}
                other => wrong.push(format!("{what} without bridge-nf: {other:?}")),
            }
        }
    }
    // A container of another network of the host has no way in, whatever address it takes for its own.
    let other = Container::new("other")?;
    let name = other
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    run(
        host.netns(),
        "ip",
        &format!("link add other type veth peer name eth0 netns {name}"),
    )?;
    run(host.netns(), "ip", "addr add 10.77.0.1/24 dev other")?;
    run(host.netns(), "ip", "link set other up")?;
    run(other.netns(), "ip", "addr add 10.77.0.2/24 dev eth0")?;
    run(other.netns(), "ip", "link set eth0 up")?;
    run(other.netns(), "ip", "route add default via 10.77.0.1")?;
    let own = client.address(false)?.to_string();
    let gone = own
        .rsplit_once('.')
        .map_or(String::new(), |(block, _)| format!("{block}.99"));
    run(other.netns(), "ip", &format!("addr add {gone}/32 dev eth0"))?;
    for source in ["10.77.0.2", &gone] {
        run(
            other.netns(),
            "ip",
            &format!("route replace 10.5.255.0/24 via 10.77.0.1 src {source}"),
        )?;
        let asked = other.run(|| udp(SocketAddr::new(vips[0], 80), WAIT / 6))?;
        if asked != Err(NoReply::Timeout) {
            wrong.push(format!("from another network as {source}: {asked:?}"));
        }
    }
    let dropped = run(host.netns(), "nft", "list table inet pontoon-services")?;
    if !dropped.contains("fib saddr . iif oif missing") {
        wrong.push("no rule against forged sources".to_owned());
    }
    // From outside of the network there is no way in.
    let switch = scene.cluster.switch();
    run(switch, "ip", "route add 10.5.255.0/24 via 198.18.60.1")?;
    let outside = switch
        .run(|| udp(SocketAddr::new(vips[0], 80), WAIT / 3))
        .map_err(Failure::act("ask from outside"))?;
    if outside != Err(NoReply::Timeout) {
        wrong.push(format!("from outside: {outside:?}"));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => {
            let rules = run(
                scene.cluster.hosts[0].netns(),
                "nft",
                "list table inet pontoon-services",
            )?;
            Err(Failure::new(format!(
                "{mode}:\n{}\n{rules}",
                wrong.join("\n")
            )))
        }
    }
}

#[test]
fn a_service_is_answered_by_containers_of_all_hosts_through_tunnels() -> Outcome {
    matrix("vxlan")
}

#[test]
fn a_service_is_answered_by_containers_of_all_hosts_on_one_link() -> Outcome {
    matrix("direct")
}

#[test]
fn the_name_of_a_service_is_its_address_or_its_containers() -> Outcome {
    let scene = scene("vxlan")?;
    let client = Task::add(&scene, 3, "client", Value::Null)?;
    // A container that is called as the service does not hide it.
    let one = Task::add(&scene, 1, "web", web())?;
    let two = Task::add(&scene, 2, "other", web())?;
    let vips = addresses(&scene, 3, "web", 2)?;
    let good = format!("NOERROR {}", vips[0]);
    let mut tasks = [
        one.address(false)?.to_string(),
        two.address(false)?.to_string(),
    ];
    tasks.sort_unstable();
    let tasks = format!("NOERROR {}", tasks.join(" "));
    for asker in [&client, &one, &two] {
        asker.wait_for_answer("web", &good)?;
        asker.wait_for_answer("tasks.web", &tasks)?;
        same(
            "PTR",
            asker.resolve(&["-x", &vips[0].to_string()])?,
            "NOERROR web.lan.dns.pontoon.".to_owned(),
        )?;
        same(
            "with the domain",
            asker.resolve(&["web.lan.dns.pontoon"])?,
            good.clone(),
        )?;
    }
    same(
        "AAAA",
        client.resolve(&["web", "AAAA"])?,
        format!("NOERROR {}", vips[1]),
    )?;
    // Whoever lists the containers is still known as itself.
    let own = format!("NOERROR {}", client.address(false)?);
    same("a container's own name", one.resolve(&["client"])?, own)?;

    let listed = scene.ask(1, &["services"])?;
    for word in [
        "web",
        "10.5.255.",
        "80/tcp 80/udp",
        "h1: 10.5.",
        "h2: 10.5.",
    ] {
        if !listed.contains(word) {
            return Err(Failure::new(format!("no {word:?} in\n{listed}")));
        }
    }
    let listed: Value = serde_json::from_str(&scene.ask(2, &["services", "--json"])?)
        .map_err(Failure::act("read the list of services"))?;
    same(
        "listed",
        listed[NETWORK]["web"]["mode"].clone(),
        json!("vip"),
    )?;

    // dnsrr: the name means all of them, and there is no address.
    let list = Task::add(
        &scene,
        2,
        "mail",
        json!({ "name": "mail", "mode": "dnsrr" }),
    )?;
    client.wait_for_answer("mail", &format!("NOERROR {}", list.address(false)?))?;
    client.wait_for_answer("tasks.mail", &format!("NOERROR {}", list.address(false)?))?;
    list.del()?;
    client.wait_for_answer("tasks.mail.dns.pontoon", "NXDOMAIN")?;

    two.del()?;
    client.wait_for_answer("tasks.web", &format!("NOERROR {}", one.address(false)?))?;
    one.del()?;
    client.wait_for_answer("web.dns.pontoon", "NXDOMAIN")?;
    // The address stays the service's: another one gets another.
    let other = Task::add(&scene, 1, "db", json!("db"))?;
    let of_db = addresses(&scene, 3, "db", 1)?;
    let again = Task::add(&scene, 3, "again", web())?;
    same(
        "the address afterwards",
        addresses(&scene, 3, "web", 1)?,
        vips.clone(),
    )?;
    if of_db == vips {
        return Err(Failure::new(format!(
            "{of_db:?} is the address of two services"
        )));
    }
    client.wait_for_answer("web", &good)?;
    // Without ports whatever is sent to the address is for it.
    for (what, ask) in BOTH {
        let reply = client.ask(ask, SocketAddr::new(of_db[0], INNER))?;
        let server = reply.map(|reply| reply.server);
        same(what, server, Ok(other.container.id.clone()))?;
    }
    drop(again);
    Ok(())
}

#[test]
fn a_client_with_affinity_stays_with_one_container() -> Outcome {
    let scene = scene("vxlan")?;
    let mut sticky = web();
    sticky["affinity"] = json!(true);
    let _tasks = [1, 2, 2, 3]
        .map(|number| Task::add(&scene, number, "web", sticky.clone()))
        .into_iter()
        .collect::<Outcome<Vec<_>>>()?;
    let mut chosen = BTreeSet::new();
    let clients =
        (0..6).map(|number| Task::add(&scene, 1, &format!("client{number}"), Value::Null));
    let clients = clients.collect::<Outcome<Vec<_>>>()?;
    let vips = addresses(&scene, 1, "web", 4)?;
    for client in &clients {
        for (what, ask, v6) in each_way() {
            let Some(vip) = vips.iter().find(|it| it.is_ipv6() == v6) else {
                return Err(Failure::new("no address"));
            };
            let to = SocketAddr::new(*vip, 80);
            let seen = all_answers(&|ask, to| client.ask(ask, to), ask, to)?;
            same(&what, seen.len(), 1)?;
            chosen.extend(seen.into_iter().map(|(server, _)| (v6, server)));
        }
    }
    // Six clients of one container each would choose the same one with a chance of 1 in 1,024 only.
    match chosen.len() > 2 {
        true => Ok(()),
        false => Err(Failure::new(format!("all clients went to {chosen:?}"))),
    }
}

#[test]
fn nothing_of_services_is_left() -> Outcome {
    let scene = scene("vxlan")?;
    let look = || -> Outcome<Snapshot> {
        Snapshot::take(&scene.cluster.hosts[0], &scene.leases(1, NETWORK))
    };
    // The first container of a network makes its bridge.
    let first = Task::add(&scene, 1, "first", Value::Null)?;
    let other = Task::add(&scene, 2, "other", web())?;
    addresses(&scene, 1, "web", 1)?;
    let before = look()?;
    let task = Task::add(&scene, 1, "web", web())?;
    addresses(&scene, 1, "web", 2)?;
    same(
        "a container more changes the host",
        before == look()?,
        false,
    )?;
    task.del()?;
    before.settles(look, "a container of a service that went")?;
    first.del()?;
    other.del()?;
    // With the network everything goes, the addresses in etcd too.
    for number in [1, 2, 3] {
        std::fs::remove_file(scene.at(number, "net.d").join("lan.conflist"))
            .map_err(Failure::act("remove a configuration"))?;
    }
    wait_for("the end of the table", PATIENCE, || {
        let tables = run(scene.cluster.hosts[0].netns(), "nft", "list tables")?;
        Ok((!tables.contains("services")).then_some(()))
    })?;
    same(
        "keys",
        scene
            .etcdctl("get --prefix --keys-only /pontoon/v1/service/")?
            .contains("web"),
        true,
    )?;
    wait_for("blocks given back", PATIENCE, || {
        Ok(scene
            .ask(1, &["network", "rm", NETWORK])
            .is_ok()
            .then_some(()))
    })?;
    let keys = scene.etcdctl("get --prefix --keys-only /pontoon/v1/service/")?;
    same("keys", keys.trim(), "")
}
