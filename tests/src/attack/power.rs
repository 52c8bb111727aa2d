//! The power goes between any two changes of the directory of leases: what is there then is used by
//! the next boot. At most the last operation is lost, no address is given twice, and nothing is stuck.
//!
//! ADD and DEL of `host-local` are recorded under the tracer, and cut off at each call that changes a
//! file. The directory goes to another host then, as it stands, and with the file that the call is about
//! cut in half, as a file system leaves what was not yet written. There it is used twice: in the same
//! boot, where those who hold addresses still do, and after another one, where none does.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pontoon_lab::{Attachment, Backend, Failure, Network, Outcome, Scratch, Site};
use serde_json::{Value, json};

use super::report::Summary;
use super::tracer::{Act, Tracer};
use super::work::{Random, Settings};

/// Calls that change files or directories.
const CHANGES: [&str; 19] = [
    "open",
    "openat",
    "write",
    "pwrite64",
    "writev",
    "link",
    "linkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "ftruncate",
    "fallocate",
    "symlink",
    "symlinkat",
    "rmdir",
    "utimensat",
];
/// Addresses of the pool: a /28 without its ends and the gateway.
const POOL: usize = 13;
/// Who holds an address before.
const HOLDERS: [&str; 3] = ["one", "two", "three"];

/// Runs the attack.
pub(crate) fn run(settings: &Settings) -> Outcome<Summary> {
    let mut wrong = Vec::new();
    let mut tried = 0;
    println!("\n| power | cuts | violations |\n| --- | ---: | ---: |");
    for (verb, container) in [("ADD", "four"), ("DEL", "two")] {
        let points = cut(verb, container, None)?.1;
        let mut cuts: Vec<(usize, bool)> = (1..=points.len())
            .filter(|number| CHANGES.contains(&points[number - 1].as_str()))
            .flat_map(|number| [(number, false), (number, true)])
            .collect();
        if !settings.whole {
            Random::new(settings.seed).shuffle(&mut cuts);
        }
        let (mut done, before) = (0, wrong.len());
        for (number, torn) in cuts {
            if settings.is_over() {
                break;
            }
            done += 1;
            for boot in [false, true] {
                let (store, points) = cut(verb, container, Some((number, torn)))?;
                let place = format!(
                    "{verb} cut at call {number} ({}), {}, {}",
                    points.first().map_or("none", String::as_str),
                    if torn { "torn" } else { "as it stood" },
                    if boot { "next boot" } else { "same boot" }
                );
                for text in replay(store.path(), boot)? {
                    println!("{place}: {text}");
                    wrong.push(format!("{place}: {text}"));
                }
            }
        }
        println!("| {verb} | {done} | {} |", wrong.len() - before);
        tried += done;
    }
    if tried == 0 {
        wrong.push("nothing was tried".to_owned());
    }
    let tried = format!("{tried} cuts, each in the same boot and the next one");
    Ok(Summary::new("power", settings, tried, wrong))
}

fn network(leases: &Path) -> Network {
    Network::from_list(json!({
        "cniVersion": "1.1.0", "name": "power",
        "plugins": [{ "type": "host-local", "ipam": {
            "type": "host-local", "dataDir": leases, "ranges": [[{ "subnet": "10.72.0.0/28" }]],
        }}],
    }))
}

/// A verb of `host-local` for a container: its result, or the plugin's words.
fn verb(site: &Site, network: &Network, verb: &str, id: &str) -> Outcome<Result<Value, String>> {
    let runtime = site.runtime();
    let attachment = Attachment::by_path(id, format!("/run/netns/{id}"));
    let stdin = network.stdin(&network.plugins()[0], &attachment.capabilities, None);
    let call = runtime.attachment_call(verb, &stdin, &attachment);
    let finished = runtime.call("host-local", &call)?;
    Ok(match finished.verdict(verb) {
        Ok(()) => Ok(serde_json::from_str(&finished.stdout).unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    })
}

/// A directory of leases in which the verb was cut off, and the names of the calls: all of them, or the
/// one at which it was cut.
fn cut(what: &str, container: &str, at: Option<(usize, bool)>) -> Outcome<(Scratch, Vec<String>)> {
    let site = Site::new(Backend::Nftables)?;
    let store = Scratch::new("power")?;
    let traces = Scratch::new("traces")?;
    let network = network(store.path());
    for holder in HOLDERS {
        verb(&site, &network, "ADD", holder)?.map_err(Failure::new)?;
    }
    let runtime = site.runtime();
    let attachment = Attachment::by_path(container, format!("/run/netns/{container}"));
    let stdin = network.stdin(&network.plugins()[0], &attachment.capabilities, None);
    let call = runtime.attachment_call(what, &stdin, &attachment);
    let order = at.map(|(number, _)| (number, Act::Kill));
    let traced = site
        .host
        .run(|| Tracer::new(&runtime, traces.path()).run("host-local", &call, order, None))??;
    if let (Some((_, true)), Some(point)) = (at, traced.points.first())
        && point.file.starts_with(&store.path().display().to_string())
        && let Ok(found) = fs::metadata(&point.file)
        && found.is_file()
    {
        fs::File::options()
            .write(true)
            .open(&point.file)
            .and_then(|file| file.set_len(found.len() / 2))
            .map_err(Failure::act(format!("cut {}", point.file)))?;
    }
    let names = traced.points.into_iter().map(|point| point.name).collect();
    Ok((store, names))
}

/// What is wrong when another host goes on with the directory.
fn replay(store: &Path, boot: bool) -> Outcome<Vec<String>> {
    let site = Site::new(Backend::Nftables)?;
    let network = network(store);
    let dir = store.join("power");
    if boot {
        // The note says in which boot the leases were made.
        let note = dir.join("pontoon.network");
        let text = fs::read_to_string(&note).map_err(Failure::act("read the note"))?;
        let other = text.lines().map(|line| match line.split_once(' ') {
            Some(("boot", _)) => "boot 00000000-0000-0000-0000-000000000000\n".to_owned(),
            _ => format!("{line}\n"),
        });
        fs::write(&note, other.collect::<String>()).map_err(Failure::act("write the note"))?;
        // Files of the boot before are older than this one.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            fs::File::options()
                .write(true)
                .open(entry.path())
                .and_then(|file| file.set_modified(long_ago))
                .map_err(Failure::act(format!("age {}", entry.path().display())))?;
        }
    }
    let mut wrong = Vec::new();
    let held = leases(&dir);
    // All but the one that the cut verb was about.
    let kept = ["one", "three"];
    if !boot {
        for id in kept {
            let found = held.iter().any(|(_, owner)| owner.starts_with(id));
            if !found {
                wrong.push(format!("the address of {id} is lost"));
            }
        }
    }
    let mut given = BTreeSet::new();
    for number in 0..POOL {
        match verb(&site, &network, "ADD", &format!("new{number}"))? {
            Ok(result) => {
                let address = result["ips"][0]["address"].to_string();
                let bare = address
                    .trim_matches('"')
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                let taken = held.iter().any(|(held, owner)| {
                    !boot && *held == bare && kept.iter().any(|id| owner.starts_with(id))
                });
                if taken || !given.insert(bare.clone()) {
                    wrong.push(format!("{bare} is given twice"));
                }
            }
            // Those who live, and the one that was cut off, hold three or four.
            Err(_) if !boot && number >= POOL - HOLDERS.len() - 1 => break,
            Err(error) => {
                wrong.push(format!("ADD {number}: {error}"));
                break;
            }
        }
    }
    let all = (0..POOL).map(|number| format!("new{number}"));
    let old = ["one", "two", "three", "four"].map(str::to_owned);
    for id in all.chain(old) {
        if let Err(error) = verb(&site, &network, "DEL", &id)? {
            wrong.push(format!("DEL: {error}"));
        }
    }
    for (address, owner) in leases(&dir) {
        wrong.push(format!("{address} of {owner:?} is left"));
    }
    Ok(wrong)
}

/// The files that are named by an address, with their text.
fn leases(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            name.parse::<IpAddr>().ok()?;
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            Some((name, text))
        })
        .collect()
}
