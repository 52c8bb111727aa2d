//! SIGKILL at every system call of every verb of every plugin, and then what a runtime does: DEL, or
//! ADD again and DEL, or GC when the container has gone. Afterwards the machine is as before.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pontoon_lab::{Outcome, Snapshot};

use super::fail;
use super::known::KNOWN;
use super::machine::look;
use super::report::{Leak, Report, Summary};
use super::scene::{Kind, Neighbour, Scene, kinds};
use super::tracer::{Act, Point, Traced};
use super::work::{Random, Settings, in_parallel};

/// For how long what a network leaves may take to go: its rules stay for a second, and on a busy machine the
/// programs of iptables take several to remove them.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many points of a verb a slice tries before it goes on to the next one.
const SLICE: usize = 4;

/// What a runtime does after the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Del,
    AddAndDel,
    Gc,
}

pub(crate) const ALL: [Then; 3] = [Then::Del, Then::AddAndDel, Then::Gc];

/// Runs the attack.
pub(crate) fn run(settings: &Settings) -> Summary {
    attack("kill", settings, Attack::Kill)
}

/// The two attacks at system calls have all but the act in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    Kill,
    Fail,
}

/// Attacks every plugin; each on hosts of its own.
pub(crate) fn attack(name: &str, settings: &Settings, attack: Attack) -> Summary {
    let mut jobs = kinds();
    jobs.retain(|kind| settings.wants(&kind.to_string()));
    Random::new(settings.seed).shuffle(&mut jobs);
    let report = Report::default();
    in_parallel(settings, jobs.len(), |at| {
        let work = Work {
            kind: jobs[at],
            attack,
            settings,
            report: &report,
        };
        if let Err(failure) = work.run(settings.seed.wrapping_add(at as u64)) {
            report.broken(format!("{}: {failure}", jobs[at]));
        }
    });
    report.print(name);
    report.judge(name, attack, settings)
}

/// The attack of one plugin.
pub(crate) struct Work<'w> {
    pub(crate) kind: Kind,
    pub(crate) attack: Attack,
    pub(crate) settings: &'w Settings,
    pub(crate) report: &'w Report,
}

/// A scene with what is seen in it.
pub(crate) struct Ready {
    pub(crate) scene: Scene,
    /// The container is there, and attached to nothing.
    pub(crate) gone: Snapshot,
    /// The container has gone and GC has run.
    clean: Snapshot,
    /// What is left without any attack.
    usual: BTreeSet<String>,
}

impl Work<'_> {
    fn run(&self, seed: u64) -> Outcome {
        let verbs: &[&'static str] = match self.attack {
            Attack::Kill => &["ADD", "DEL", "CHECK", "STATUS", "GC"],
            Attack::Fail => &["ADD", "DEL"],
        };
        let mut random = Random::new(seed);
        let mut ready = self.ready()?;
        for verb in verbs {
            // A virtual device dies with the namespace that it is in.
            if self.kind.plugin == "host-device" && *verb == "GC" {
                continue;
            }
            if !self.settings.is_over() {
                self.verb(&mut ready, verb, &mut random)?;
            }
        }
        Ok(())
    }

    fn verb(&self, ready: &mut Ready, verb: &'static str, random: &mut Random) -> Outcome {
        let points = self.all_points(ready, verb)?;
        self.report.seen(self.kind, verb, points.len());
        let mut orders: Vec<(&Point, Act, Then)> = Vec::new();
        for point in &points {
            match self.attack {
                Attack::Kill => orders.extend(ALL.map(|then| (point, Act::Kill, then))),
                Attack::Fail => orders.extend(
                    fail::errors(point)
                        .iter()
                        .map(|error| (point, Act::Fail(*error), Then::Del)),
                ),
            }
        }
        orders.retain(|(point, ..)| self.settings.wants_point(verb, point.number));
        orders.retain(|(.., then)| self.kind.plugin != "host-device" || *then != Then::Gc);
        if !self.settings.whole {
            random.shuffle(&mut orders);
            orders.truncate(self.settings.slice.unwrap_or(SLICE));
        }
        for (point, act, then) in orders {
            if self.settings.is_over() {
                break;
            }
            match self.one(ready, verb, point, act, then) {
                Ok(true) => {}
                Ok(false) => *ready = self.ready()?,
                Err(failure) => {
                    self.report.broken(format!(
                        "{} {verb}, {act:?} at {point}, then {then:?}: {failure}",
                        self.kind
                    ));
                    *ready = self.ready()?;
                }
            }
        }
        Ok(())
    }

    /// A host on which the plugin has been used once.
    pub(crate) fn ready(&self) -> Outcome<Ready> {
        let mut scene = Scene::new(self.kind)?;
        // Once through, for what stays after the first use: the index of leases, the bare bridge.
        scene.enter()?;
        scene.precede()?;
        let added = scene.verb("ADD")?;
        scene.succeeded("ADD", &added)?;
        scene.keep(&added)?;
        scene.leave()?;
        let gone = steady(&scene)?;
        scene.vanish();
        scene.collect()?;
        let clean = steady(&scene)?;
        scene.enter()?;
        Ok(Ready {
            scene,
            gone,
            clean,
            usual: BTreeSet::new(),
        })
    }

    /// The calls that the verb makes when nothing happens to it.
    fn all_points(&self, ready: &mut Ready, verb: &'static str) -> Outcome<Vec<Point>> {
        self.prepare(ready, verb)?;
        let traced = ready.scene.traced(verb, None, None)?;
        ready.scene.succeeded(verb, &traced.finished)?;
        self.unharmed(ready, verb, &traced)?;
        let left = self.changes(ready, &ready.gone)?;
        if !left.is_empty() {
            self.report.found(Leak {
                kind: self.kind,
                verb,
                point: Point::none(),
                act: Act::Kill,
                then: Then::Del,
                what: format!("{verb} leaves, without any attack"),
                left: left.clone(),
            });
            ready.usual.extend(left.lines().map(str::to_owned));
        }
        Ok(traced.points)
    }

    /// Ends a run to which nothing happened.
    fn unharmed(&self, ready: &mut Ready, verb: &str, traced: &Traced) -> Outcome {
        if verb == "GC" {
            ready.scene.collect()?;
            ready.scene.enter()?;
        } else {
            if verb == "ADD" && traced.finished.status == Some(0) {
                ready.scene.keep(&traced.finished)?;
            }
            ready.scene.leave()?;
        }
        self.bare(ready)
    }

    /// Without other containers the next ADD shall make the network anew.
    fn bare(&self, ready: &mut Ready) -> Outcome {
        if self.kind.is_warm() {
            return Ok(());
        }
        ready.scene.collect()
    }

    /// Brings about what the verb finds.
    fn prepare(&self, ready: &mut Ready, verb: &str) -> Outcome {
        ready.scene.precede()?;
        if verb != "ADD" {
            let added = ready.scene.verb("ADD")?;
            ready.scene.succeeded("ADD", &added)?;
            ready.scene.keep(&added)?;
        }
        if verb == "GC" {
            ready.scene.vanish();
        }
        Ok(())
    }

    /// One attack. False when the scene cannot be used any more.
    fn one(
        &self,
        ready: &mut Ready,
        verb: &'static str,
        point: &Point,
        act: Act,
        then: Then,
    ) -> Outcome<bool> {
        self.prepare(ready, verb)?;
        let start = ready.scene.result();
        let attached = ["CHECK", "STATUS"]
            .contains(&verb)
            .then(|| look(&ready.scene))
            .transpose()?;
        let name = (act != Act::Kill).then_some(point.name.as_str());
        let order = Some((point.number, act));
        let traced = ready.scene.traced(verb, order, name)?;
        let Some(hit) = traced.points.first() else {
            self.report.missed(self.kind, verb);
            self.unharmed(ready, verb, &traced)?;
            return Ok(self.changes(ready, &ready.gone)?.is_empty());
        };
        self.report.hit(self.kind, verb);
        let say = |what: &str, left: String| {
            self.report.found(Leak {
                kind: self.kind,
                verb,
                point: hit.clone(),
                act,
                then,
                what: what.to_owned(),
                left,
            });
            Ok(false)
        };
        if traced.hung {
            return say("it hangs", String::new());
        }
        let done = traced.finished.status == Some(0);
        if act != Act::Kill
            && let Err(error) = traced.finished.verdict(verb)
            && error.code == 0
            // Without memory a process ends as by a kill, and so does one that cannot come back from a
            // container's namespace. The loader speaks before the plugin, and nothing can be written to
            // a broken output.
            && !["mmap", "brk", "mprotect", "setns"].contains(&hit.name.as_str())
            && !traced.finished.stderr.contains("error while loading shared libraries")
            && !hit.file.ends_with("/stdout")
        {
            say("no error in JSON", error.text())?;
        }
        if verb == "ADD" && done {
            ready.scene.keep(&traced.finished)?;
            // A verb that says it succeeded has.
            let checked = ready.scene.verb("CHECK")?;
            if let Err(error) = checked.verdict("CHECK") {
                return say("wrong success", error.text());
            }
        }
        let changes_nothing = attached.is_some();
        if let Some(attached) = attached {
            let left = self.changes(ready, &attached)?;
            // The kernel adds a route once it knows that no other host has an IPv6 address.
            let own =
                |line: &&str| !(line.starts_with("  + routes:") && line.contains("table 255"));
            let left = left.lines().filter(own).collect::<Vec<_>>().join("\n");
            if !left.is_empty() {
                return say(&format!("{verb} changes"), left);
            }
        }
        if verb == "GC" || then == Then::Gc {
            ready.scene.vanish();
            if let Err(failure) = ready.scene.collect() {
                return say("GC fails afterwards", failure.to_string());
            }
            let left = self.changes(ready, &ready.clean)?;
            if !left.is_empty() {
                return say("GC leaves", left);
            }
            ready.scene.enter()?;
            return Ok(true);
        }
        if then == Then::AddAndDel && !changes_nothing && !(verb == "ADD" && done) {
            if verb == "DEL" {
                // DEL again is what the specification asks for; ADD wants the plugins before it.
                if let Err(error) = ready.scene.leave() {
                    return say("DEL fails afterwards", error.text());
                }
                ready.scene.precede()?;
            } else {
                ready.scene.set_result(start);
            }
            let added = ready.scene.verb("ADD")?;
            // It may be refused until DEL has come.
            if added.status == Some(0) {
                ready.scene.keep(&added)?;
                let checked = ready.scene.verb("CHECK")?;
                if let Err(error) = checked.verdict("CHECK") {
                    return say("wrong success of ADD afterwards", error.text());
                }
            }
        } else if !done && verb == "ADD" {
            // The runtime has no result to hand on.
            ready.scene.set_result(None);
        }
        if let Err(error) = ready.scene.leave() {
            return say("DEL fails afterwards", error.text());
        }
        let left = self.changes(ready, &ready.gone)?;
        if !left.is_empty() {
            return say("DEL leaves", left);
        }
        self.bare(ready)?;
        Ok(true)
    }

    /// What is otherwise than it was, once it has had time to go.
    pub(crate) fn changes(&self, ready: &Ready, wanted: &Snapshot) -> Outcome<String> {
        let scene = &ready.scene;
        // Without containers the bridge may stay bare until GC, as docker0 does.
        let plain = |snapshot: Snapshot| {
            if self.kind.is_warm() {
                snapshot
            } else {
                snapshot.without_link(scene.network.bridge())
            }
        };
        let wanted = plain(wanted.clone());
        let started = Instant::now();
        loop {
            let changes = wanted.changes(&plain(look(scene)?));
            // What a plugin leaves to a child, as the closing of a socket, ends by itself.
            let ends =
                |line: &str| line.starts_with("  - processes:") && !line.ends_with(" pontoon-dns");
            let counts = |line: &&str| {
                !(ends(line)
                    || ready.usual.contains(*line)
                    || line.starts_with("  - state:") && self.may_go(line))
            };
            let lines: Vec<&str> = changes.lines().filter(counts).collect();
            if lines.is_empty() || started.elapsed() > PATIENCE {
                return Ok(lines.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether a file of the state may be gone although it was there: without containers no file of the network
    /// has to stay.
    fn may_go(&self, line: &str) -> bool {
        match self.kind.neighbour {
            Neighbour::SameNetwork => false,
            Neighbour::OtherNetwork => line.contains("attacked"),
            Neighbour::None => true,
        }
    }
}

/// What is seen twice in a row, 200 ms apart, once the rules of the last network had time to go.
fn steady(scene: &Scene) -> Outcome<Snapshot> {
    if !scene.kind.is_warm() {
        std::thread::sleep(Duration::from_millis(1500));
    }
    let mut last = look(scene)?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        let now = look(scene)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Known leaks that did not happen although everything was tried.
pub(crate) fn healed(report: &Report, attack: Attack) -> Vec<String> {
    let gone = KNOWN
        .iter()
        .filter(|known| known.attack == attack && !report.has_seen(known));
    gone.map(|known| {
        format!(
            "{}: {:?} is left no longer ({}): take it off the list in tests/src/attack/known.rs",
            known.plugin, known.left, known.entry
        )
    })
    .collect()
}
