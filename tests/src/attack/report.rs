//! What an attack has found, and the tables of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use pontoon_lab::{Failure, Outcome};

use super::kill::{Attack, Then, healed};
use super::known::{self, Known};
use super::scene::Kind;
use super::tracer::{Act, Point};
use super::work::Settings;

/// What an attack has tried and found: a row of the table in tests/README.md.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The attack's words on the command line.
    pub(crate) attack: String,
    /// How much was tried.
    pub(crate) tried: String,
    /// What should not be; nothing else makes the attack fail.
    pub(crate) findings: Vec<String>,
    /// What does the same again.
    pub(crate) command: String,
}

impl Summary {
    /// A summary of an attack with these settings.
    pub(crate) fn new(
        attack: &str,
        settings: &Settings,
        tried: String,
        findings: Vec<String>,
    ) -> Self {
        Self {
            attack: attack.to_owned(),
            tried,
            findings,
            command: settings.command(attack),
        }
    }
}

/// Prints the table of attacks, and fails with all findings.
pub(crate) fn conclude(summaries: &[Summary]) -> Outcome {
    let mut table =
        String::from("\n| attack | tried | outcome | command |\n| --- | --- | --- | --- |\n");
    for one in summaries {
        let outcome = match one.findings.len() {
            0 => "no finding".to_owned(),
            count => format!("**{count} findings**"),
        };
        let (attack, tried, command) = (&one.attack, &one.tried, &one.command);
        let _ = writeln!(table, "| {attack} | {tried} | {outcome} | `{command}` |");
    }
    println!("{table}");
    let found: Vec<String> = summaries
        .iter()
        .filter(|one| !one.findings.is_empty())
        .map(|one| {
            format!(
                "attack {}: {} findings; again by `{}`\n{}",
                one.attack,
                one.findings.len(),
                one.command,
                one.findings.join("\n")
            )
        })
        .collect();
    if found.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(found.join("\n\n")))
    }
}

/// One finding.
#[derive(Debug, Clone)]
pub(crate) struct Leak {
    pub(crate) kind: Kind,
    pub(crate) verb: &'static str,
    pub(crate) point: Point,
    pub(crate) act: Act,
    pub(crate) then: Then,
    pub(crate) what: String,
    pub(crate) left: String,
}

#[derive(Debug, Default, Clone)]
struct Row {
    points: usize,
    hits: usize,
    missed: usize,
    leaks: usize,
    wrong: usize,
    failed: usize,
}

/// Figures and findings, filled by several threads.
#[derive(Default)]
pub(crate) struct Report {
    rows: Mutex<BTreeMap<String, Row>>,
    leaks: Mutex<Vec<Leak>>,
    broken: Mutex<Vec<String>>,
}

impl Report {
    fn row(&self, kind: Kind, verb: &str, change: impl FnOnce(&mut Row)) {
        if let Ok(mut rows) = self.rows.lock() {
            change(rows.entry(format!("{kind} {verb}")).or_default());
        }
    }

    /// So many points does the verb have.
    pub(crate) fn seen(&self, kind: Kind, verb: &str, points: usize) {
        self.row(kind, verb, |row| row.points += points);
    }

    /// The act happened.
    pub(crate) fn hit(&self, kind: Kind, verb: &str) {
        self.row(kind, verb, |row| row.hits += 1);
    }

    /// The run was shorter than that.
    pub(crate) fn missed(&self, kind: Kind, verb: &str) {
        self.row(kind, verb, |row| row.missed += 1);
    }

    /// A finding, printed at once.
    pub(crate) fn found(&self, leak: Leak) {
        self.row(leak.kind, leak.verb, |row| match leak.what.as_str() {
            what if what.starts_with("wrong success") => row.wrong += 1,
            what if what.contains("leaves") || what.contains("changes") => row.leaks += 1,
            _ => row.failed += 1,
        });
        println!("{}", show(&leak));
        if let Ok(mut leaks) = self.leaks.lock() {
            leaks.push(leak);
        }
    }

    /// The attack itself could not go on.
    pub(crate) fn broken(&self, text: String) {
        println!("{text}");
        if let Ok(mut broken) = self.broken.lock() {
            broken.push(text);
        }
    }

    /// Whether this known leak has happened.
    pub(crate) fn has_seen(&self, wanted: &Known) -> bool {
        self.leaks.lock().is_ok_and(|leaks| {
            leaks
                .iter()
                .any(|leak| known::is(leak, wanted.attack) == Some(wanted))
        })
    }

    /// The table.
    pub(crate) fn print(&self, name: &str) {
        let rows = self
            .rows
            .lock()
            .map(|rows| rows.clone())
            .unwrap_or_default();
        let mut text = format!(
            "\n| {name} | points | tried | leaks | wrong successes | other failures |\n| --- | ---: | ---: | ---: | ---: | ---: |\n"
        );
        let mut total = Row::default();
        for (name, row) in &rows {
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} |",
                row.points, row.hits, row.leaks, row.wrong, row.failed
            );
            total.points += row.points;
            total.hits += row.hits;
            total.missed += row.missed;
            total.leaks += row.leaks;
            total.wrong += row.wrong;
            total.failed += row.failed;
        }
        let _ = writeln!(
            text,
            "| **all** | {} | {} | {} | {} | {} |",
            total.points, total.hits, total.leaks, total.wrong, total.failed
        );
        let _ = writeln!(
            text,
            "({} runs ended before their point came)",
            total.missed
        );
        println!("{text}");
    }

    /// What was tried, and as findings what is not known, and what is known and did not happen.
    pub(crate) fn judge(&self, name: &str, attack: Attack, settings: &Settings) -> Summary {
        let leaks = self
            .leaks
            .lock()
            .map(|leaks| leaks.clone())
            .unwrap_or_default();
        let mut wrong: Vec<String> = leaks
            .iter()
            .filter(|leak| known::is(leak, attack).is_none())
            .map(show)
            .collect();
        if let Ok(broken) = self.broken.lock() {
            wrong.extend(broken.iter().cloned());
        }
        let (points, tried) = self.rows.lock().map_or((0, 0), |rows| {
            rows.values().fold((0, 0), |(points, tried), row| {
                (points + row.points, tried + row.hits)
            })
        });
        if tried == 0 && settings.slice != Some(0) {
            wrong.push("nothing was tried".to_owned());
        }
        if settings.whole && settings.only.is_none() {
            wrong.extend(healed(self, attack));
        }
        let tried = format!("{tried} at {points} system calls");
        Summary::new(name, settings, tried, wrong)
    }
}

fn show(leak: &Leak) -> String {
    /// What a lost link takes along fills pages.
    const LINES: usize = 12;
    let (kind, verb, point) = (leak.kind, leak.verb, &leak.point);
    let mut left: Vec<&str> = leak.left.lines().take(LINES).collect();
    if leak.left.lines().count() > LINES {
        left.push("  ...");
    }
    let left = left.join("\n");
    format!(
        "{kind} {verb}, {:?} at {point}, then {:?}: {}\n{}",
        leak.act, leak.then, leak.what, left
    )
}
