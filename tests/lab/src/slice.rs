//! A part of a long list of cases, another part in each run.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// Draws the same slices again: any number.
const SEED: &str = "PONTOON_SEED";
/// With any value every case of every list is tried.
const WHOLE: &str = "PONTOON_WHOLE";

/// Whether every case is to be tried.
#[must_use]
pub fn whole() -> bool {
    env::var_os(WHOLE).is_some()
}

/// `count` of the cases, in their order, drawn by the seed in `PONTOON_SEED` or by the clock; all of
/// them with `PONTOON_WHOLE`. The seed is printed with what fails.
#[must_use]
pub fn slice<T>(name: &str, cases: impl IntoIterator<Item = T>, count: usize) -> Vec<T> {
    let cases: Vec<T> = cases.into_iter().collect();
    if whole() || cases.len() <= count {
        return cases;
    }
    let seed = seed();
    eprintln!(
        "{name}: {count} of {} cases; {SEED}={seed} draws these again, {WHOLE}=1 takes all",
        cases.len()
    );
    let chosen = draw(mixed(seed, name), cases.len(), count);
    let numbered = cases.into_iter().enumerate();
    numbered
        .filter(|(number, _)| chosen.contains(number))
        .map(|(_, case)| case)
        .collect()
}

fn seed() -> u64 {
    let told = env::var(SEED).ok().and_then(|text| text.parse().ok());
    told.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    })
}

/// Each list draws differently: FNV-1a of its name, begun with the seed.
fn mixed(seed: u64, name: &str) -> u64 {
    name.bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// `count` of the numbers below `length`, each as likely as another.
fn draw(seed: u64, length: usize, count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..length).collect();
    let mut state = seed;
    for place in 0..count.min(length) {
        // splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        let rest = (length - place) as u64;
        numbers.swap(place, place + (word % rest) as usize);
    }
    numbers.truncate(count);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_another_seed_other_cases() {
        assert_eq!(draw(7, 100, 5), draw(7, 100, 5));
        assert_ne!(draw(7, 100, 5), draw(8, 100, 5));
        assert_ne!(mixed(7, "one"), mixed(7, "two"));
    }

    #[test]
    fn every_case_is_drawn_in_the_long_run() {
        let mut drawn = [0; 10];
        for seed in 0..1000 {
            let mut chosen = draw(mixed(seed, "list"), 10, 3);
            chosen.iter().for_each(|number| drawn[*number] += 1);
            chosen.sort_unstable();
            chosen.dedup();
            assert_eq!(chosen.len(), 3, "no case is drawn twice");
        }
        // Three of ten, a thousand times: 300 each, with a standard deviation of 14.5.
        assert!(
            drawn.iter().all(|count| (220..380).contains(count)),
            "{drawn:?}"
        );
    }
}
