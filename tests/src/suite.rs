//! `cargo xtask test`: what a change must pass.

mod jobs;
mod steps;
mod tools;

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_lab::{Failure, Outcome};

use self::steps::{Times, failed};
use crate::build::{self, Profile, cargo};
use crate::{attack, demo, require_privileges};

/// Modules that are run with static release binaries too, which have no fault points: the main paths.
const RELEASED: [&str; 8] = [
    "admin::changes",
    "admin::commands",
    "doctor::cures",
    "house::readme_commands",
    "names::basic",
    "names::forward",
    "ports::matrix",
    "trace::matrix",
];

/// The small lab of `--quick`: an attachment's life, a published port, a name, a policy, a mend.
const QUICK: [&str; 6] = [
    "house::layout",
    "names::basic",
    "policy::words",
    "ports::doors",
    "ports::port_taken",
    "protocol::verbs",
];

/// What of the suite runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent<'a> {
    /// Everything; of matrices a slice, or with the flag all of it.
    All { whole: bool },
    /// A developer's loop: format, lints, unit tests, a small lab.
    Quick,
    /// Tests whose names contain this, and nothing else.
    Named(&'a str),
}

/// Runs the suite, and says how long its parts took, whether it passes or not.
pub(crate) fn run(extent: Extent<'_>) -> Outcome {
    require_privileges()?;
    let mut times = Times::new();
    let outcome = steps_of(extent, &mut times);
    times.print();
    match &outcome {
        Ok(()) => println!("\nall passed in {:.0} s", times.elapsed()),
        Err(_) => println!("\nFAILED after {:.0} s", times.elapsed()),
    }
    outcome
}

fn steps_of(extent: Extent<'_>, times: &mut Times) -> Outcome {
    tools::install(times)?;
    let fetching = tools::fetch()?;
    let environment = environment(extent)?;
    if !matches!(extent, Extent::Named(_)) {
        lints(extent, times)?;
    }
    times.command(
        "cargo build (the binaries under test)",
        &mut cargo(&["build", "--quiet", "--locked", "--workspace", "--bins"]),
    )?;
    let filter = match extent {
        Extent::Named(filter) => Some(filter),
        _ => None,
    };
    let all = times.step("cargo test --no-run (the tests)", |_| jobs::build(filter))?;
    times.step("tools that are only unpacked", |_| fetching.wait())?;
    let chosen = match extent {
        Extent::Quick => jobs::quick(&all, &QUICK)?,
        _ => all.clone(),
    };
    let tested = times.step("the tests", |times| {
        failed(&jobs::run(chosen, &environment, times)?)
    });
    if !matches!(extent, Extent::All { .. }) {
        return tested;
    }
    // The rest is worth knowing where a test has failed.
    let attacked = times.step("attacks", |_| {
        attack::of_suite(extent == (Extent::All { whole: true }))
    });
    let rested = rest(&all, &environment, times);
    let failures: Vec<String> = [tested, attacked, rested]
        .into_iter()
        .filter_map(Result::err)
        .map(|failure| failure.to_string())
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}

/// What the suite does after the tests.
fn rest(all: &[jobs::Job], environment: &[(&str, String)], times: &mut Times) -> Outcome {
    times.command(
        "cargo test --doc (the examples in documentation)",
        &mut cargo(&["test", "--quiet", "--locked", "--workspace", "--doc"]),
    )?;
    released(all, environment, times)
}

/// The format, clippy, and for the whole suite the documentation.
fn lints(extent: Extent<'_>, times: &mut Times) -> Outcome {
    times.command(
        "cargo fmt --check",
        &mut cargo(&["fmt", "--all", "--check"]),
    )?;
    times.command(
        "cargo clippy",
        &mut cargo(&[
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    if extent == Extent::Quick {
        return Ok(());
    }
    let doc = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
    times.command("cargo doc", cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// The demo and a part of the tests with binaries that are linked as those that are installed:
/// another C library, no debugging, no fault points. They are less optimized, which is quicker to build.
fn released(all: &[jobs::Job], environment: &[(&str, String)], times: &mut Times) -> Outcome {
    let built = times.step("static binaries without fault points", |_| {
        build::static_binaries(Profile::Tested)
    })?;
    times.step("demo", |_| demo::run_with(&built))?;
    times.step("demo of three hosts", |_| {
        demo::hosts::run_with_built(&built)
    })?;
    let mut environment = environment.to_vec();
    environment.push(("XTASK_PLUGINS", built.dir.display().to_string()));
    times.step("a part of the tests with the static binaries", |times| {
        let chosen = jobs::of_modules(all, &RELEASED)?;
        failed(&jobs::run(chosen, &environment, times)?)
    })
}

/// What tests that draw by chance go by: the seed is printed, and repeats the run.
fn environment(extent: Extent<'_>) -> Outcome<Vec<(&'static str, String)>> {
    let seed = match env::var("PONTOON_SEED") {
        Ok(seed) => seed,
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(Failure::act("read the clock"))?
            .as_secs()
            .to_string(),
    };
    println!(
        "PONTOON_SEED={seed} draws the same slices of matrices again; `--whole` takes all of them"
    );
    let mut environment = vec![("PONTOON_SEED", seed)];
    if extent == (Extent::All { whole: true }) {
        environment.push(("PONTOON_WHOLE", "1".to_owned()));
    }
    Ok(environment)
}
