//! SIGKILL at every system call of every verb of every plugin, and then what a runtime does: DEL, or
//! ADD again and DEL, or GC when the container has gone. Afterwards the machine is as before.

use std::time::{Duration, Instant};

use pontoon_lab::{Failure, Outcome, Snapshot};

use super::known::{self, KNOWN};
use super::machine::look;
use super::report::{Leak, Report};
use super::scene::{Kind, Scene, kinds};
use super::tracer::{Act, Point};
use super::work::{Random, Settings, in_parallel};

/// For how long what a network leaves may take to go: its rules stay for a second.
const PATIENCE: Duration = Duration::from_secs(4);

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
pub(crate) fn run(settings: &Settings) -> Outcome {
    attack("kill", settings, Attack::Kill)
}

/// The two attacks at system calls have all but the act in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    Kill,
    Fail,
}

pub(crate) fn attack(name: &str, settings: &Settings, attack: Attack) -> Outcome {
    let mut jobs = Vec::new();
    for kind in kinds() {
        let verbs: &[&str] = match attack {
            Attack::Kill => &["ADD", "DEL", "CHECK", "GC"],
            Attack::Fail => &["ADD", "DEL"],
        };
        let wanted = format!(
            "{} {} {}",
            kind.plugin,
            kind.backend,
            if kind.warm { "warm" } else { "cold" }
        );
        for verb in verbs {
            if settings
                .only
                .as_ref()
                .is_none_or(|only| format!("{wanted} {verb}").contains(only.as_str()))
            {
                jobs.push((kind, *verb));
            }
        }
    }
    Random::new(settings.seed).shuffle(&mut jobs);
    let report = Report::default();
    in_parallel(settings, jobs.len(), |at| {
        let (kind, verb) = jobs[at];
        Work {
            kind,
            verb,
            attack,
            settings,
            report: &report,
        }
        .run(settings.seed.wrapping_add(at as u64))
        .map_err(|failure| Failure::new(format!("{kind} {verb}: {failure}")))
    })?;
    report.print(name);
    report.judge(attack, settings)
}

struct Work<'w> {
    kind: Kind,
    verb: &'static str,
    attack: Attack,
    settings: &'w Settings,
    report: &'w Report,
}

/// A scene with what is seen in it.
struct Ready {
    scene: Scene,
    /// The container is there, the plugins before the attacked one have run.
    before: Snapshot,
    /// The attacked plugin's ADD has run as well.
    after: Snapshot,
    /// The container has gone and GC has run.
    clean: Snapshot,
}

impl Work<'_> {
    fn run(&self, seed: u64) -> Outcome {
        let mut ready = self.ready()?;
        let points = self.all_points(&mut ready)?;
        let mut orders: Vec<(Point, Act, Then)> = Vec::new();
        for point in &points {
            match self.attack {
                Attack::Kill => {
                    orders.extend(ALL.map(|then| (point.clone(), Act::Kill, then)));
                }
                Attack::Fail => orders.extend(
                    super::fail::errors(&point.name)
                        .iter()
                        .map(|error| (point.clone(), Act::Fail(*error), Then::Del)),
                ),
            }
        }
        self.report.seen(self.kind, self.verb, points.len());
        if !self.settings.whole {
            Random::new(seed).shuffle(&mut orders);
            // Known leaks come first, so that one that no longer happens is found out.
            orders.sort_by_key(|(point, ..)| {
                !known::stands_at(self.kind, self.verb, point, self.attack)
            });
            orders.truncate(SLICE.max(if self.settings.only.is_some() { 60 } else { 0 }));
        }
        for (point, act, then) in orders {
            if self.settings.is_over() {
                break;
            }
            if self.kind.plugin == "host-device" && then == Then::Gc {
                // A virtual device dies with the namespace that it is in.
                continue;
            }
            match self.one(&mut ready, &point, act, then) {
                Ok(true) => {}
                Ok(false) => ready = self.ready()?,
                Err(failure) => {
                    self.report
                        .broken(self.kind, self.verb, &point, act, &failure);
                    ready = self.ready()?;
                }
            }
        }
        Ok(())
    }

    fn ready(&self) -> Outcome<Ready> {
        let mut scene = Scene::new(self.kind)?;
        // Once through, for what stays after the first use: the index of leases, the bare bridge.
        scene.enter()?;
        let added = scene.verb("ADD")?;
        scene.succeeded("ADD", &added)?;
        scene.vanish()?;
        scene.collect()?;
        let clean = steady(&scene)?;
        scene.enter()?;
        let start = scene.result();
        let before = look(&scene)?;
        let added = scene.verb("ADD")?;
        scene.succeeded("ADD", &added)?;
        scene.keep(&added)?;
        let after = look(&scene)?;
        let deleted = scene.verb("DEL")?;
        scene.succeeded("DEL", &deleted)?;
        scene.set_result(start);
        let ready = Ready {
            scene,
            before,
            after,
            clean,
        };
        let left = self.difference(&ready, &ready.before)?;
        if !left.is_empty() {
            return Err(Failure::new(format!(
                "{}: ADD and DEL without any attack change the machine:\n{left}",
                self.kind
            )));
        }
        Ok(ready)
    }

    /// The machine after the attacked verb's own preparation, and the calls that the verb makes.
    fn all_points(&self, ready: &mut Ready) -> Outcome<Vec<Point>> {
        let start = ready.scene.result();
        self.prepare(ready)?;
        let traced = ready.scene.traced(self.verb, None)?;
        ready.scene.succeeded(self.verb, &traced.finished)?;
        if self.verb == "GC" {
            ready.scene.enter()?;
        } else {
            if self.verb == "ADD" {
                ready.scene.keep(&traced.finished)?;
            }
            let deleted = ready.scene.verb("DEL")?;
            ready.scene.succeeded("DEL", &deleted)?;
            ready.scene.set_result(start);
        }
        self.bare(ready)?;
        Ok(traced.points)
    }

    /// Without other containers the next ADD shall make the network anew.
    fn bare(&self, ready: &mut Ready) -> Outcome {
        if self.kind.warm || ready.scene.network.plugins().len() > 1 {
            return Ok(());
        }
        ready.scene.collect()
    }

    /// Brings about what the verb finds.
    fn prepare(&self, ready: &mut Ready) -> Outcome {
        if self.verb != "ADD" {
            let added = ready.scene.verb("ADD")?;
            ready.scene.succeeded("ADD", &added)?;
            ready.scene.keep(&added)?;
        }
        if self.verb == "GC" {
            ready.scene.vanish()?;
        }
        Ok(())
    }

    /// One attack. False when the scene cannot be used any more.
    fn one(&self, ready: &mut Ready, point: &Point, act: Act, then: Then) -> Outcome<bool> {
        let start = ready.scene.result();
        self.prepare(ready)?;
        let traced = ready.scene.traced(self.verb, Some((point.number, act)))?;
        let Some(hit) = traced.points.first() else {
            self.report.missed(self.kind, self.verb);
            // It ran through.
            if self.verb == "GC" {
                ready.scene.enter()?;
            } else {
                if self.verb == "ADD" && traced.finished.status == Some(0) {
                    ready.scene.keep(&traced.finished)?;
                }
                let deleted = ready.scene.verb("DEL")?;
                ready.scene.succeeded("DEL", &deleted)?;
                ready.scene.set_result(start);
            }
            self.bare(ready)?;
            return Ok(self.difference(ready, &ready.before)?.is_empty());
        };
        self.report.hit(self.kind, self.verb);
        let say = |what: &str, left: String| {
            self.report.found(Leak {
                kind: self.kind,
                verb: self.verb,
                point: hit.clone(),
                act,
                then,
                what: what.to_owned(),
                left,
            });
        };
        if traced.hung {
            say("it hangs", String::new());
            return Ok(false);
        }
        let done = traced.finished.status == Some(0);
        if let (Act::Fail(_), Some(1), Err(error)) = (
            act,
            traced.finished.status,
            traced.finished.verdict(self.verb),
        ) && error.code == 0
        {
            say("no JSON error", error.text());
        }
        if self.verb == "ADD" && done {
            ready.scene.keep(&traced.finished)?;
        }
        // A verb that says it succeeded has.
        if done && self.verb == "ADD" {
            let checked = ready.scene.verb("CHECK")?;
            if let Err(error) = checked.verdict("CHECK") {
                say("wrong success", error.text());
                return Ok(false);
            }
        }
        if done && self.verb == "DEL" && act != Act::Kill {
            let left = self.difference(ready, &ready.before)?;
            if !left.is_empty() {
                say("wrong success", left);
                return Ok(false);
            }
        }
        if self.verb == "CHECK" && act == Act::Kill {
            let left = self.changes(&ready.scene, &ready.after)?;
            if !left.is_empty() {
                say("CHECK changes", left);
                return Ok(false);
            }
        }
        let failed = |verb: &str, error: &pontoon_lab::CniError| {
            say(&format!("{verb} fails afterwards"), error.text());
            Ok(false)
        };
        if self.verb == "GC" || then == Then::Gc {
            if self.verb != "GC" {
                ready.scene.vanish()?;
            }
            if let Err(failure) = ready.scene.collect() {
                say("GC fails afterwards", failure.to_string());
                return Ok(false);
            }
            let left = self.changes(&ready.scene, &ready.clean)?;
            if !left.is_empty() {
                say("GC leaves", left);
                return Ok(false);
            }
            ready.scene.enter()?;
            return Ok(true);
        }
        if then == Then::AddAndDel && !(self.verb == "ADD" && done) {
            ready.scene.set_result(start.clone());
            let added = ready.scene.verb("ADD")?;
            // It may be refused until DEL has come.
            if added.status == Some(0) {
                ready.scene.keep(&added)?;
                let checked = ready.scene.verb("CHECK")?;
                if let Err(error) = checked.verdict("CHECK") {
                    say("wrong success of ADD afterwards", error.text());
                    return Ok(false);
                }
            }
        }
        if !done && self.verb == "ADD" && then == Then::Del {
            // The runtime has no result to hand on.
            ready.scene.set_result(None);
        }
        let deleted = ready.scene.verb("DEL")?;
        if let Err(error) = deleted.verdict("DEL") {
            return failed("DEL", &error);
        }
        ready.scene.set_result(start);
        let left = self.difference(ready, &ready.before)?;
        if !left.is_empty() {
            say("DEL leaves", left);
            return Ok(false);
        }
        self.bare(ready)?;
        Ok(true)
    }

    /// What is otherwise than it was, once it has had time to go.
    fn difference(&self, ready: &Ready, wanted: &Snapshot) -> Outcome<String> {
        self.changes(&ready.scene, wanted)
    }

    fn changes(&self, scene: &Scene, wanted: &Snapshot) -> Outcome<String> {
        // Without containers the bridge may stay bare until GC, as docker0 does.
        let plain = |snapshot: Snapshot| {
            if self.kind.warm {
                snapshot
            } else {
                snapshot.without_link(scene.network.bridge())
            }
        };
        let wanted = plain(wanted.clone());
        let started = Instant::now();
        loop {
            let changes = wanted.changes(&plain(look(scene)?));
            if changes.is_empty() || started.elapsed() > PATIENCE {
                return Ok(changes);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What is seen twice in a row, 200 ms apart, once the rules of the last network had time to go.
fn steady(scene: &Scene) -> Outcome<Snapshot> {
    if !scene.kind.warm {
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
    KNOWN
        .iter()
        .filter(|known| known.attack == attack && !report.has_seen(known))
        .map(|known| {
            format!(
                "{} {} {}: {:?} is mended ({}): take it off the list in tests/src/attack/known.rs",
                known.plugin, known.verb, known.at, known.left, known.entry
            )
        })
        .collect()
}
