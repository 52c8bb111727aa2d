//! One line for each operation, when they are asked for: in a file or in the journal, never on
//! standard output. Asked for by the key `log` or by `PONTOON_LOG`: an absolute path, or `journal`.
//! A log that cannot be written is told on standard error, and stops nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pontoon_conf::{AddResult, Error, Invocation, NetworkConfig, Verb, field};
use serde_json::Value;

use crate::warning;

/// Where the journal takes messages (systemd's native protocol).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Longest line, in bytes: one write of this length is never mixed with another's.
const LONGEST: usize = 4096;
/// Priorities of syslog (RFC 5424, table 2).
const WARNING: u8 = 4;
const INFORMATIONAL: u8 = 6;

/// Where lines go, and what is known at the start of an operation.
#[derive(Debug)]
pub(crate) struct Log {
    sink: Option<Sink>,
    started: Instant,
    plugin: &'static str,
    verb: Verb,
    /// What the operation is about, a word each.
    about: Vec<(&'static str, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Sink {
    File(String),
    Journal,
    /// Neither: what was asked for.
    Unknown(String),
}

impl Sink {
    fn named(name: &str) -> Option<Self> {
        match name {
            "" => None,
            "journal" => Some(Self::Journal),
            path if path.starts_with('/') => Some(Self::File(path.to_owned())),
            other => Some(Self::Unknown(other.to_owned())),
        }
    }
}

impl Log {
    /// Of a call whose configuration has not been read.
    pub(crate) fn begin(
        plugin: &'static str,
        invocation: &Invocation,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let sink = variable("PONTOON_LOG").and_then(|name| Sink::named(&name));
        let mut log = Self {
            sink,
            started: Instant::now(),
            plugin,
            verb: invocation.verb,
            about: Vec::new(),
        };
        let trace = variable("TRACEPARENT");
        if let Some(id) = trace.as_deref().and_then(trace_id) {
            log.about.push(("trace", id.to_owned()));
        }
        log
    }

    /// The configuration is known now, and may ask for lines itself.
    pub(crate) fn configured(&mut self, invocation: &Invocation, config: &NetworkConfig) {
        let keys = config.raw.as_object();
        let name = keys
            .and_then(|keys| field(keys, "log"))
            .and_then(Value::as_str);
        if let Some(sink) = name.and_then(Sink::named) {
            self.sink = Some(sink);
        }
        if self.sink.is_none() {
            return;
        }
        let mut about = vec![("network", config.name.to_string())];
        if let Ok((container, interface)) = invocation.attachment() {
            about.push(("container", container.to_string()));
            about.push(("interface", interface.to_string()));
        }
        about.append(&mut self.about);
        self.about = about;
    }

    /// The operation has ended so.
    pub(crate) fn end(self, outcome: Result<Option<&AddResult>, &Error>) {
        let Some(sink) = &self.sink else { return };
        let took = format!(
            " in {:.1} ms",
            self.started.elapsed().as_secs_f64() * 1000.0
        );
        let mut lines: Vec<(String, u8)> = warning::take()
            .iter()
            .map(|text| {
                let text = self.without_prefix(text);
                let more = [("warning", text.to_owned())];
                (self.line("warning", &more), WARNING)
            })
            .collect();
        lines.push(match outcome {
            Ok(attached) => (
                self.line(&format!("ok{took}"), &told(attached)),
                INFORMATIONAL,
            ),
            Err(error) => {
                let more = [
                    ("code", error.code.to_string()),
                    ("error", error.to_string()),
                ];
                (self.line(&format!("failed{took}"), &more), WARNING)
            }
        });
        let done = lines.iter().try_for_each(|(text, priority)| match sink {
            Sink::File(path) => append(path, text),
            Sink::Journal => self.tell_journal(text, *priority),
            Sink::Unknown(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither an absolute path nor \"journal\"",
            )),
        });
        if let Err(error) = done {
            let name = match sink {
                Sink::File(name) | Sink::Unknown(name) => name.as_str(),
                Sink::Journal => JOURNAL,
            };
            let plugin = self.plugin;
            warning::print(format_args!(
                "{plugin}: cannot write the log {name}: {error}"
            ));
        }
    }

    /// A warning without the words that the line has anyway.
    fn without_prefix<'a>(&self, text: &'a str) -> &'a str {
        let named = text.strip_prefix(self.plugin);
        let text = named
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(text);
        text.strip_prefix("warning: ").unwrap_or(text)
    }

    fn line(&self, what: &str, more: &[(&'static str, String)]) -> String {
        let mut line = format!("{} {} {what}", self.plugin, self.verb.as_str());
        for (key, value) in self.about.iter().chain(more) {
            let _ = write!(line, " {key}={}", word(value));
        }
        let end = line.floor_char_boundary(LONGEST - 64);
        line.truncate(end);
        line
    }

    /// A datagram of fields, one a line; none of the values has a line break.
    fn tell_journal(&self, text: &str, priority: u8) -> io::Result<()> {
        let mut message = format!(
            "MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=pontoon\nCNI_PLUGIN={}\nCNI_COMMAND={}\n",
            self.plugin,
            self.verb.as_str()
        );
        for (key, value) in &self.about {
            let _ = writeln!(message, "CNI_{}={}", key.to_uppercase(), plain(value));
        }
        UnixDatagram::unbound()?
            .send_to(message.as_bytes(), JOURNAL)
            .map(drop)
    }
}

/// What an ADD has given.
fn told(attached: Option<&AddResult>) -> Vec<(&'static str, String)> {
    let ips = attached.map_or(&[][..], |attached| &attached.ips);
    ips.iter()
        .map(|ip| ("address", ip.address.to_string()))
        .collect()
}

fn append(path: &str, text: &str) -> io::Result<()> {
    let line = format!("{} {text}\n", now());
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    options.open(path)?.write_all(line.as_bytes())
}

/// Without control characters, which could forge a line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// As one word: in quotes where it has blanks or quotes.
fn word(text: &str) -> String {
    let text = plain(text);
    if !text.is_empty() && !text.contains([' ', '"', '=']) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2.2): 32 lower-case hex digits, not
/// all of them zero.
fn trace_id(parent: &str) -> Option<&str> {
    let mut fields = parent.trim().split('-');
    let (version, id, span) = (fields.next()?, fields.next()?, fields.next()?);
    let hex = |text: &str, length: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.len() == length && text.bytes().all(digit)
    };
    let sound = hex(version, 2) && version != "ff" && hex(id, 32) && hex(span, 16);
    (sound && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

/// The time in UTC, to the millisecond (RFC 3339).
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    stamp(since)
}

fn stamp(since: Duration) -> String {
    const DAY: u64 = 86_400;
    // Days since 0000-03-01, so that leap days end a year; 400 years are 146,097 days.
    let days = since.as_secs() / DAY + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + carry;
    let second = since.as_secs() % DAY;
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_795_737_600, "2026-11-27T00:00:00.000Z"),
        ] {
            assert_eq!(stamp(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_trace_is_known_by_its_form() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")), Some(id));
        for wrong in [
            "",
            "00-4bf9-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_warning_has_a_line_before_that_of_its_call() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log {
            sink: Some(Sink::File(path.display().to_string())),
            started: Instant::now(),
            plugin: "dns",
            verb: Verb::Add,
            about: vec![("network", "lan".to_owned())],
        };
        warning::warn("dns: warning: no server\nat all");
        warning::warn("the address stays");
        log.end(Ok(None));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(
            lines[..2],
            [
                "dns ADD warning network=lan warning=\"no server at all\"",
                "dns ADD warning network=lan warning=\"the address stays\"",
            ]
        );
        assert!(lines[2].starts_with("dns ADD ok in "), "{lines:?}");
        assert_eq!(lines.len(), 3);
        assert!(warning::take().is_empty());
    }

    #[test]
    fn a_word_stays_one() {
        assert_eq!(word("eth0"), "eth0");
        assert_eq!(word(""), "\"\"");
        assert_eq!(word("a b"), "\"a b\"");
        assert_eq!(word("a\nADD \"ok\""), "\"a ADD \\\"ok\\\"\"");
    }
}
