//! `cargo xtask attack`: what a hostile environment does to the plugins, and what they leave then.
//!
//! - `kill` ends a verb at each of its system calls.
//! - `fail` makes each system call of a verb fail once.
//!
//! A slice takes a part by random choice from a seed, which is printed; `--whole` takes all.

mod calls;
mod fail;
mod kill;
mod known;
mod machine;
mod report;
mod scene;
mod tracer;
mod work;

use pontoon_lab::{Failure, Outcome};

use work::Settings;

const USAGE: &str =
    "usage: cargo xtask attack kill|fail [--seconds N] [--seed S] [--whole] [--only TEXT]";

/// Runs one attack.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (mut seconds, mut whole, mut only) = (60, false, None);
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
            "--whole" => whole = true,
            "--only" => {
                let text = rest.next().ok_or_else(|| Failure::new(USAGE))?;
                only = Some((*text).to_owned());
            }
            part => parts.push(part),
        }
    }
    let settings = Settings::new(seconds, seed, whole, only);
    println!("== attack {} (seed {seed})", parts.join(" "));
    match parts.as_slice() {
        ["kill"] => kill::run(&settings),
        ["fail"] => fail::run(&settings),
        _ => Err(Failure::new(USAGE)),
    }
}
