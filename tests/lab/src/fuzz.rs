//! Mutations of good input, for what reads it: nothing may panic, and what is said of each must hold
//! together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For how many seconds each reader is tried: one, unless this says otherwise.
const SECONDS: &str = "PONTOON_FUZZ_SECONDS";
/// Where to begin: the seed that is printed with a finding.
const SEED: &str = "PONTOON_FUZZ_SEED";
/// Where a run of the suite begins.
const SUITE_SEED: &str = "PONTOON_SEED";

/// Random numbers, the same for the same seed (xorshift64*).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() >> 33) as usize % end.max(1)
    }

    /// One of `good` with up to seven changes: bits and bytes that are others, words of 16 bits at their
    /// limits, an end that is missing, pieces that come twice or from another.
    pub fn mutate(&mut self, good: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = good[self.below(good.len())].clone();
        for _ in 0..self.below(8) {
            let at = self.below(bytes.len());
            let left = bytes.len() - at;
            match self.below(9) {
                0 if left > 0 => bytes[at] ^= 1 << self.below(8),
                1 if left > 0 => bytes[at] = self.roll() as u8,
                2 if left > 0 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 if left > 1 => {
                    let word: u16 = [0, 1, 3, 4, 0x7fff, 0xfffd, 0xffff][self.below(7)];
                    bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
                }
                4 => bytes.truncate(at),
                5 => bytes.insert(at, self.roll() as u8),
                6 => {
                    let piece = bytes[at..at + self.below(left)].to_vec();
                    bytes.splice(at..at, piece);
                }
                7 => {
                    let end = at + self.below(left);
                    bytes.drain(at..end);
                }
                _ => {
                    let other = &good[self.below(good.len())];
                    let start = self.below(other.len());
                    let end = start + self.below(other.len() - start);
                    bytes.splice(at..at, other[start..end].to_vec());
                }
            }
        }
        bytes
    }
}

/// Runs `check` on mutations of `good` until the time is over, and panics with the seed of the first
/// one that it panics on.
///
/// # Panics
/// When `check` does, and when `good` is empty.
#[track_caller]
pub fn fuzz(what: &str, good: &[Vec<u8>], mut check: impl FnMut(&[u8], &mut Dice)) {
    assert!(!good.is_empty(), "{what}: no corpus");
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number(SECONDS).unwrap_or(1);
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    let mut seed = number(SEED).or_else(|| number(SUITE_SEED)).unwrap_or(clock) | 1;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0u64;
    while count == 0 || Instant::now() < end {
        for _ in 0..64 {
            let mut dice = Dice(seed);
            let bytes = dice.mutate(good);
            let checked = catch_unwind(AssertUnwindSafe(|| check(&bytes, &mut dice)));
            assert!(
                checked.is_ok(),
                "{what}: {SEED}={seed} {}",
                bytes.escape_ascii()
            );
            seed = Dice(seed).roll() | 1;
            count += 1;
        }
    }
    eprintln!("{what}: {count} tried");
}
