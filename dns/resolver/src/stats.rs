//! What happened, in numbers.

use std::fmt::Write;
use std::time::Duration;

macro_rules! counters {
    ($($field:ident: $help:literal,)*) => {
        /// Counters since the start.
        #[derive(Debug, Default, Clone)]
        pub struct Stats {
            $(#[doc = $help] pub $field: u64,)*
        }

        impl Stats {
            /// Name, meaning and value of each.
            #[must_use]
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($field), $help, self.$field),)*]
            }
        }
    };
}

counters! {
    udp_queries: "datagrams received",
    tcp_queries: "messages received over TCP",
    malformed: "packets that are no query, dropped",
    local_answers: "questions answered from records",
    refused: "questions refused",
    forwarded: "questions asked of another server",
    merged: "questions that joined the same one under way",
    cache_hits: "questions answered from the cache",
    upstream_timeouts: "servers that did not answer within a second",
    upstream_refusals: "replies with SERVFAIL or REFUSED, and closed ports",
    upstream_strange: "datagrams that were no reply to our question, dropped",
    tcp_retries: "questions asked again over TCP because the reply was truncated",
    servfail: "questions that no server answered",
    stale: "questions answered with a reply that had expired, since every server was silent",
    over_limit: "questions and connections above a bound",
    send_failures: "replies that the kernel did not take",
}

impl Stats {
    /// Prometheus's text format.
    #[must_use]
    pub fn metrics(&self, gauges: &[(&str, &str, usize)]) -> String {
        let mut text = String::new();
        for (name, help, value) in self.all() {
            let name = format!("pontoon_dns_{name}_total");
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
            );
        }
        for (name, help, value) in gauges {
            let name = format!("pontoon_dns_{name}");
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
            );
        }
        text
    }
}

/// Upper bounds of the histogram, in microseconds, and as Prometheus writes them, in seconds.
const BOUNDS: [(u64, &str); 10] = [
    (50, "0.00005"),
    (250, "0.00025"),
    (1_000, "0.001"),
    (5_000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
];

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from records.
    Local,
    /// Answered from the cache.
    Cached,
    /// Answered by another server.
    Forwarded,
    /// Answered with what had expired.
    Stale,
    /// Refused.
    Refused,
    /// No server answered.
    Failed,
}

impl Outcome {
    const ALL: [(Self, &str); 6] = [
        (Self::Local, "local"),
        (Self::Cached, "cached"),
        (Self::Forwarded, "forwarded"),
        (Self::Stale, "stale"),
        (Self::Refused, "refused"),
        (Self::Failed, "failed"),
    ];
}

/// How long answers took, by outcome.
#[derive(Debug, Default, Clone)]
pub struct Times {
    counts: [[u64; BOUNDS.len() + 1]; Outcome::ALL.len()],
    micros: [u64; Outcome::ALL.len()],
}

impl Times {
    /// Notes an answer that took so long.
    pub fn note(&mut self, outcome: Outcome, took: Duration) {
        self.note_all(outcome, took, 1);
    }

    /// Notes so many answers that took at most so long.
    pub fn note_all(&mut self, outcome: Outcome, took: Duration, count: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|(bound, _)| micros <= *bound);
        let index = outcome as usize;
        self.counts[index][place.unwrap_or(BOUNDS.len())] += count;
        self.micros[index] = self.micros[index].saturating_add(micros.saturating_mul(count));
    }

    /// As Prometheus's histogram.
    #[must_use]
    pub fn metrics(&self) -> String {
        let name = "pontoon_dns_answer_seconds";
        let mut text = format!(
            "# HELP {name} time from a question to its answer, by outcome\n# TYPE {name} histogram\n"
        );
        for (outcome, word) in Outcome::ALL {
            let counts = &self.counts[outcome as usize];
            let mut sum = 0;
            for ((_, bound), count) in BOUNDS.iter().zip(counts) {
                sum += count;
                let _ = writeln!(
                    text,
                    "{name}_bucket{{outcome=\"{word}\",le=\"{bound}\"}} {sum}"
                );
            }
            sum += counts[BOUNDS.len()];
            let seconds = self.micros[outcome as usize] as f64 / 1e6;
            let _ = writeln!(
                text,
                "{name}_bucket{{outcome=\"{word}\",le=\"+Inf\"}} {sum}"
            );
            let _ = writeln!(text, "{name}_sum{{outcome=\"{word}\"}} {seconds}");
            let _ = writeln!(text, "{name}_count{{outcome=\"{word}\"}} {sum}");
        }
        text
    }

    /// For people: of each outcome how many, and the bound that nine in ten kept.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, u64, String)> {
        let all = Outcome::ALL.iter().map(|(outcome, word)| {
            let counts = &self.counts[*outcome as usize];
            let total: u64 = counts.iter().sum();
            let mut sum = 0;
            let place = counts.iter().position(|count| {
                sum += count;
                sum * 10 >= total * 9
            });
            let bound = place.and_then(|place| BOUNDS.get(place));
            let text = bound.map_or("over 5 s".to_owned(), |(micros, _)| match micros {
                1_000_000.. => format!("{} s", micros / 1_000_000),
                1_000.. => format!("{} ms", micros / 1_000),
                _ => format!("{micros} µs"),
            });
            (*word, total, text)
        });
        all.filter(|(_, total, _)| *total > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_outcome_and_bound() {
        let mut times = Times::default();
        for millis in [1, 1, 1, 1, 1, 1, 1, 1, 1, 700] {
            times.note(Outcome::Forwarded, Duration::from_millis(millis));
        }
        times.note(Outcome::Failed, Duration::from_secs(60));
        let text = times.metrics();
        for line in [
            "_bucket{outcome=\"forwarded\",le=\"0.00025\"} 0\n",
            "_bucket{outcome=\"forwarded\",le=\"0.001\"} 9\n",
            "_bucket{outcome=\"forwarded\",le=\"1\"} 10\n",
            "_bucket{outcome=\"failed\",le=\"5\"} 0\n",
            "_bucket{outcome=\"failed\",le=\"+Inf\"} 1\n",
            "_sum{outcome=\"forwarded\"} 0.709\n",
            "_count{outcome=\"forwarded\"} 10\n",
            "_count{outcome=\"local\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(
            times.summary(),
            [
                ("forwarded", 10, "1 ms".to_owned()),
                ("failed", 1, "over 5 s".to_owned())
            ]
        );
    }
}
