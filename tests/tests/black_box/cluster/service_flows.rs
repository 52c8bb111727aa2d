//! Connections to services while containers come and go.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{Failure, Outcome, tcp, udp};
use pontoon_netlink::Netns;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, same, wait_for};
use super::tasks::{INNER, Task, WAIT, addresses, all_answers};

/// Where containers answer as long as a client sends.
const LASTING: u16 = 7000;
/// A client learns within so long that its container is gone: two looks of an agent, and what the network needs.
const PROMPT: Duration = Duration::from_secs(2);

/// Answers every byte of every connection, for ever: its thread ends with the test's process.
fn serve(task: &Task<'_>) -> Outcome {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, LASTING));
    let listener = task
        .container
        .run(|| TcpListener::bind(everywhere))?
        .map_err(Failure::act("listen"))?;
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    Ok(())
}

/// A connection, made in a container's namespace.
fn connect(client: &Task<'_>, to: SocketAddr) -> Outcome<TcpStream> {
    let stream = client
        .container
        .run(|| TcpStream::connect_timeout(&to, WAIT))?;
    let stream = stream.map_err(Failure::act(format!("connect to {to}")))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(Failure::act("set a timeout"))?;
    Ok(stream)
}

/// Whether a byte goes there and back; what became of it.
fn ping(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let mut byte = [7];
    stream.write_all(&byte).map_err(|error| error.kind())?;
    stream.read_exact(&mut byte).map_err(|error| error.kind())
}

/// Connections to every container, then one goes: those to it end at once, those to others go on.
fn one_goes(v6: bool) -> Outcome {
    let scene = Scene::with_network(&["--mode", "vxlan", "--subnet", "fd00:5::/48"])?;
    let service = json!("web");
    let tasks = [1, 2, 3].map(|number| Task::add(&scene, number, "web", service.clone()));
    let tasks = tasks.into_iter().collect::<Outcome<Vec<_>>>()?;
    tasks.iter().try_for_each(serve)?;
    let client = Task::add(&scene, 1, "client", Value::Null)?;
    let vips = addresses(&scene, 1, "web", 3)?;
    let Some(vip) = vips.iter().find(|it| it.is_ipv6() == v6).copied() else {
        return Err(Failure::new("no address"));
    };
    let to = SocketAddr::new(vip, LASTING);
    let mut streams = (0..24)
        .map(|_| connect(&client, to))
        .collect::<Outcome<Vec<_>>>()?;
    for stream in &mut streams {
        ping(stream).map_err(|kind| Failure::new(format!("before: {kind}")))?;
    }
    // A client that keeps one port for its questions.
    let any: IpAddr = match v6 {
        false => [0, 0, 0, 0].into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sockets = (0..12)
        .map(|_| {
            let socket = client.container.run(|| -> std::io::Result<UdpSocket> {
                let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
                socket.connect(SocketAddr::new(vip, INNER))?;
                socket.set_read_timeout(Some(Duration::from_millis(200)))?;
                Ok(socket)
            })?;
            socket.map_err(Failure::act("make a socket"))
        })
        .collect::<Outcome<Vec<_>>>()?;
    let ask = |socket: &UdpSocket| -> Option<String> {
        let mut reply = [0; 256];
        socket.send(b"hello").ok()?;
        let length = socket.recv(&mut reply).ok()?;
        let text = String::from_utf8_lossy(&reply[..length]).into_owned();
        Some(text.split(' ').next()?.to_owned())
    };
    let gone = tasks[1].container.id.clone();
    let before: Vec<Option<String>> = sockets.iter().map(ask).collect();
    let stuck = before
        .iter()
        .filter(|it| it.as_ref() == Some(&gone))
        .count();
    if stuck == 0 || before.contains(&None) {
        return Err(Failure::new(format!("questions before: {before:?}")));
    }
    tasks[1].del()?;
    let deleted = Instant::now();
    // Every question is answered by another one soon.
    for socket in &sockets {
        let found = wait_for("an answer by another container", PROMPT, || {
            Ok(ask(socket).filter(|server| *server != gone))
        })?;
        drop(found);
    }
    eprintln!(
        "{stuck} UDP flows to a container that went: all answered by others {} ms after its DEL",
        deleted.elapsed().as_millis()
    );
    let (mut ended, mut went_on, mut slowest) = (0, 0, Duration::ZERO);
    for stream in &mut streams {
        let started = Instant::now();
        match ping(stream) {
            Ok(()) => went_on += 1,
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                return Err(Failure::new("a client of a container that went hangs"));
            }
            Err(_) => ended += 1,
        }
        slowest = slowest.max(started.elapsed());
    }
    eprintln!(
        "{ended} TCP connections ended, {went_on} went on, the slowest after {} ms",
        slowest.as_millis()
    );
    if ended == 0 || went_on == 0 || slowest > PROMPT {
        return Err(Failure::new(format!(
            "{ended} ended, {went_on} went on, {slowest:?}"
        )));
    }
    // New connections find the others only.
    let to = SocketAddr::new(vip, INNER);
    for way in [tcp, udp] {
        let seen = all_answers(&|ask, to| client.ask(ask, to), way, to)?;
        same("containers that answer", seen.len(), 2)?;
    }
    // The last ones go: refused, not silent.
    tasks[0].del()?;
    tasks[2].del()?;
    for way in [tcp, udp] {
        let (_, took) = wait_for("refused", PROMPT, || {
            let started = Instant::now();
            let asked = client.ask(way, to)?;
            let prompt = started.elapsed() < Duration::from_secs(1);
            Ok((asked == Err(pontoon_lab::NoReply::Refused) && prompt).then_some(()))
        })?;
        eprintln!("without containers: refused after {} ms", took.as_millis());
    }
    for stream in &mut streams {
        if let Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) = ping(stream) {
            return Err(Failure::new(
                "a client of a service without containers hangs",
            ));
        }
    }
    Ok(())
}

#[test]
fn no_client_hangs_when_a_container_goes() -> Outcome {
    one_goes(false)
}

#[test]
fn no_client_hangs_when_a_container_goes_over_ipv6() -> Outcome {
    one_goes(true)
}

#[test]
fn services_stay_when_etcd_loses_everything() -> Outcome {
    let scene = Scene::with_network(&["--mode", "vxlan"])?;
    // Services that would get other numbers in another order.
    let names = ["zoo", "web", "app"];
    let mut tasks = Vec::new();
    let mut vips = Vec::new();
    for name in names {
        tasks.push(Task::add(&scene, 2, name, json!(name))?);
        vips.push(addresses(&scene, 1, name, 1)?[0]);
    }
    let client = Task::add(&scene, 1, "client", Value::Null)?;
    let asked = || -> Outcome {
        for (vip, task) in vips.iter().zip(&tasks) {
            let reply = client.ask(tcp, SocketAddr::new(*vip, INNER))?;
            same(
                "who answers",
                reply.map(|it| it.server),
                Ok(task.container.id.clone()),
            )?;
        }
        Ok(())
    };
    asked()?;
    scene.etcdctl("del --prefix /pontoon/v1/")?;
    scene.wait_for_status(1, "the network is missed", |status| {
        status["networks"]["lan"]["in_etcd"] == false
    })?;
    // Longer than it takes the agents to look at the kernel.
    thread::sleep(Duration::from_secs(11));
    asked()?;
    scene.create(
        "lan",
        &["--subnet", super::scene::SUBNET, "--mode", "vxlan"],
    )?;
    for (name, vip) in names.iter().zip(&vips) {
        same(
            "the address afterwards",
            addresses(&scene, 1, name, 1)?[0],
            *vip,
        )?;
    }
    asked()
}

#[test]
fn services_stay_without_the_agent() -> Outcome {
    let scene = Scene::with_network(&["--mode", "vxlan"])?;
    let service = json!("web");
    let tasks = [1, 2].map(|number| Task::add(&scene, number, "web", service.clone()));
    let tasks = tasks.into_iter().collect::<Outcome<Vec<_>>>()?;
    tasks.iter().try_for_each(serve)?;
    let client = Task::add(&scene, 1, "client", Value::Null)?;
    let vip = addresses(&scene, 1, "web", 2)?[0];
    let mut streams = (0..8)
        .map(|_| connect(&client, SocketAddr::new(vip, LASTING)))
        .collect::<Outcome<Vec<_>>>()?;
    let to = SocketAddr::new(vip, INNER);
    let all = |count: usize| -> Outcome {
        let seen = all_answers(&|ask, to| client.ask(ask, to), tcp, to)?;
        same("containers that answer", seen.len(), count)
    };
    all(2)?;
    let table = || {
        let netns: &Netns = scene.cluster.hosts[0].netns();
        super::guests::run(netns, "nft", "list table inet pontoon-services")
    };
    let before = table()?;
    scene.kill(1)?;
    all(2)?;
    scene.start(1)?;
    addresses(&scene, 1, "web", 2)?;
    same("the table of the agent that came back", table()?, before)?;
    for stream in &mut streams {
        ping(stream).map_err(|kind| Failure::new(format!("after the agent came back: {kind}")))?;
    }
    all(2)?;
    // What goes while no agent runs is found by the next one, and its connections are cut.
    scene.kill(1)?;
    tasks[1].del()?;
    scene.start(1)?;
    addresses(&scene, 1, "web", 1)?;
    let mut ended = 0;
    for stream in &mut streams {
        match ping(stream) {
            Ok(()) => {}
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                return Err(Failure::new("a client hangs after the agent came back"));
            }
            Err(_) => ended += 1,
        }
    }
    if ended == 0 {
        return Err(Failure::new("no connection ended"));
    }
    all(1)?;
    // The table that somebody deletes is there again.
    super::guests::run(
        scene.cluster.hosts[0].netns(),
        "nft",
        "delete table inet pontoon-services",
    )?;
    let (_, took) = wait_for("the table", PATIENCE, || Ok(table().is_ok().then_some(())))?;
    eprintln!(
        "a table that was deleted was there again after {:.1} s",
        took.as_secs_f64()
    );
    // A host that dies takes its containers out of the service.
    let leader = scene.etcd.borrow().leader(&scene.cluster)?;
    let away = if leader == 3 { 2 } else { 3 };
    let far = Task::add(&scene, away, "web", service)?;
    addresses(&scene, 1, "web", 2)?;
    scene.cluster.connect(away, false)?;
    let (_, took) = wait_for("a dead host's container is out", PATIENCE, || {
        let status = scene.status(1)?;
        let backends = &status["networks"]["lan"]["services"]["web"]["backends"];
        Ok((backends.as_array().map_or(0, Vec::len) == 1).then_some(()))
    })?;
    eprintln!(
        "a dead host's container was out after {:.1} s",
        took.as_secs_f64()
    );
    all(1)?;
    drop(far);
    Ok(())
}
