//! `pontoon trace` over the matrix of policies: what it predicts for a packet is what the packet did.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::policy::scene::{Cell, Scene};
use crate::policy::table::{POLICY_CASES, Place, PolicyCase};
use pontoon_lab::{Backend, Failure, HOST_V4, Outcome, Protocol, slice};
use serde_json::{Value, json};

/// The cell as a line of `--batch`.
fn question(cell: &Cell) -> String {
    let from = match cell.from {
        // Its address: `outside` is what the default route leads to.
        Place::Neighbour if cell.shot.to.is_ipv4() => "198.18.8.2".to_owned(),
        Place::Neighbour => "2001:db8:fd::2".to_owned(),
        place => format!("{place:?}").to_lowercase(),
    };
    let protocol = format!("{:?}", cell.shot.protocol).to_lowercase();
    let to = match cell.shot.protocol {
        Protocol::Icmp => cell.shot.to.ip().to_string(),
        _ => cell.shot.to.to_string(),
    };
    let port = cell
        .shot
        .source_port
        .map_or(String::new(), |p| format!(" {p}"));
    format!("{from} {to} {protocol}{port}\n")
}

/// Where it says that the packet arrives, if it says so.
fn predicted(answer: &Value) -> Outcome<Option<&str>> {
    let end = &answer["end"];
    match end["verdict"].as_str() {
        Some("arrives") => Ok(end["at"].as_str()),
        Some("dropped" | "refused") => Ok(None),
        _ => Err(Failure::new(answer.to_string())),
    }
}

/// Whether it calls the place so where the packet is looked for.
fn is(place: Place, at: &str) -> bool {
    match place {
        Place::Outside => at == "eth0",
        Place::Host => at == "this host",
        // An id begins with what its container is called.
        guest => at.starts_with(&format!("{guest:?}-").to_lowercase()),
    }
}

/// Policies that are tried with each setting in a run.
const TRIED: usize = 3;

fn matrix(backend: Backend, bridge_nf_call: bool) -> Outcome {
    let started = Instant::now();
    let setting = format!("{backend}, bridge-nf-call {}", u8::from(bridge_nf_call));
    let (mut count, mut wrong) = (0, Vec::new());
    for stance in slice(&format!("trace, {setting}"), POLICY_CASES, TRIED) {
        let mut scene = Scene::new(backend, bridge_nf_call, stance)?;
        let cells = scene.cells()?;
        let questions: String = cells.iter().map(question).collect();
        let told = scene
            .site
            .pontoon_reads(&["trace", "--batch"], &questions)?;
        let fates = scene.fire(&cells)?;
        let answers: Vec<&str> = told.stdout.lines().collect();
        if answers.len() != cells.len() {
            return Err(Failure::new(format!(
                "{setting}, {stance:?}: {} answers to {} questions: {}",
                answers.len(),
                cells.len(),
                told.stderr
            )));
        }
        for ((cell, fate), answer) in cells.iter().zip(fates).zip(answers) {
            let answer = serde_json::from_str(answer).map_err(Failure::act("read an answer"))?;
            let predicted = predicted(&answer)?.is_some_and(|at| is(cell.what.at(), at));
            if predicted != fate.arrived {
                wrong.push(format!(
                    "{setting}, {stance:?}: {cell}: {fate:?}, but {answer}"
                ));
            }
        }
        count += cells.len();
    }
    eprintln!(
        "trace, {setting}: {count} cells in {:.1} s, {} predicted wrong",
        started.elapsed().as_secs_f64(),
        wrong.len()
    );
    match wrong.first() {
        None => Ok(()),
        Some(_) => Err(Failure::new(wrong.join("\n"))),
    }
}

#[test]
fn iptables_nft_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, false)
}

#[test]
fn iptables_nft_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesNft, true)
}

#[test]
fn iptables_legacy_without_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, false)
}

#[test]
fn iptables_legacy_with_bridge_nf_call() -> Outcome {
    matrix(Backend::IptablesLegacy, true)
}

#[test]
fn nftables_without_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, false)
}

#[test]
fn nftables_with_bridge_nf_call() -> Outcome {
    matrix(Backend::Nftables, true)
}

/// One cell in so many is sent by `--live`: a number that has no part in common with those of
/// places, protocols and targets.
const EVERY: usize = 37;

/// A packet of its own for a sample of the cells: what the kernel's tracing tells is what was
/// predicted, and what the table says.
fn live(backend: Backend) -> Outcome {
    let (mut count, mut wrong) = (0, Vec::new());
    let stances = POLICY_CASES.into_iter().enumerate();
    for (number, stance) in slice(&format!("trace --live, {backend}"), stances, TRIED) {
        let scene = Scene::new(backend, number % 2 == 0, stance)?;
        let cells = scene.cells()?;
        // A second process cannot send from a port that a server listens at.
        let own = cells.iter().filter(|cell| {
            !matches!(cell.from, Place::Outside | Place::Neighbour)
                && cell.shot.source_port.is_none()
        });
        for cell in own.skip(number * 5).step_by(EVERY) {
            let line = question(cell);
            let words: Vec<&str> = line.split_whitespace().collect();
            let arguments = ["trace", "--live", words[0], words[1], "--proto", words[2]];
            let told = scene.site.pontoon_json(&arguments)?;
            let live = &told["live"];
            let meant = predicted(&told)?.is_some_and(|at| is(cell.what.at(), at));
            let arrives = live["end"]["verdict"] == "arrives" && meant;
            if live["differences"] != json!([]) || arrives != cell.shot.arrives {
                wrong.push(format!(
                    "{backend}, {stance:?}: {cell}: {}, {live}",
                    told["end"]
                ));
            }
            count += 1;
        }
    }
    eprintln!(
        "trace --live, {backend}: {count} packets, {} not as predicted",
        wrong.len()
    );
    match wrong.first() {
        None => Ok(()),
        Some(_) => Err(Failure::new(wrong.join("\n"))),
    }
}

/// A packet from outside is waited for; the answers say what became of it.
#[test]
fn from_outside_live() -> Outcome {
    for backend in [
        Backend::IptablesNft,
        Backend::IptablesLegacy,
        Backend::Nftables,
    ] {
        let scene = Scene::new(backend, false, PolicyCase::Docker)?;
        for (port, arrives) in [(8080, true), (8081, false)] {
            let target = SocketAddr::new(HOST_V4, port);
            let to = target.to_string();
            let arguments = ["trace", "outside", &to, "--live", "--wait", "5"];
            let told = thread::scope(|scope| {
                let told = scope.spawn(|| scene.site.pontoon_json(&arguments));
                // Not before it listens: the first of these may be too early, one of them is not.
                while !told.is_finished() {
                    scene.site.host.run_outside(|| {
                        let patience = Duration::from_millis(200);
                        TcpStream::connect_timeout(&target, patience).is_ok()
                    })?;
                    thread::sleep(Duration::from_millis(50));
                }
                told.join()
                    .map_err(|_| Failure::new("pontoon trace panics"))?
            })?;
            let live = &told["live"];
            let at = live["end"]["reason"].as_str().unwrap_or_default();
            let there = at.contains(":80") && at.starts_with("leaves by");
            if live["differences"] != json!([]) || there != arrives {
                return Err(Failure::new(format!("{backend}, {to}: {live}")));
            }
        }
    }
    Ok(())
}

#[test]
fn iptables_nft_live() -> Outcome {
    live(Backend::IptablesNft)
}

#[test]
fn iptables_legacy_live() -> Outcome {
    live(Backend::IptablesLegacy)
}

#[test]
fn nftables_live() -> Outcome {
    live(Backend::Nftables)
}
