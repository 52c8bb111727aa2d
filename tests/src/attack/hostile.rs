//! Configurations, previous results and variables that are mutated at random: good ones with values
//! that do harm, keys that are more or fewer, and bytes that are others. No plugin crashes, hangs or
//! repeats what it was given at length; what is refused leaves nothing, and what is taken goes by its
//! own DEL. GC, CHECK and STATUS get the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_lab::{Call, Failure, Finished, Outcome};
use serde_json::{Map, Value, json};

use super::kill::{Attack, Ready, Work};
use super::report::{Report, Summary};
use super::scene::{Kind, kinds};
use super::work::{Random, Settings, in_parallel};

/// Cases of a plugin before a slice goes on to the next one, and in a whole run.
const SLICE: usize = 25;
const WHOLE: usize = 1500;
/// No verb takes longer, on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(20);
/// Errors have no more bytes, whatever they are about.
const LONGEST: usize = 8192;

/// Keys whose value says where a plugin writes: those would be files of this machine.
const PLACES: [&str; 2] = ["dataDir", "log"];

/// Runs the attack.
pub(crate) fn run(settings: &Settings) -> Outcome<Summary> {
    let mut jobs = kinds();
    jobs.retain(|kind| kind.is_warm() && settings.wants(&kind.to_string()));
    Random::new(settings.seed).shuffle(&mut jobs);
    let keys = known_keys()?;
    let (tried, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let findings = Mutex::new(Vec::new());
    in_parallel(settings, jobs.len(), |at| {
        let mut assault = Assault {
            kind: jobs[at],
            settings,
            keys: &keys,
            random: Random::new(settings.seed.wrapping_add(at as u64)),
            tried: &tried,
            taken: &taken,
            findings: &findings,
        };
        if let Err(failure) = assault.run() {
            assault.found(&format!("{}: {failure}", jobs[at]));
        }
    });
    let (tried, taken) = (tried.into_inner(), taken.into_inner());
    let mut findings = findings.into_inner().unwrap_or_default();
    if tried == 0 {
        findings.push("nothing was tried".to_owned());
    }
    let tried = format!("{tried} mutated calls, {taken} of them accepted");
    Ok(Summary::new("hostile", settings, tried, findings))
}

/// The keys that the plugins know, by the schemas of their configurations.
fn known_keys() -> Outcome<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/schemas");
    let mut keys = vec![
        "prevResult".to_owned(),
        "runtimeConfig".to_owned(),
        "cniVersion".to_owned(),
        "cni.dev/valid-attachments".to_owned(),
    ];
    for entry in fs::read_dir(&folder).map_err(Failure::act("list the schemas"))? {
        let path = entry.map_err(Failure::act("list the schemas"))?.path();
        let bytes = fs::read(&path).map_err(Failure::act("read a schema"))?;
        let schema: Value =
            serde_json::from_slice(&bytes).map_err(Failure::act("read a schema"))?;
        let own = schema["properties"].as_object().into_iter().flatten();
        keys.extend(own.map(|(key, _)| key.clone()));
    }
    keys.sort();
    keys.dedup();
    keys.retain(|key| !PLACES.contains(&key.as_str()));
    Ok(keys)
}

struct Assault<'a> {
    kind: Kind,
    settings: &'a Settings,
    keys: &'a [String],
    random: Random,
    tried: &'a AtomicUsize,
    taken: &'a AtomicUsize,
    findings: &'a Mutex<Vec<String>>,
}

impl Assault<'_> {
    fn found(&self, text: &str) {
        println!("{text}");
        if let Ok(mut findings) = self.findings.lock() {
            findings.push(text.to_owned());
        }
    }

    fn run(&mut self) -> Outcome {
        let report = Report::default();
        let work = Work {
            kind: self.kind,
            attack: Attack::Fail,
            settings: self.settings,
            report: &report,
        };
        let count = match self.settings.whole {
            true => WHOLE,
            false => self.settings.slice.unwrap_or(SLICE),
        };
        let mut ready = work.ready()?;
        for _ in 0..count {
            if self.settings.is_over() {
                break;
            }
            self.tried.fetch_add(1, Ordering::Relaxed);
            if !self.one(&work, &mut ready)? {
                ready = work.ready()?;
            }
        }
        Ok(())
    }

    /// One case. False when the scene cannot be used any more.
    fn one(&mut self, work: &Work<'_>, ready: &mut Ready) -> Outcome<bool> {
        ready.scene.precede()?;
        let (program, good) = ready.scene.attacked_call("ADD")?;
        let Some((hostile, what)) = self.spoiled(&good) else {
            ready.scene.leave()?;
            return Ok(true);
        };
        let shown = |verb: &str, finished: &Finished| {
            let part = |text: &str| text.chars().take(1200).collect::<String>();
            format!(
                "{} {verb}, {what}: exit {:?}\n  stdout {}\n  stderr {}\n  variables {:?}\n  stdin {}",
                self.kind,
                finished.status,
                part(&finished.stdout),
                part(&finished.stderr),
                hostile.environment,
                part(&hostile.stdin),
            )
        };
        for verb in ["STATUS", "CHECK"] {
            let finished = self.send(ready, &program, hostile.clone().set("CNI_COMMAND", verb))?;
            if let Some(fault) = fault(&finished) {
                self.found(&format!("{fault}: {}", shown(verb, &finished)));
            }
        }
        let added = self.send(ready, &program, hostile.clone())?;
        if let Some(fault) = fault(&added) {
            self.found(&format!("{fault}: {}", shown("ADD", &added)));
        }
        let accepted = added.status == Some(0);
        let mut del = hostile.clone().set("CNI_COMMAND", "DEL");
        if accepted {
            self.taken.fetch_add(1, Ordering::Relaxed);
            del.stdin = with_result(&del.stdin, &added.stdout);
        }
        let deleted = self.send(ready, &program, del)?;
        let refused = accepted && deleted.status != Some(0);
        if let Some(fault) = fault(&deleted).or(refused.then_some("DEL of what was taken fails")) {
            self.found(&format!("{fault}: {}", shown("DEL", &deleted)));
        }
        // The runtime calls DEL of a chain in which ADD has failed, by the configuration as it is.
        if let Err(error) = ready.scene.leave() {
            self.found(&format!(
                "DEL of the good configuration: {error}: {}",
                shown("ADD", &added)
            ));
            return Ok(false);
        }
        let changes = work.changes(ready, &ready.gone)?;
        let other: Vec<&str> = changes.lines().filter_map(changed_file).collect();
        // What other settings mean for a bridge, its rules and what is noted of them stays until its network
        // is gone. Of another network's leases the reference too keeps the folder, and in it all but leases.
        let counts = |line: &&str| {
            let heading = |name: &str| line.contains(&format!("+ {name}:"));
            let is_other = new_file(line).is_some_and(|path| other.contains(&path));
            !accepted
                || heading("state") && !is_other
                || heading("leases") && new_file(line).is_none_or(is_lease)
                || heading("processes")
                || heading("mounts")
        };
        let left: Vec<&str> = changes.lines().filter(counts).collect();
        if !left.is_empty() {
            let left = left.join("\n");
            let how = if accepted { "taken" } else { "refused" };
            self.found(&format!(
                "{how}, and left\n{left}\n{}",
                shown("ADD", &added)
            ));
        }
        Ok(changes.is_empty())
    }

    /// The call with a few things spoiled, and what they are.
    fn spoiled(&mut self, good: &Call) -> Option<(Call, String)> {
        let mut call = good.clone();
        let mut config: Value = serde_json::from_str(&good.stdin).ok()?;
        let mut what = Vec::new();
        for _ in 0..=self.random.below(3) {
            match self.random.below(12) {
                0 => {
                    let names = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS"];
                    let name = names[self.random.below(names.len())];
                    let text = match value(&mut self.random) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    // No variable has a zero byte, and none is longer than the kernel takes.
                    let text: String = text.chars().filter(|c| *c != '\0').take(9000).collect();
                    call = call.set(name, &text);
                    what.push(name.to_owned());
                }
                1 if config.is_object() => {
                    let key = &self.keys[self.random.below(self.keys.len())];
                    config[key] = value(&mut self.random);
                    what.push(format!("{key} added"));
                }
                _ => what.push(self.spoil(&mut config)?),
            }
        }
        call.stdin = config.to_string();
        if self.random.below(8) == 0 {
            let before = places(&config);
            call.stdin = self.bytes(&call.stdin);
            what.push("other bytes".to_owned());
            // Another directory of this machine is no place to write to.
            let parsed = serde_json::from_str(&call.stdin);
            if parsed.is_ok_and(|config: Value| places(&config) != before) {
                return None;
            }
        }
        Some((call, what.join(", ")))
    }

    /// Spoils one value of a configuration; where it is.
    fn spoil(&mut self, config: &mut Value) -> Option<String> {
        let mut paths = Vec::new();
        list(config, String::new(), &mut paths);
        let path = paths.get(self.random.below(paths.len().max(1)))?.clone();
        let place = config.pointer_mut(&path)?;
        match (self.random.below(4), &mut *place) {
            (0, Value::Object(map)) if !map.is_empty() => {
                let removable = map.keys().filter(|key| !PLACES.contains(&key.as_str()));
                let key = removable.clone().nth(self.random.below(map.len()))?.clone();
                map.remove(&key);
                return Some(format!("{path}/{key} removed"));
            }
            (1, Value::Array(entries)) if !entries.is_empty() => {
                let one = entries[self.random.below(entries.len())].clone();
                let count = [1, 3, 300][self.random.below(3)];
                entries.extend(vec![one; count]);
                return Some(format!("{path} repeated"));
            }
            _ => *place = value(&mut self.random),
        }
        Some(path)
    }

    fn bytes(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.random.below(4) {
            let at = self.random.below(bytes.len().max(1));
            match self.random.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.random.next() as u8),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.random.below(8),
                _ => {
                    let end = (at + self.random.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        // What is no UTF-8 goes on as it is printed: plugins read it from a file.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes a call, and ends it when it takes too long.
    fn send(&self, ready: &Ready, program: &str, call: Call) -> Outcome<Finished> {
        let site = &ready.scene.site;
        let dir = ready.scene.tracer_dir();
        let file = |name: &str| dir.join(name);
        fs::write(file("stdin"), &call.stdin).map_err(Failure::act("write standard input"))?;
        let runtime = site.runtime();
        let run = || -> std::io::Result<(Option<i32>, bool)> {
            let mut child = Command::new(runtime.programs().program(program))
                .env_clear()
                .env("PATH", runtime.path())
                .envs(call.environment.iter().map(|(name, value)| (name, value)))
                .stdin(File::open(file("stdin"))?)
                .stdout(File::create(file("stdout"))?)
                .stderr(Stdio::from(File::create(file("stderr"))?))
                .spawn()?;
            let started = Instant::now();
            loop {
                if let Some(status) = child.try_wait()? {
                    return Ok((status.code(), false));
                }
                if started.elapsed() > LIMIT {
                    child.kill()?;
                    child.wait()?;
                    return Ok((None, true));
                }
                thread::sleep(Duration::from_millis(1));
            }
        };
        let (status, hung) = site.host.run(run)?.map_err(Failure::act("run a plugin"))?;
        let text = |name: &str| {
            fs::read(file(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut stderr = text("stderr").map_err(Failure::act("read standard error"))?;
        if hung {
            stderr.push_str("it was ended, because it did not come to an end");
        }
        Ok(Finished {
            status,
            stdout: text("stdout").map_err(Failure::act("read standard output"))?,
            stderr,
        })
    }
}

/// The path of a file that was there before and is otherwise now, in a line of changes.
fn changed_file(line: &str) -> Option<&str> {
    line.trim_start()
        .strip_prefix("- state: ")?
        .split(' ')
        .next()
}

/// The path of a file that is there now, in a line of changes.
fn new_file(line: &str) -> Option<&str> {
    let (_, rest) = line.trim_start().strip_prefix("+ ")?.split_once(": ")?;
    rest.split(' ').next()
}

/// Whether a path in the directory of leases is that of an address.
fn is_lease(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.parse::<IpAddr>().is_ok()
}

/// What no input may bring about.
fn fault(finished: &Finished) -> Option<&'static str> {
    let said = &finished.stderr;
    if said.contains("panicked at") || said.contains("overflow") {
        return Some("a panic");
    }
    match finished.status {
        Some(0) => None,
        Some(1) => match finished.verdict("") {
            Err(error) if error.code == 0 => Some("no error in JSON"),
            _ if finished.stdout.len() + said.len() > LONGEST => Some("an error without end"),
            _ => None,
        },
        Some(_) => Some("another exit than 0 and 1"),
        None => Some("an end by a signal"),
    }
}

/// The paths of all values but those that say where to write, as JSON pointers.
fn list(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if !PLACES.contains(&key.as_str()) {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    list(value, format!("{path}/{key}"), paths);
                }
            }
        }
        Value::Array(entries) => {
            for (at, value) in entries.iter().enumerate() {
                list(value, format!("{path}/{at}"), paths);
            }
        }
        _ => {}
    }
    paths.push(path);
}

/// What a configuration says of places to write to.
fn places(value: &Value) -> BTreeMap<String, String> {
    fn gather(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    if PLACES.contains(&key.as_str()) {
                        found.insert(format!("{path}/{key}"), value.to_string());
                    }
                    gather(value, &format!("{path}/{key}"), found);
                }
            }
            Value::Array(entries) => {
                for (at, value) in entries.iter().enumerate() {
                    gather(value, &format!("{path}/{at}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    gather(value, "", &mut found);
    found
}

/// The configuration with the result of its ADD, where both can be read.
fn with_result(stdin: &str, result: &str) -> String {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    match (parse(stdin), parse(result)) {
        (Some(mut config), Some(result)) if config.is_object() => {
            config["prevResult"] = result;
            config.to_string()
        }
        _ => stdin.to_owned(),
    }
}

/// A value that does harm somewhere.
fn value(random: &mut Random) -> Value {
    let texts = [
        "",
        " ",
        "a b",
        "..",
        "../../etc/passwd",
        "/",
        "/dev/zero",
        "/etc",
        "a\nnameserver 6.6.6.6",
        "a\r\nb",
        "a\0b",
        "\u{feff}a",
        "a\"b'c",
        "$(reboot)",
        "`reboot`",
        "-j",
        "--help",
        "COMMIT",
        "%s%n",
        "lo",
        "eth0",
        "attacked0",
        "localhost",
        "gateway",
        "0.0.0.0",
        "0.0.0.0/0",
        "::/0",
        "127.0.0.1",
        "10.91.0.1",
        "10.91.0.0/24",
        "10.91.0.2/33",
        "fd00:91::1/64",
        "::ffff:10.91.0.5",
        "255.255.255.255",
        "224.0.0.1/24",
        "fe80::1%eth0",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "02:42:0a:00:00:01",
        "net.ipv4.ip_forward",
        "net/../kernel/hostname",
        "1.1.0",
        "9.9.9",
        "docker",
        "nftables",
        "iptables",
        "true",
        "null",
        "\u{1f600}",
        "\u{202e}abc",
        "tcp",
        "sctp",
    ];
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(15),
        json!(80),
        json!(8081),
        json!(65535),
        json!(65536),
        json!(4_294_967_296_u64),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(1e300),
    ];
    match random.below(10) {
        0..5 => json!(texts[random.below(texts.len())]),
        5 => json!("x".repeat([16, 64, 256, 5000, 70_000][random.below(5)])),
        6 => numbers[random.below(numbers.len())].clone(),
        7 => {
            [json!(null), json!(true), json!(false), json!([]), json!({})][random.below(5)].clone()
        }
        8 => json!(vec![
            texts[random.below(texts.len())];
            [1, 2, 500][random.below(3)]
        ]),
        _ => {
            let mut deep = json!(texts[random.below(texts.len())]);
            for _ in 0..[1, 3, 120][random.below(3)] {
                deep = match random.below(2) {
                    0 => json!([deep]),
                    _ => Value::Object(Map::from_iter([("type".to_owned(), deep)])),
                };
            }
            deep
        }
    }
}
