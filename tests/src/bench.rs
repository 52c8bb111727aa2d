//! `cargo xtask bench`: our chain against the reference plugins 1.9.1, in one run on one machine.
//!
//! Times depend on the machine and on what else it does; ratios do not, as long as both sides are
//! measured alternately. A time is that of the whole chain as a runtime sees it, from the first
//! process's start to the last one's exit; making the container's namespace is not part of it.

mod contestant;
mod floor;
mod leases;
mod names;
mod netavark;
mod overlay;
mod ports;
mod scale;
mod table;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use pontoon_lab::{
    Attachment, Backend, Call, Container, Failure, Outcome, Programs, find, missing, target_dir,
};

use crate::build::{self, root};
use crate::require_privileges;
use contestant::Contestant;
use table::{Bar, Row, Table};

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    samples: usize,
    crowd: usize,
    parallel: usize,
    leases: u32,
    ports: u16,
}

const FULL: Size = Size {
    samples: 60,
    crowd: 300,
    parallel: 96,
    leases: 60_000,
    ports: 10_000,
};
const QUICK: Size = Size {
    samples: 10,
    crowd: 300,
    parallel: 32,
    leases: 60_000,
    ports: 10_000,
};
const AT_ONCE: usize = 8;
/// So many containers come and go on one side before it is the other side's turn, as on a host that
/// starts them by the second.
const RUN: usize = 5;

/// Where runtime state lies as every host that boots with systemd has it: in memory. Containers and
/// build machines often have `/run` on a disk instead.
fn volatile_run() -> Outcome {
    let state = "/run/pontoon";
    fs::create_dir_all(state).map_err(Failure::act("create /run/pontoon"))?;
    let kind = statfs(state)
        .map_err(Failure::act("look at /run/pontoon"))?
        .filesystem_type();
    if kind == TMPFS_MAGIC {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(Failure::act("make a mount namespace"))?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .map_err(Failure::act("make mounts private"))?;
    mount(
        Some("pontoon"),
        state,
        Some("tmpfs"),
        MsFlags::empty(),
        // As the plugins make it: they refuse a directory that others may write.
        Some("mode=0711"),
    )
    .map_err(Failure::act("mount a tmpfs on /run/pontoon"))
}

/// What can be measured alone, by the words of the command line.
const SECTIONS: [&str; 10] = [
    "nftables", "iptables", "netavark", "overlay", "ports", "traffic", "leases", "names", "start",
    "scale",
];

pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let quick = arguments.contains(&"--quick");
    let is_built = arguments.contains(&"--built");
    let sections: Vec<&str> = arguments
        .iter()
        .copied()
        .filter(|word| !["--quick", "--built"].contains(word))
        .collect();
    if let Some(unknown) = sections.iter().find(|word| !SECTIONS.contains(word)) {
        return Err(Failure::new(format!(
            "bench knows no section \"{unknown}\", only {}",
            SECTIONS.join(", ")
        )));
    }
    let wanted = |section| sections.is_empty() || sections.contains(&section);
    require_privileges()?;
    for tool in ["nft", "xtables-nft-multi"] {
        find(tool).ok_or_else(|| missing(tool))?;
    }
    volatile_run()?;
    let built = if is_built {
        build::built()?
    } else {
        println!("building ours (release, static) ...");
        build::dist()?
    };
    println!("fetching the reference plugins ...");
    let (ours, reference) = (
        Programs::at(&built.dir)?,
        Programs::at(&unpacked("reference.sh")?)?,
    );
    let size = if quick { QUICK } else { FULL };
    let mut table = Table::new(format!(
        "{} samples a cell, medians; ours linked for {}",
        size.samples, built.linking
    ));

    for (section, backend) in [
        ("nftables", Backend::Nftables),
        ("iptables", Backend::IptablesNft),
    ] {
        if !wanted(section) {
            continue;
        }
        println!(
            "{backend}: filling two hosts, one after the other, with {} containers each ...",
            size.crowd
        );
        chains(&mut table, backend, &ours, &reference, size)?;
        println!(
            "{backend}: {} containers, {AT_ONCE} at a time ...",
            size.parallel
        );
        parallel(&mut table, backend, &ours, &reference, size)?;
    }
    if wanted("netavark") {
        println!("netavark with 25 containers ...");
        netavark::measure(&mut table, &ours, size.samples)?;
    }
    if wanted("overlay") {
        println!("a network of several hosts ...");
        overlay::measure(&mut table, &ours, size.samples)?;
    }
    if wanted("ports") {
        for backend in [Backend::Nftables, Backend::IptablesNft] {
            println!(
                "{backend}: publishing {} ports on two hosts ...",
                size.ports
            );
            ports::measure(
                &mut table,
                backend,
                &ours,
                &reference,
                size.samples,
                size.ports,
            )?;
        }
    }
    if wanted("traffic") {
        println!("traffic out of containers and into them ...");
        traffic::run(&mut table, &ours, &reference)?;
    }
    if wanted("leases") {
        println!("host-local with {} leases ...", size.leases);
        leases::measure(&mut table, &ours, &reference, size.samples, size.leases)?;
    }
    if wanted("names") {
        println!("names: ten thousand of them, four servers ...");
        names::measure(&mut table, &ours)?;
    }
    if wanted("start") {
        start(&mut table, &ours, &reference)?;
        floor::measure(&mut table, &ours, size.samples)?;
    }

    // Asked for by name only: it takes ten minutes and 10,000 namespaces.
    if sections.contains(&"scale") {
        scale::measure(&ours, &reference)?;
    }

    println!("\n{table}");
    let file = target_dir()?.join("bench.md");
    fs::write(&file, table.markdown()).map_err(Failure::act("write target/bench.md"))?;
    match table.failed() {
        0 => Ok(()),
        count => Err(Failure::new(format!("{count} bars were not met"))),
    }
}

/// What a script of `tests/scripts` unpacked: the folder that it prints.
fn unpacked(script: &str) -> Outcome<PathBuf> {
    let output = Command::new("bash")
        .arg(root().join("tests/scripts").join(script))
        .arg(target_dir()?.join("tools"))
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(Failure::act(format!("run {script}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "{script} failed: there is nothing to compare with"
        )));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

/// The middle of some times, in milliseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, |middle| middle.as_secs_f64() * 1000.0)
}

/// One cell: a contestant and what it is asked for.
struct Cell<'a> {
    who: &'a Contestant,
    ports: u16,
    container: Container,
    adds: Vec<Duration>,
    dels: Vec<Duration>,
}

impl<'a> Cell<'a> {
    fn new(who: &'a Contestant, ports: u16) -> Outcome<Self> {
        Ok(Self {
            who,
            ports,
            container: Container::new("bench")?,
            adds: Vec::new(),
            dels: Vec::new(),
        })
    }

    /// Some samples. The first finds the caches full of the other side, and does not count.
    fn turn(&mut self) -> Outcome {
        self.sample(false)?;
        for _ in 0..RUN {
            self.sample(true)?;
        }
        Ok(())
    }

    fn sample(&mut self, counts: bool) -> Outcome {
        let mut attachment = Attachment::new(&self.container);
        for port in 0..self.ports {
            attachment = attachment.publish("", 30_000 + port, 80, "tcp");
        }
        let add = self.who.add(&mut attachment)?;
        let del = self.who.del(&attachment)?;
        if counts {
            self.adds.push(add);
            self.dels.push(del);
        }
        Ok(())
    }

    fn medians(&mut self) -> (f64, f64) {
        (median(&mut self.adds), median(&mut self.dels))
    }
}

/// One chain after the other, in every cell in turn. What is compared with ourselves differs by
/// little, and costs little: those cells have three turns for one of the others. The two crowds are
/// not on the machine at the same time: each would slow down the other's side.
fn chains(
    table: &mut Table,
    backend: Backend,
    ours: &Programs,
    reference: &Programs,
    size: Size,
) -> Outcome {
    let empty = |programs| Contestant::new(programs, backend);
    let (our_empty, their_empty) = (empty(ours)?, empty(reference)?);
    let (mut our_second, mut our_full) = (empty(ours)?, empty(ours)?);
    our_second.fill(1)?;
    our_full.fill(size.crowd)?;
    Contestant::rest();
    let mut cells = [
        Cell::new(&their_empty, 1)?,
        Cell::new(&our_empty, 1)?,
        Cell::new(&their_empty, 50)?,
        Cell::new(&our_empty, 50)?,
        Cell::new(&our_full, 1)?,
        Cell::new(&our_second, 1)?,
    ];
    const OURS: [usize; 3] = [1, 4, 5];
    let turns: Vec<usize> = (0..cells.len()).chain(OURS).chain(OURS).collect();
    for _ in 0..size.samples / RUN {
        for &turn in &turns {
            cells[turn].turn()?;
        }
    }
    let [theirs, ours, theirs_50, ours_50, ours_full, second] = cells.each_mut().map(Cell::medians);
    drop(cells);
    drop(our_full);
    let mut their_full = empty(reference)?;
    their_full.fill(size.crowd)?;
    Contestant::rest();
    let mut cell = Cell::new(&their_full, 1)?;
    for _ in 0..size.samples / RUN {
        cell.turn()?;
    }
    let theirs_full = cell.medians();
    let nft = backend == Backend::Nftables;
    let (add_bar, del_bar) = if nft { (45.0, 30.0) } else { (18.0, 12.0) };
    let mut row = |what: &str, reference: f64, ours: f64, bar: Bar| {
        table.push(Row {
            what: format!("{backend}: {what}"),
            reference: Some(reference),
            ours,
            unit: "ms",
            bar,
        });
    };
    let crowd = size.crowd;
    row(
        "ADD, 1 port, empty network",
        theirs.0,
        ours.0,
        Bar::faster(add_bar, theirs.0 / ours.0),
    );
    row(
        "DEL, 1 port, empty network",
        theirs.1,
        ours.1,
        Bar::faster(del_bar, theirs.1 / ours.1),
    );
    let ports = if nft {
        Bar::at_most(1.2, ours_50.0 / ours.0, "of Pontoon's with 1 port")
    } else {
        Bar::faster(40.0, theirs_50.0 / ours_50.0)
    };
    row("ADD, 50 ports", theirs_50.0, ours_50.0, ports);
    row("DEL, 50 ports", theirs_50.1, ours_50.1, Bar::None);
    let grown = Bar::at_most(1.15, ours_full.0 / ours.0, "of Pontoon's at none");
    row(
        &format!("ADD at {crowd} containers"),
        theirs_full.0,
        ours_full.0,
        grown,
    );
    row(
        &format!("DEL at {crowd} containers"),
        theirs_full.1,
        ours_full.1,
        Bar::None,
    );
    let note = Bar::Note(format!(
        "ADD at {crowd} is {:.2} of this",
        ours_full.0 / second.0
    ));
    table.push(Row {
        what: format!("{backend}: ADD beside 1 container"),
        reference: None,
        ours: second.0,
        unit: "ms",
        bar: note,
    });
    Ok(())
}

/// Many at once on a network that is not there yet.
fn parallel(
    table: &mut Table,
    backend: Backend,
    ours: &Programs,
    reference: &Programs,
    size: Size,
) -> Outcome {
    let mut rates = Vec::new();
    for programs in [reference, ours] {
        let who = Contestant::new(programs, backend)?;
        let containers: Vec<Container> = (0..size.parallel)
            .map(|_| Container::new("bench"))
            .collect::<Outcome<_>>()?;
        let mut attachments: Vec<Attachment> = containers
            .iter()
            .zip(30_000..)
            .map(|(container, port)| Attachment::new(container).publish("", port, 80, "tcp"))
            .collect();
        let (add_rate, add_failed) =
            rush(&mut attachments, |attachment| who.add(attachment).map(drop))?;
        let (del_rate, del_failed) =
            rush(&mut attachments, |attachment| who.del(attachment).map(drop))?;
        rates.push((add_rate, add_failed, del_rate, del_failed));
    }
    let [theirs, ours] = rates.as_slice() else {
        return Ok(());
    };
    for (verb, theirs, ours) in [
        ("ADD", (theirs.0, theirs.1), (ours.0, ours.1)),
        ("DEL", (theirs.2, theirs.3), (ours.2, ours.3)),
    ] {
        let bar = match verb {
            "ADD" => Bar::rate(40.0, 600.0, (theirs.0, ours.0), ours.1),
            _ => Bar::Asked("none of Pontoon's fails".to_owned(), ours.1 == 0),
        };
        table.push(Row {
            what: format!(
                "{backend}: {verb}, {AT_ONCE} at a time (failed: {} reference, {} ours)",
                theirs.1, ours.1
            ),
            reference: Some(theirs.0),
            ours: ours.0,
            unit: "per second",
            bar,
        });
    }
    Ok(())
}

/// Does `verb` for all, so many at once: how many a second, and how many failed.
fn rush(
    attachments: &mut [Attachment],
    verb: impl Fn(&mut Attachment) -> Outcome + Sync,
) -> Outcome<(f64, usize)> {
    let count = attachments.len();
    let queue = Mutex::new(attachments.iter_mut());
    let failed = Mutex::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(attachment) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    if let (Err(failure), Ok(mut failed)) = (verb(attachment), failed.lock()) {
                        if *failed == 0 {
                            println!("  failed: {failure}");
                        }
                        *failed += 1;
                    }
                }
            });
        }
    });
    let rate = count as f64 / started.elapsed().as_secs_f64();
    Ok((
        rate,
        failed
            .into_inner()
            .map_err(Failure::act("count failures"))?,
    ))
}

/// What a process costs before it does anything.
fn start(table: &mut Table, ours: &Programs, reference: &Programs) -> Outcome {
    let (our_host, their_host) = (
        Contestant::new(ours, Backend::Nftables)?,
        Contestant::new(reference, Backend::Nftables)?,
    );
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        for (who, times) in [(&our_host, &mut mine), (&their_host, &mut theirs)] {
            let call = Call::new("VERSION", who.programs().dir(), r#"{"cniVersion":"1.0.0"}"#);
            times.push(
                who.time(|runtime| runtime.call("bridge", &call)?.verdict("bridge VERSION"))?,
            );
        }
    }
    let (reference, ours) = (median(&mut theirs), median(&mut mine));
    table.push(Row {
        what: "process start (VERSION)".to_owned(),
        reference: Some(reference),
        ours,
        unit: "ms",
        bar: Bar::None,
    });
    Ok(())
}
