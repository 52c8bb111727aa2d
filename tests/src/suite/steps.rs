//! Steps of the suite: each is announced, timed, and part of the table at the end.

use std::process::Command;
use std::time::Instant;

use pontoon_lab::{Failure, Outcome};

/// How many lines the table at the end has.
const SLOWEST: usize = 20;

/// What has run, and for how many seconds.
pub(crate) struct Times {
    started: Instant,
    steps: Vec<(String, f64)>,
    parts: Vec<(String, f64)>,
}

impl Times {
    /// Nothing has run.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            steps: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Seconds since the start.
    pub(crate) fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Announces a step, runs it, and says how long it took.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        println!("== {name}");
        let started = Instant::now();
        let outcome = work(self);
        let seconds = started.elapsed().as_secs_f64();
        let end = if outcome.is_ok() { "passed" } else { "FAILED" };
        println!("== {name}: {end} in {seconds:.1} s");
        self.steps.push((name.to_owned(), seconds));
        outcome
    }

    /// A step that is one command, on the terminal.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> Outcome {
        self.step(name, |_| crate::build::must(command, name))
    }

    /// Notes a part of a step: a test program or a module of one.
    pub(crate) fn part(&mut self, name: &str, seconds: f64) {
        self.parts.push((name.to_owned(), seconds));
    }

    /// The steps in their order, and the slowest parts.
    pub(crate) fn print(&mut self) {
        println!("\nsteps, in seconds:");
        for (name, seconds) in &self.steps {
            println!("{seconds:>8.1}  {name}");
        }
        println!("{:>8.1}  in all", self.elapsed());
        self.parts.sort_by(|one, other| other.1.total_cmp(&one.1));
        let shown = self.parts.len().min(SLOWEST);
        if shown > 0 {
            println!(
                "\nthe slowest {shown} of {} test modules and programs, in seconds:",
                self.parts.len()
            );
        }
        for (name, seconds) in self.parts.iter().take(SLOWEST) {
            println!("{seconds:>8.1}  {name}");
        }
    }
}

/// A failure that names what failed.
pub(crate) fn failed(names: &[String]) -> Outcome {
    if names.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("failed: {}", names.join(", "))))
    }
}
