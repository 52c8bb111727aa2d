//! How the servers do: what each has answered, and which are asked last. Knows neither socket nor clock.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::server::Server;

/// For how long a server that did not answer is asked last.
pub const PENALTY: Duration = Duration::from_secs(30);
/// Most servers that are remembered.
const REMEMBERED: usize = 1024;

/// How one server does.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Questions that it was asked.
    pub asked: u64,
    /// Those that it did not answer.
    pub failed: u64,
    /// Microseconds until its last reply.
    pub last_micros: u64,
    /// Why the last connection over TLS failed; `None` after an answer.
    pub reason: Option<String>,
    dead_until: Option<Instant>,
}

impl Health {
    /// Whether it is asked after all others.
    #[must_use]
    pub fn is_dead(&self, now: Instant) -> bool {
        self.dead_until.is_some_and(|until| until > now)
    }
}

/// All servers that were asked.
#[derive(Debug, Default)]
pub struct Healths(HashMap<Server, Health>);

impl Healths {
    /// Each server and how it does.
    pub fn all(&self) -> impl Iterator<Item = (&Server, &Health)> {
        self.0.iter()
    }

    /// Prometheus's text format, a line for each server.
    #[must_use]
    pub fn metrics(&self) -> String {
        type Count = fn(&Health) -> u64;
        let counts: [(&str, &str, Count); 2] = [
            ("asked", "questions that a server was asked", |health| {
                health.asked
            }),
            (
                "failed",
                "questions that a server did not answer",
                |health| health.failed,
            ),
        ];
        let mut text = String::new();
        for (word, help, count) in counts {
            let name = format!("pontoon_dns_server_{word}_total");
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for (server, health) in &self.0 {
                let _ = writeln!(text, "{name}{{server=\"{server}\"}} {}", count(health));
            }
        }
        text
    }

    /// Whether a server is asked after all others.
    #[must_use]
    pub fn is_dead(&self, server: &Server, now: Instant) -> bool {
        self.0.get(server).is_some_and(|health| health.is_dead(now))
    }

    /// Notes a question.
    pub fn asked(&mut self, server: &Server) {
        if let Some(health) = self.0.get_mut(server) {
            health.asked += 1;
            return;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.entry(server.clone()).or_default().asked += 1;
    }

    /// Notes a reply, whatever it says.
    pub fn answered(&mut self, server: &Server, took: Duration) {
        if let Some(health) = self.0.get_mut(server) {
            health.dead_until = None;
            health.reason = None;
            health.last_micros = took.as_micros().try_into().unwrap_or(u64::MAX);
        }
    }

    /// Notes a silence or a failure. `reason` is that of a connection over TLS.
    pub fn failed(&mut self, server: &Server, reason: Option<&str>, now: Instant) {
        let health = self.0.entry(server.clone()).or_default();
        health.failed += 1;
        health.dead_until = Some(now + PENALTY);
        if let Some(reason) = reason {
            health.reason = Some(reason.to_owned());
        }
    }
}
