//! A name that stays is always answered, whatever else comes and goes, the resolver included.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{Backend, Container, Failure, Outcome, Site};
use serde_json::json;

/// Containers that come and go.
const COMING: usize = 200;
/// Clients that ask meanwhile.
const CLIENTS: usize = 10;
/// For how long a reply is waited for: far longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(4);

/// A question for A of `name`.
pub(super) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.push(name.len() as u8);
    packet.extend_from_slice(name.as_bytes());
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

/// The address that a reply says, if it is one to this question.
pub(super) fn address(packet: &[u8], id: u16) -> Option<Ipv4Addr> {
    if packet.get(..2) != Some(&id.to_be_bytes()) || packet.get(3)? & 0xf != 0 {
        return None;
    }
    let last = packet.get(packet.len().checked_sub(4)?..)?;
    Some(Ipv4Addr::new(last[0], last[1], last[2], last[3]))
}

pub(super) fn client(server: SocketAddr) -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(Failure::act("bind"))?;
    socket.connect(server).map_err(Failure::act("connect"))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .map_err(Failure::act("set a timeout"))?;
    Ok(socket)
}

pub(super) fn gateway(attachment: &pontoon_lab::Attachment) -> Outcome<SocketAddr> {
    let text = attachment.gateway(false).unwrap_or_default();
    let ip = text.parse().map_err(Failure::act("parse the gateway"))?;
    Ok(SocketAddr::new(ip, 53))
}

#[test]
fn no_question_is_lost_while_others_come_and_go() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("churn", 85, json!({}));
    let (stays, attachment) = site.join_named("stays", &network)?;
    let server = gateway(&attachment)?;
    let expected = attachment.address(false).unwrap_or_default();
    let stop = AtomicBool::new(false);
    let [asked, lost, wrong] = [const { AtomicUsize::new(0) }; 3];
    let come_and_go = |count: usize| -> Outcome {
        for _ in 0..count {
            let (_container, attachment) = site.join_named("guest", &network)?;
            site.runtime().del(&network, &attachment)?;
        }
        Ok(())
    };
    let ask = || -> Outcome {
        stays.run(|| -> Outcome {
            let socket = client(server)?;
            let mut id = 0u16;
            while !stop.load(Ordering::Relaxed) {
                id = id.wrapping_add(1);
                socket
                    .send(&question(id, "stays"))
                    .map_err(Failure::act("send"))?;
                asked.fetch_add(1, Ordering::Relaxed);
                let mut reply = [0; 512];
                match socket.recv(&mut reply) {
                    Err(_) => drop(lost.fetch_add(1, Ordering::Relaxed)),
                    Ok(length) => {
                        let said = address(&reply[..length], id).map(|ip| ip.to_string());
                        if said.as_deref() != Some(expected.as_str()) {
                            wrong.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                // The machine has others to serve.
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })?
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        let guests: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| come_and_go(COMING / 2)))
            .collect();
        let mut done: Outcome = Ok(());
        for guest in guests {
            done = done.and(
                guest
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a panic"))),
            );
        }
        stop.store(true, Ordering::Relaxed);
        for asker in askers {
            done = done.and(
                asker
                    .join()
                    .unwrap_or_else(|_| Err(Failure::new("a panic"))),
            );
        }
        done
    })?;
    let [asked, lost, wrong] = [asked, lost, wrong].map(AtomicUsize::into_inner);
    eprintln!("{COMING} containers came and went: {asked} questions, {lost} lost, {wrong} wrong");
    if asked < 100 || lost + wrong > 0 {
        return Err(Failure::new(format!(
            "of {asked} questions {lost} were lost and {wrong} answered wrongly"
        )));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}

#[test]
fn a_killed_resolver_comes_back_with_the_next_container() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("killed", 86, json!({}));
    let (stays, attachment) = site.join_named("stays", &network)?;
    let (server, expected) = (
        gateway(&attachment)?,
        attachment.address(false).unwrap_or_default(),
    );
    let text = fs::read_to_string(site.host.state_dir().join("lock/.dns"))
        .map_err(Failure::act("read the resolver's lock"))?;
    let pid = text.trim().parse().map_err(Failure::act("parse a pid"))?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(Failure::act("kill the resolver"))?;
    thread::scope(|scope| {
        // As a stub resolver: again every second, for ten seconds.
        let asker = scope.spawn(|| {
            stays.run(|| -> Outcome<bool> {
                let socket = client(server)?;
                let deadline = Instant::now() + Duration::from_secs(10);
                socket
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .map_err(Failure::act("set a timeout"))?;
                while Instant::now() < deadline {
                    let _ = socket.send(&question(7, "stays"));
                    let mut reply = [0; 512];
                    match socket.recv(&mut reply) {
                        Ok(length) => {
                            let said = address(&reply[..length], 7).map(|ip| ip.to_string());
                            return Ok(said.as_deref() == Some(expected.as_str()));
                        }
                        // A port that is closed says so at once.
                        Err(_) => thread::sleep(Duration::from_millis(100)),
                    }
                }
                Ok(false)
            })?
        });
        let (_next, other) = site.join_named("next", &network)?;
        let answered = asker
            .join()
            .unwrap_or_else(|_| Err(Failure::new("a panic")))?;
        if !answered {
            return Err(Failure::new("the name that stayed was not answered again"));
        }
        site.runtime().check(&network, &attachment)?;
        Ok(site.runtime().del(&network, &other)?)
    })?;
    Ok(site.runtime().del(&network, &attachment)?)
}

#[test]
fn a_resolver_that_cannot_start_is_an_error_that_says_so() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("barred", 87, json!({}));
    let before = site.snapshot()?;
    // Another process has every port that the resolver tries.
    let taken: Vec<_> = site.host.run(|| {
        (21053..21069)
            .filter_map(|port| UdpSocket::bind(("0.0.0.0", port)).ok())
            .collect()
    })?;
    let container = Container::new("barred")?;
    let mut wanted = pontoon_lab::Attachment::new(&container).named("barred");
    let refusal = site
        .try_add(&network, &mut wanted)?
        .ok_or_else(|| Failure::new("ADD succeeded"))?;
    if refusal.code != 108 || !refusal.text().contains("no port from 21053 on") {
        return Err(Failure::new(format!("not the reason: {refusal}")));
    }
    drop(taken);
    site.nothing_left(&before, &[&network], "an ADD without a resolver")
}
