//! How long an attack goes on, what it chooses by, and who does it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the command line asks for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// All of it, however long it takes.
    pub(crate) whole: bool,
    /// Where random choices begin.
    pub(crate) seed: u64,
    /// When a part stops.
    pub(crate) until: Instant,
    /// Only what has this in its name.
    pub(crate) only: Option<String>,
    /// How many points of a verb a slice tries.
    pub(crate) slice: Option<usize>,
    /// Only this system call of this verb.
    pub(crate) at: Option<(String, usize)>,
    /// For how long a slice goes on.
    pub(crate) seconds: u64,
}

impl Settings {
    /// Time is over; never for the whole.
    pub(crate) fn is_over(&self) -> bool {
        !self.whole && Instant::now() > self.until
    }

    /// A run of so many seconds.
    pub(crate) fn new(seconds: u64, seed: u64, whole: bool, only: Option<String>) -> Self {
        Self {
            whole,
            seed,
            until: Instant::now() + Duration::from_secs(seconds),
            only,
            slice: None,
            at: None,
            seconds,
        }
    }

    /// The command that does an attack with these settings.
    pub(crate) fn command(&self, attack: &str) -> String {
        let extent = match self.whole {
            true => "--whole".to_owned(),
            false => format!("--seconds {}", self.seconds),
        };
        let only = self.only.as_ref();
        let only = only.map_or_else(String::new, |only| format!(" --only \"{only}\""));
        let points = self.slice;
        let points = points.map_or_else(String::new, |count| format!(" --points {count}"));
        format!(
            "cargo xtask attack {attack} {extent} --seed {}{only}{points}",
            self.seed
        )
    }

    /// The same, beginning now, for another part of so many seconds.
    pub(crate) fn again(&self, seconds: u64) -> Self {
        Self {
            slice: self.slice,
            at: self.at.clone(),
            ..Self::new(seconds, self.seed, self.whole, self.only.clone())
        }
    }

    /// Whether this system call of a verb is asked for.
    pub(crate) fn wants_point(&self, verb: &str, number: usize) -> bool {
        let at = self.at.as_ref();
        at.is_none_or(|(only, at)| only == verb && *at == number)
    }

    /// Whether this is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit as u64)).unwrap_or(0)
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// Does so many jobs by several threads, each job on hosts of its own. Most of a job is waiting.
pub(crate) fn in_parallel(settings: &Settings, jobs: usize, job: impl Fn(usize) + Sync) {
    const WORKERS: usize = 6;
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= jobs || settings.is_over() {
                        break;
                    }
                    job(at);
                }
            });
        }
    });
}
