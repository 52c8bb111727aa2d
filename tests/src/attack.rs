//! `cargo xtask attack`: what a hostile environment does to the plugins, and what they leave then.
//!
//! - `kill` ends a verb at each of its system calls.
//! - `fail` makes each system call of a verb fail once.
//! - `power` cuts the directory of leases off between any two changes.
//! - `hostile` hands plugins configurations and variables that are mutated at random.
//! - `storm` has containers come and go with kills, vanishing namespaces and flushes in between;
//!   `storm beside` runs the admin's GC beside ADDs as well, `storm exchange` the reference plugins on one
//!   network.
//!
//! A slice takes a part by random choice from a seed, which is printed; `--whole` takes all, and
//! `--count` only says how many points there are.

mod calls;
mod fail;
mod hostile;
mod kill;
mod known;
mod machine;
mod power;
mod report;
mod scene;
mod storm;
mod tracer;
mod work;

use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_lab::{Failure, Outcome};

use self::report::{Summary, conclude};
use self::storm::Kind;
use self::work::Settings;

const USAGE: &str = "usage: cargo xtask attack all|kill|fail|power|hostile|storm|storm beside|storm exchange [--seconds N] [--seed S] [--whole] [--only PLUGIN] [--points N] [--at VERB:CALL] [--count]";

/// Where the slices of the suite begin.
const SEED_OF_SUITE: u64 = 1;

/// The parts, and for how many seconds a slice of each goes on in the suite.
const PARTS: [(&str, u64); 7] = [
    ("kill", 45),
    ("fail", 45),
    ("power", 10),
    ("hostile", 20),
    ("storm", 40),
    ("storm beside", 40),
    ("storm exchange", 40),
];

/// Runs the attacks that the command line asks for.
pub(crate) fn run(arguments: &[&str]) -> Outcome {
    let (mut seconds, mut whole, mut only, mut slice) = (None, false, None, None);
    let (mut count, mut at) = (false, None);
    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_secs());
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut number = || -> Outcome<u64> {
            let value = rest.next().ok_or_else(|| Failure::new(USAGE))?;
            value.parse().map_err(Failure::act(USAGE))
        };
        match *word {
            "--seconds" => seconds = Some(number()?),
            "--seed" => seed = number()?,
            "--points" => slice = usize::try_from(number()?).ok(),
            "--whole" => whole = true,
            "--count" => count = true,
            "--at" => {
                let text = rest.next().ok_or_else(|| Failure::new(USAGE))?;
                let (verb, call) = text.split_once(':').ok_or_else(|| Failure::new(USAGE))?;
                let call = call.parse().map_err(Failure::act(USAGE))?;
                at = Some((verb.to_owned(), call));
            }
            "--only" => {
                let text = rest.next().ok_or_else(|| Failure::new(USAGE))?;
                only = Some((*text).to_owned());
            }
            part => words.push(part),
        }
    }
    let name = words.join(" ");
    let all = name == "all";
    // Counting asks every plugin, however long it takes.
    let otherwise = if count { 3600 } else { 60 };
    let mut settings = Settings::new(
        seconds.unwrap_or(otherwise),
        seed,
        whole || all && seconds.is_none(),
        only,
    );
    settings.at = at;
    settings.slice = if count { Some(0) } else { slice };
    let parts: Vec<&str> = PARTS
        .iter()
        .map(|(part, _)| *part)
        .filter(|part| all || *part == name)
        .collect();
    if parts.is_empty() {
        return Err(Failure::new(USAGE));
    }
    let summaries: Outcome<Vec<Summary>> = parts
        .into_iter()
        .map(|part| attack(part, &settings.again(settings.seconds)))
        .collect();
    conclude(&summaries?)
}

/// A slice of each part, or with `whole` all of it, for the suite. The slice is the same each time, so that a
/// finding is about what has changed; other slices are drawn by other seeds.
pub(crate) fn of_suite(whole: bool) -> Outcome {
    let summaries: Outcome<Vec<Summary>> = PARTS
        .into_iter()
        .map(|(part, seconds)| attack(part, &Settings::new(seconds, SEED_OF_SUITE, whole, None)))
        .collect();
    conclude(&summaries?)
}

fn attack(part: &str, settings: &Settings) -> Outcome<Summary> {
    println!("== attack {part} (seed {})", settings.seed);
    match part {
        "kill" => Ok(kill::run(settings)),
        "fail" => Ok(fail::run(settings)),
        "power" => power::run(settings),
        "hostile" => hostile::run(settings),
        "storm" => storm::run(settings, Kind::Plain),
        "storm beside" => storm::run(settings, Kind::Beside),
        "storm exchange" => storm::run(settings, Kind::Exchange),
        _ => Err(Failure::new(USAGE)),
    }
}
