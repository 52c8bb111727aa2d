//! The resolver beside others: unbound and dnsmasq, each with the same ten thousand names on the same
//! host, asked by dnsperf from a container; and aardvark-dns, for its memory.
//!
//! All servers run at the same time and are asked one after the other. Each round begins with another
//! server and every second one goes backwards, so that a change in the load of the machine meets all of
//! them. A ratio is taken within a round; the figure of a row is the median over the rounds.

mod scene;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use pontoon_lab::{Failure, OUTSIDE_V4, Outcome, Programs};

use super::table::{Bar, Row, Table};
use scene::{Scene, Server, address};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// Names of the large network, and of the small one.
const NAMES: usize = 10_000;
const FEW: usize = 2;
/// How often every server is asked everything.
const ROUNDS: usize = 7;
/// How long dnsperf asks, in seconds.
const SECONDS: u32 = 1;
/// Names of the outside that a server is asked for once, in each round.
const UNSEEN: usize = 2000;
/// The same for a cache that must not become full: all rounds together have fewer than it has places
/// (4,096).
const FEW_UNSEEN: usize = 500;
/// Questions of each kind whose answers are timed, in each round.
const TIMED: usize = 100;
/// Largest release binary, in kB: with DNS over TLS, as it is shipped, and without.
const LARGEST: [(&str, f64); 2] = [("with DNS over TLS", 3200.0), ("without TLS", 1600.0)];

/// What is asked, and how.
#[derive(Clone, Copy)]
struct Load {
    /// The row that it is for.
    what: &'static str,
    /// Further arguments of dnsperf.
    arguments: &'static [&'static str],
    /// The answer that dnsperf must see, and no other.
    code: &'static str,
}

const fn load(what: &'static str, arguments: &'static [&'static str], code: &'static str) -> Load {
    Load {
        what,
        arguments,
        code,
    }
}

const UDP: &[&str] = &["-c", "8", "-q", "200"];
const LOCAL: Load = load("local query, prepared", UDP, "NOERROR");
const NODATA: Load = load("local query, NODATA", UDP, "NOERROR");
const NXDOMAIN: Load = load("local query, NXDOMAIN", UDP, "NXDOMAIN");
const PTR: Load = load("local query, PTR", UDP, "NOERROR");
const ODD: Load = load(
    "local query, an unknown EDNS option",
    &["-c", "8", "-q", "200", "-E", "65001:00"],
    "NOERROR",
);
const TCP: Load = load(
    "local query over TCP",
    &["-m", "tcp", "-c", "8", "-q", "64"],
    "NOERROR",
);
const CACHED: Load = load("cached query", UDP, "NOERROR");
const FORWARDED: Load = load(
    "query of a name never seen",
    &["-c", "8", "-q", "50", "-n", "1"],
    "NOERROR",
);

/// What one row asks of which servers.
const LOADS: [(Load, &[&str]); 7] = [
    (LOCAL, &["pontoon-dns", "unbound", "dnsmasq"]),
    (NODATA, &["pontoon-dns", "unbound"]),
    (NXDOMAIN, &["pontoon-dns", "unbound"]),
    (PTR, &["pontoon-dns", "unbound"]),
    (ODD, &["pontoon-dns", "unbound"]),
    (CACHED, &["pontoon-dns", "unbound", "dnsmasq"]),
    (TCP, &["pontoon-dns", "unbound"]),
];

/// The bars: row, other server, and the largest ratio.
const BARS: [(&str, &str, f64); 10] = [
    (LOCAL.what, "unbound", 0.95),
    (LOCAL.what, "dnsmasq", 0.80),
    (NODATA.what, "unbound", 1.4),
    (NXDOMAIN.what, "unbound", 1.4),
    (PTR.what, "unbound", 1.4),
    (ODD.what, "unbound", 1.4),
    (CACHED.what, "unbound", 1.2),
    (CACHED.what, "dnsmasq", 1.0),
    (TCP.what, "unbound", 0.5),
    (FORWARDED.what, "unbound", 0.8),
];
/// What is flat may differ by this much.
const FLAT: f64 = 1.2;

/// The cost of a query by row and server, one entry for each round, in microseconds of CPU.
#[derive(Default)]
struct Costs(HashMap<(&'static str, &'static str), Vec<f64>>);

impl Costs {
    fn add(&mut self, what: &'static str, server: &'static str, cost: f64) {
        self.0.entry((what, server)).or_default().push(cost);
    }

    fn of(&self, what: &'static str, server: &'static str) -> &[f64] {
        self.0.get(&(what, server)).map_or(&[], Vec::as_slice)
    }

    /// Medians of ours and of the other's, and of the ratios within a round.
    fn compare(&self, ours: &[f64], theirs: &[f64]) -> (f64, f64, f64) {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        (
            middle(ours),
            middle(theirs),
            middle(&ratios.collect::<Vec<_>>()),
        )
    }
}

fn middle(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn measure(table: &mut Table, programs: &Programs) -> Outcome {
    let (scene, small) = (Scene::new(programs)?, Scene::new(programs)?);
    let ours = scene.ours(NAMES)?;
    let memory = resident(&ours.pids)?;
    let few = small.ours(FEW)?;
    let servers = [ours, scene.unbound()?, scene.dnsmasq()?, scene.aardvark()?];
    let theirs = resident(&servers[3].pids)?;
    let mut costs = Costs::default();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        println!("names: round {} of {ROUNDS} ...", round + 1);
        for (load, asked) in LOADS {
            let mut asked: Vec<&Server> = servers
                .iter()
                .filter(|server| asked.contains(&server.name))
                .collect();
            turn(&mut asked, round);
            for server in asked {
                let cost = scene.cost(server, load, &questions(load, server))?;
                costs.add(load.what, server.name, cost);
            }
        }
        let mut asked = [Some(&servers[0]), Some(&servers[1]), None];
        turn(&mut asked, round);
        for server in asked {
            // `None` is the small network's, whose cache has room.
            let (place, server, name, count) = match server {
                Some(server) => (&scene, server, server.name, UNSEEN),
                None => (&small, &few, "room", FEW_UNSEEN),
            };
            let mut unseen = String::new();
            for number in 0..count {
                let _ = writeln!(unseen, "{name}{round}-{number}.example A");
            }
            let cost = place.cost(server, FORWARDED, &unseen)?;
            costs.add(FORWARDED.what, name, cost);
        }
        let one = small.cost(&few, LOCAL, "web.dns.pontoon A\n")?;
        costs.add(LOCAL.what, "one", one);
        times.push(scene.forwarding(&servers[0], round)?);
    }
    ratios(table, &costs);
    flatness(table, &costs);
    table.push(Row {
        what: "names: memory with 10,000 names, beside aardvark-dns".to_owned(),
        reference: Some(theirs),
        ours: memory,
        unit: "kB",
        bar: Bar::at_most(1.0, memory / theirs, "of aardvark-dns's"),
    });
    let more: Vec<f64> = times.iter().map(|(by, direct)| by - direct).collect();
    let more = middle(&more);
    table.push(Row {
        what: "names: time of a forwarded query, and of the same asked directly".to_owned(),
        reference: Some(middle(&times.iter().map(|time| time.1).collect::<Vec<_>>())),
        ours: middle(&times.iter().map(|time| time.0).collect::<Vec<_>>()),
        unit: "µs",
        bar: Bar::Asked(format!("{more:.0} µs more, at most 100"), more <= 100.0),
    });
    let binary = programs.dir().join("pontoon-dns");
    let size = fs::metadata(&binary)
        .map_err(Failure::act(binary.display()))?
        .len() as f64
        / 1000.0;
    let version = Command::new(&binary).arg("--version").output();
    let version = version.map_err(Failure::act(binary.display()))?;
    let version = [version.stdout, version.stderr].concat();
    let with_tls = String::from_utf8_lossy(&version).contains(LARGEST[0].0);
    let (what, largest) = LARGEST[usize::from(!with_tls)];
    table.push(Row {
        what: format!("names: the release binary {what}"),
        reference: None,
        ours: size,
        unit: "kB",
        bar: Bar::Asked(format!("at most {largest:.0} kB"), size <= largest),
    });
    Ok(())
}

/// Another one begins in every round, and every second round goes backwards.
fn turn<T>(asked: &mut [T], round: usize) {
    asked.rotate_left(round / 2 % asked.len().max(1));
    if round % 2 == 1 {
        asked.reverse();
    }
}

/// A row for each server that another row's is compared with.
fn ratios(table: &mut Table, costs: &Costs) {
    let rows = LOADS.iter().map(|(load, servers)| (*load, *servers));
    for (load, servers) in rows.chain([(FORWARDED, &["pontoon-dns", "unbound"][..])]) {
        for other in &servers[1..] {
            let (ours, theirs, ratio) = costs.compare(
                costs.of(load.what, "pontoon-dns"),
                costs.of(load.what, other),
            );
            let bar = BARS
                .iter()
                .find(|(what, name, _)| (what, name) == (&load.what, other));
            table.push(Row {
                what: format!("names: CPU per {}, beside {other}", load.what),
                reference: Some(theirs),
                ours,
                unit: "µs",
                bar: match bar {
                    Some((.., limit)) => Bar::at_most(*limit, ratio, &format!("of {other}'s")),
                    None => Bar::Note(format!("{ratio:.2} of {other}'s")),
                },
            });
        }
    }
}

/// The same question where there is little and where there is much.
fn flatness(table: &mut Table, costs: &Costs) {
    for (what, less, words, to) in [
        (
            LOCAL.what,
            "one",
            "one name and 10,000",
            "of that with one name",
        ),
        (
            FORWARDED.what,
            "room",
            "a cache with room and a full one",
            "of that with room",
        ),
    ] {
        let (ours, theirs, ratio) =
            costs.compare(costs.of(what, "pontoon-dns"), costs.of(what, less));
        table.push(Row {
            what: format!("names: CPU per {what}, {words}"),
            reference: Some(theirs),
            ours,
            unit: "µs",
            bar: Bar::at_most(FLAT, ratio, to),
        });
    }
}

/// Lines for dnsperf.
fn questions(load: Load, server: &Server) -> String {
    let mut text = String::new();
    if load.what == CACHED.what {
        return "cached.example A\n".to_owned();
    }
    for number in 2..NAMES {
        let domain = server.domain;
        let _ = if load.what == NODATA.what {
            writeln!(text, "m{number}{domain} MX")
        } else if load.what == NXDOMAIN.what {
            writeln!(text, "x{number}{domain} A")
        } else if load.what == PTR.what {
            let [a, b, c, d] = address(number).octets();
            writeln!(text, "{d}.{c}.{b}.{a}.in-addr.arpa PTR")
        } else {
            writeln!(text, "m{number}{domain} A")
        };
    }
    text
}

impl Scene {
    /// CPU time of the server for one query, in microseconds.
    fn cost(&self, server: &Server, load: Load, queries: &str) -> Outcome<f64> {
        let file = self.files.path().join("queries");
        fs::write(&file, queries).map_err(Failure::act("write queries"))?;
        let mut command = self.program("usr/bin/dnsperf");
        command
            .args(["-s", &GATEWAY.to_string(), "-p", &server.port.to_string()])
            .args(load.arguments)
            .arg("-d")
            .arg(&file);
        if !load.arguments.contains(&"-n") {
            command.args(["-l", &SECONDS.to_string()]);
        }
        let before = cpu(&server.pids)?;
        let output = self.client.run(|| command.output())?;
        let output = output.map_err(Failure::act("run dnsperf"))?;
        let spent = cpu(&server.pids)? - before;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = |key: &str| -> Option<Vec<String>> {
            let line = text.lines().find(|line| line.trim().starts_with(key))?;
            Some(line.split_whitespace().map(str::to_owned).collect())
        };
        let count = words("Queries completed:")
            .and_then(|words| words.get(2)?.parse().ok())
            .unwrap_or(0.0);
        // "Response codes:  NOERROR 1234 (100.00%)", and nothing behind it.
        let codes = words("Response codes:").unwrap_or_default();
        let good = codes.get(2).is_some_and(|code| code == load.code) && codes.len() == 5;
        if count > 0.0 && good {
            return Ok(spent * 1e6 / count);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!(
            "{}, {}: dnsperf says {text}{complaint}",
            server.name, load.what
        )))
    }

    /// What a question takes that is forwarded, and one that is asked directly, in microseconds.
    fn forwarding(&self, server: &Server, round: usize) -> Outcome<(f64, f64)> {
        let times = self.client.run(|| {
            let mut both = [Vec::new(), Vec::new()];
            for number in 0..TIMED {
                for (times, at, name) in [
                    (0, SocketAddr::from((GATEWAY, server.port)), "by"),
                    (1, SocketAddr::new(OUTSIDE_V4, 53), "direct"),
                ] {
                    let question = query(&format!("{name}{round}-{number}.example"));
                    let started = Instant::now();
                    if ask(at, &question).is_ok() {
                        both[times].push(started.elapsed());
                    }
                }
            }
            both
        })?;
        if times.iter().any(|times| times.len() < TIMED) {
            return Err(Failure::new("a forwarded question has no answer"));
        }
        let [mut by, mut direct] = times;
        Ok((
            super::median(&mut by) * 1000.0,
            super::median(&mut direct) * 1000.0,
        ))
    }
}

/// A question for A.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x50, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// Asks, and waits for an answer without an error.
fn ask(at: SocketAddr, question: &[u8]) -> std::io::Result<()> {
    let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    socket.connect(at)?;
    socket.send(question)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    match reply.get(..length) {
        Some(reply) if length > 12 && reply[3] & 15 == 0 && reply[..2] == question[..2] => Ok(()),
        _ => Err(std::io::Error::other("no good answer")),
    }
}

/// CPU time that all threads of these processes have spent, in seconds: /proc counts it in nanoseconds.
fn cpu(pids: &[u32]) -> Outcome<f64> {
    let mut nanoseconds = 0.0;
    for pid in pids {
        let folder = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&folder).map_err(Failure::act(&folder))?;
        for thread in threads.flatten() {
            let path = thread.path().join("schedstat");
            let text = fs::read_to_string(&path).map_err(Failure::act(path.display()))?;
            let first = text.split_whitespace().next();
            nanoseconds += first
                .and_then(|word| word.parse::<f64>().ok())
                .ok_or_else(|| Failure::new(format!("{}: {text:?}", path.display())))?;
        }
    }
    Ok(nanoseconds / 1e9)
}

/// Memory of these processes, in kB. A page that several processes have counts once (`Pss` of proc(5)).
fn resident(pids: &[u32]) -> Outcome<f64> {
    let mut all = 0.0;
    for pid in pids {
        let path = Path::new("/proc")
            .join(pid.to_string())
            .join("smaps_rollup");
        let text = fs::read_to_string(&path).map_err(Failure::act(path.display()))?;
        let line = text.lines().find(|line| line.starts_with("Pss:"));
        let own = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        all += own.ok_or_else(|| Failure::new(format!("{}: no Pss", path.display())))?;
    }
    Ok(all)
}
