//! What the resolver's processes may do, and that they come back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pontoon_lab::{Backend, Failure, Outcome, Site, same};
use serde_json::{Value, json};

use super::churn::{address, client, gateway, question};

/// Within which names work again after any one process was killed.
const BACK: Duration = Duration::from_secs(1);
/// For how long a process is waited for: far longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn without_its_state_directory_a_resolver_ends_even_when_its_worker_was_killed() -> Outcome {
    for kill_worker in [false, true] {
        let site = Site::new(Backend::Nftables)?;
        let network = site.named_network("lost", 74, json!({}));
        let _joined = site.join_named("web", &network)?;
        let [keeper, worker, standby] = processes(&site)?;
        let state = site.host.state_dir();
        if kill_worker {
            // It shall not be the one that sees it.
            signal(worker, Signal::SIGSTOP)?;
        }
        fs::remove_dir_all(&state).map_err(Failure::act(format!("remove {}", state.display())))?;
        if kill_worker {
            signal(worker, Signal::SIGKILL)?;
        }
        for pid in [keeper, worker, standby] {
            eventually("the end of a resolver without state", || {
                Ok((!runs(pid)).then_some(()))
            })?;
        }
    }
    Ok(())
}

/// A file of a process in /proc, as names and values.
fn fields(pid: u64, file: &str, width: Option<usize>) -> Outcome<BTreeMap<String, String>> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).map_err(Failure::act(format!("read {path}")))?;
    let parts = text.lines().filter_map(|line| match width {
        Some(width) => line.split_at_checked(width),
        None => line.split_once(':'),
    });
    Ok(parts
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect())
}

fn status(site: &Site) -> Outcome<Value> {
    site.pontoon_json(&["dns", "status"])
}

/// The process of a role: `pid` (the keeper), `worker`, `standby`.
fn process(status: &Value, role: &str) -> Outcome<u64> {
    status[role]
        .as_u64()
        .ok_or_else(|| Failure::new(format!("no {role}: {status}")))
}

/// All three, when they are there.
fn processes(site: &Site) -> Outcome<[u64; 3]> {
    eventually("three processes", || {
        let status = status(site)?;
        let all = ["pid", "worker", "standby"].map(|role| process(&status, role).ok());
        Ok(match all {
            [Some(keeper), Some(worker), Some(standby)] => Some([keeper, worker, standby]),
            _ => None,
        })
    })
}

fn eventually<T>(what: &str, look: impl Fn() -> Outcome<Option<T>>) -> Outcome<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!("{what}: not within {PATIENCE:?}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u64, signal: Signal) -> Outcome {
    let pid = i32::try_from(pid).map_err(Failure::act("read a process id"))?;
    kill(Pid::from_raw(pid), signal).map_err(Failure::act(format!("send {signal} to {pid}")))
}

/// Whether a process is there, and no zombie.
fn runs(pid: u64) -> bool {
    let state = fields(pid, "status", None).map(|fields| fields.get("State").cloned());
    matches!(state, Ok(Some(state)) if !state.starts_with('Z'))
}

#[test]
fn the_worker_has_no_privilege() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("priv", 71, json!({}));
    let (_web, attachment) = site.join_named("web", &network)?;
    let [keeper, worker, _] = processes(&site)?;
    let told = fields(worker, "status", None)?;
    let mut wrong = Vec::new();
    for (name, value) in &told {
        let fine = match name.as_str() {
            "Uid" | "Gid" => value.split_whitespace().all(|id| id != "0"),
            "Groups" => value.is_empty(),
            "CapInh" | "CapPrm" | "CapEff" | "CapBnd" | "CapAmb" => {
                u64::from_str_radix(value, 16) == Ok(0)
            }
            "NoNewPrivs" => value == "1",
            "Seccomp" => value == "2",
            "Threads" => value == "1",
            _ => continue,
        };
        if !fine {
            wrong.push(format!("{name}: {value}"));
        }
    }
    let limits = fields(worker, "limits", Some(26))?;
    for (name, most) in [
        ("Max core file size", 0),
        ("Max processes", 0),
        ("Max address space", 1 << 30),
        ("Max open files", 16_384),
    ] {
        let value = limits.get(name).cloned().unwrap_or_default();
        let numbers: Vec<&str> = value.split_whitespace().take(2).collect();
        let bounded = |number: &&str| number.parse().is_ok_and(|number: u64| number <= most);
        if numbers.len() != 2 || !numbers.iter().all(bounded) {
            wrong.push(format!("{name}: {value}"));
        }
    }
    // Of a process whose memory its own user may read, that user owns the folder.
    let owner =
        fs::metadata(format!("/proc/{worker}/mem")).map_err(Failure::act("look at /proc"))?;
    if owner.uid() != 0 {
        wrong.push("its memory is readable for its user".to_owned());
    }
    // The keeper: user, groups and capabilities of the worker, signals to it, paths of namespaces, setns,
    // and receive buffers.
    let kept = [2, 5, 6, 7, 8, 12, 19, 21]
        .iter()
        .fold(0, |set, bit| set | 1u64 << bit);
    let told = fields(keeper, "status", None)?;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let value = told.get(set).cloned().unwrap_or_default();
        if u64::from_str_radix(&value, 16).map_or(true, |value| value & !kept != 0) {
            wrong.push(format!("the keeper's {set}: {value}"));
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::new(wrong.join("\n")));
    }
    let held = &status(&site)?["privileges"];
    let expected = json!({
        "user": held["user"], "capabilities": "0000000000000000", "noNewPrivileges": true,
        "seccomp": "filter", "missing": [],
    });
    same("status --json", &held.to_string(), &expected.to_string())?;
    let text = site.pontoon_ends(&["dns", "status"], 0)?;
    let line = format!(
        "privileges: user {}, no capability, system calls filtered",
        held["user"]
    );
    if !text.lines().any(|one| one == line) {
        return Err(Failure::new(format!("no line {line:?} in\n{text}")));
    }
    Ok(site.runtime().del(&network, &attachment)?)
}

/// A client that asks all the time, by one socket, and waits for each answer: when each came.
struct Stream<'a> {
    stop: &'a AtomicBool,
    /// When a question was asked, and when its answer came.
    answers: mpsc::Receiver<(Instant, Instant)>,
}

impl Stream<'_> {
    /// Waits for an answer to a question that was asked after `since`: when it came.
    fn next_after(&self, since: Instant) -> Outcome<Instant> {
        loop {
            let answer = self.answers.recv_timeout(PATIENCE);
            let (asked, came) = answer.map_err(Failure::act("wait for an answer"))?;
            if asked > since {
                return Ok(came);
            }
        }
    }
}

#[test]
fn each_process_that_is_killed_comes_back_within_a_second() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = site.named_network("back", 72, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    let server = gateway(&attachment)?;
    let own = attachment.address(false).unwrap_or_default();
    let stop = AtomicBool::new(false);
    let (sender, answers) = mpsc::channel();
    let ask = || -> Outcome {
        web.run(|| -> Outcome {
            let socket = client(server)?;
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .map_err(Failure::act("set a timeout"))?;
            let mut id = 0u16;
            while !stop.load(Ordering::Relaxed) {
                id = id.wrapping_add(1);
                let asked = Instant::now();
                let _ = socket.send(&question(id, "web"));
                let mut reply = [0; 512];
                // The answer to a question before may come late.
                while let Ok(length) = socket.recv(&mut reply) {
                    let said = address(&reply[..length], id).map(|ip| ip.to_string());
                    if said.as_deref() == Some(own.as_str()) {
                        let _ = sender.send((asked, Instant::now()));
                        break;
                    }
                }
                // A closed port says so at once.
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })?
    };
    let stream = Stream {
        stop: &stop,
        answers,
    };
    let each = || -> Outcome {
        stream.next_after(Instant::now())?;
        for round in 0..3 {
            for (index, role) in ["keeper", "worker", "standby"].iter().enumerate() {
                let all = processes(&site)?;
                let killed = Instant::now();
                signal(all[index], Signal::SIGKILL)?;
                let gone = || Ok((!runs(all[index])).then(Instant::now));
                let gone = eventually("the end of the killed", gone)?;
                let took = stream.next_after(gone)? - killed;
                eprintln!("{role} killed, round {round}: answered again {took:?} after the kill");
                if took > BACK {
                    return Err(Failure::new(format!(
                        "{role}: names came back after {took:?}"
                    )));
                }
                let now = processes(&site)?;
                let others = (0..3).filter(|other| *other != index);
                let kept = others.filter(|other| now.contains(&all[*other])).count();
                if now.contains(&all[index]) || kept != 2 {
                    return Err(Failure::new(format!("{role}: {all:?} became {now:?}")));
                }
                // What plugins look at is the keeper's.
                let lock = site.host.state_dir().join("lock/.dns");
                let noted = fs::read_to_string(&lock).map_err(Failure::act("read the lock"))?;
                same("lock/.dns", noted.trim(), &now[0].to_string())?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let asker = scope.spawn(ask);
        let done = each();
        stream.stop.store(true, Ordering::Relaxed);
        let asked = asker
            .join()
            .unwrap_or_else(|_| Err(Failure::new("a panic")));
        done.and(asked)
    })?;
    let all = processes(&site)?;
    site.runtime().check(&network, &attachment)?;
    site.runtime().del(&network, &attachment)?;
    eventually("the end of all", || {
        Ok((!all.iter().any(|pid| runs(*pid))).then_some(()))
    })?;
    drop(web);
    site.nothing_left(&before, &[&network], "kills of each process, then DEL")
}

#[test]
fn when_all_are_killed_nothing_is_left_after_del_and_gc() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let before = site.snapshot()?;
    let network = site.named_network("all", 73, json!({}));
    for gc_first in [false, true] {
        let (web, attachment) = site.join_named("web", &network)?;
        // The standby first: it would take over.
        let [keeper, worker, standby] = processes(&site)?;
        for pid in [standby, keeper, worker] {
            signal(pid, Signal::SIGSTOP)?;
        }
        for pid in [standby, keeper, worker] {
            signal(pid, Signal::SIGKILL)?;
        }
        for pid in [standby, keeper, worker] {
            eventually("the end of the killed", || Ok((!runs(pid)).then_some(())))?;
        }
        if gc_first {
            site.runtime()
                .gc(&network.clone().in_version("1.1.0"), &[])?;
        }
        site.runtime().del(&network, &attachment)?;
        drop(web);
        let left: Vec<PathBuf> = ["dns", "lock/.dns", "lock/.dns-start"]
            .iter()
            .map(|path| site.host.state_dir().join(path))
            .filter(|path| path.exists())
            .collect();
        if !left.is_empty() {
            return Err(Failure::new(format!(
                "left (GC first: {gc_first}): {left:?}"
            )));
        }
    }
    // And the next one has names as ever.
    let (web, attachment) = site.join_named("web", &network)?;
    let own = format!("NOERROR {}", attachment.address(false).unwrap_or_default());
    same("names afterwards", &web.dig(&["web.dns.pontoon"])?, &own)?;
    site.runtime().del(&network, &attachment)?;
    drop(web);
    site.nothing_left(&before, &[&network], "a kill of all, then DEL")
}

#[test]
fn a_signal_to_any_process_ends_all_in_order() -> Outcome {
    let site = Site::new(Backend::Nftables)?;
    let network = site.named_network("term", 74, json!({}));
    let (web, attachment) = site.join_named("web", &network)?;
    for (index, wish) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM]
        .iter()
        .enumerate()
    {
        let all = processes(&site)?;
        signal(all[index], *wish)?;
        eventually("the end of all", || {
            Ok((!all.iter().any(|pid| runs(*pid))).then_some(()))
        })?;
        for path in ["dns/control", "lock/.dns"] {
            if site.host.state_dir().join(path).exists() {
                return Err(Failure::new(format!(
                    "{path} is left after signal to {index}"
                )));
            }
        }
        site.pontoon_ends(&["dns", "start"], 0)?;
        let own = format!("NOERROR {}", attachment.address(false).unwrap_or_default());
        same("names afterwards", &web.dig(&["web.dns.pontoon"])?, &own)?;
    }
    Ok(site.runtime().del(&network, &attachment)?)
}
