//! `cargo xtask attack`: what a hostile environment does to the plugins, and what they leave then.
//!
//! - `kill` ends a verb at each of its system calls.
//! - `fail` makes each system call of a verb fail once.
//! - `power` cuts the directory of leases off between any two changes.
//! - `storm` has containers come and go with kills, vanishing namespaces and flushes in between;
//!   `storm beside` runs the admin's GC beside ADDs as well.
//!
//! A slice takes a part by random choice from a seed, which is printed; `--whole` takes all.

mod calls;
mod fail;
mod kill;
mod known;
mod machine;
mod power;
mod report;
mod scene;
mod storm;
mod tracer;
mod work;

use pontoon_lab::{Failure, Outcome};

use work::Settings;

const USAGE: &str = "usage: cargo xtask attack kill|fail|power|storm|storm beside [--seconds N] [--seed S] [--whole] [--only PLUGIN] [--points N]";

/// Runs one attack.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (mut seconds, mut whole, mut only, mut slice) = (60, false, None, None);
    let mut seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.as_secs());
    let mut parts = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut number = || -> Outcome<u64> {
            let value = rest.next().ok_or_else(|| Failure::new(USAGE))?;
            value.parse().map_err(Failure::act(USAGE))
        };
        match *word {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            "--points" => slice = usize::try_from(number()?).ok(),
            "--whole" => whole = true,
            "--only" => {
                let text = rest.next().ok_or_else(|| Failure::new(USAGE))?;
                only = Some((*text).to_owned());
            }
            part => parts.push(part),
        }
    }
    let mut settings = Settings::new(seconds, seed, whole, only);
    settings.slice = slice;
    println!("== attack {} (seed {seed})", parts.join(" "));
    match parts.as_slice() {
        ["kill"] => kill::run(&settings),
        ["fail"] => fail::run(&settings),
        ["power"] => power::run(&settings),
        ["storm"] => storm::run(&settings, false),
        ["storm", "beside"] => storm::run(&settings, true),
        _ => Err(Failure::new(USAGE)),
    }
}
