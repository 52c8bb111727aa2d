//! The control socket: one line in, one answer out, then the end.
//!
//! ```text
//! sync NETWORK/CONTAINER:IFNAME   ok PORT | error TEXT    the record is seen as it is now
//! ls                              JSON                    all attachments
//! status                          JSON                    counters, servers, warnings
//! metrics                         text                    Prometheus's format
//! query NAME TYPE [AS]            JSON                    as a container would be answered
//! ```

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pontoon_dns::answer::{Refusal, Verdict, decide_for, write};
use pontoon_dns::internal::confinement;
use pontoon_dns::message::Query;
use pontoon_dns::name::Name;
use pontoon_dns::present;
use pontoon_dns::zone::{Asker, Key};
use serde_json::{Value, json};

use super::flight::{Client, waits};
use super::outside::Look;
use super::poll::{Interest, Source};
use super::slab::{Id, Slab};
use super::{Daemon, Fate, MESSAGE};

/// Most commands at a time.
const MOST: usize = 256;
/// Longest command, in bytes.
const LONGEST: usize = 4096;
/// For how long a command may take to be read, or its answer to be taken.
const IDLE: Duration = Duration::from_secs(10);

struct Command {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// What is said beside the reply that is waited for.
    about: Option<Value>,
    since: Instant,
}

/// All connections of the control socket.
#[derive(Default)]
pub(crate) struct Commands(Slab<Command>);

impl Commands {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Daemon {
    pub(super) fn accept_command(&mut self, now: Instant) {
        loop {
            let stream = match self.control.accept() {
                Ok((stream, _)) => stream,
                Err(error) => return self.pause_accepting(&error, now),
            };
            if self.commands.len() >= MOST || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let id = self.commands.0.insert(Command {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                about: None,
                since: now,
            });
            let Some(command) = self.commands.0.get(id) else {
                continue;
            };
            let added = self
                .poll
                .add(&command.stream, Source::Command(id), Interest::Read);
            if added.is_err() {
                self.commands.0.remove(id);
            } else {
                // It was mostly written before it was accepted.
                self.command_ready(id, false);
            }
        }
    }

    pub(super) fn command_ready(&mut self, id: Id, broken: bool) {
        let Some(command) = self.commands.0.get_mut(id) else {
            return;
        };
        if !command.output.is_empty() {
            return self.finish_command(id);
        }
        let mut buffer = [0; 1024];
        loop {
            match command.stream.read(&mut buffer) {
                Ok(0) => return drop(self.commands.0.remove(id)),
                Ok(count) => {
                    command.input.extend_from_slice(&buffer[..count]);
                    if command.input.len() > LONGEST {
                        return drop(self.commands.0.remove(id));
                    }
                }
                Err(error) if waits(&error) => break,
                Err(_) => return drop(self.commands.0.remove(id)),
            }
        }
        let Some(end) = command.input.iter().position(|byte| *byte == b'\n') else {
            if broken {
                self.commands.0.remove(id);
            }
            return;
        };
        let line = String::from_utf8_lossy(&command.input[..end]).into_owned();
        command.input.clear();
        if let Some(answer) = self.obey(id, &line) {
            self.tell(id, answer);
        }
    }

    fn tell(&mut self, id: Id, answer: String) {
        if let Some(command) = self.commands.0.get_mut(id) {
            command.output = answer.into_bytes();
            command.output.push(b'\n');
            self.finish_command(id);
        }
    }

    /// Writes what can be written, and ends the connection when it is all.
    fn finish_command(&mut self, id: Id) {
        let Some(command) = self.commands.0.get_mut(id) else {
            return;
        };
        while !command.output.is_empty() {
            match command.stream.write(&command.output) {
                Ok(count) if count > 0 => drop(command.output.drain(..count)),
                Err(error) if waits(&error) => {
                    let source = Source::Command(id);
                    if self
                        .poll
                        .change(&command.stream, source, Interest::Write)
                        .is_ok()
                    {
                        return;
                    }
                    break;
                }
                _ => break,
            }
        }
        self.commands.0.remove(id);
    }

    /// The answer to a command; `None` when it comes later.
    fn obey(&mut self, id: Id, line: &str) -> Option<String> {
        let mut words = line.split_whitespace();
        let answer = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("sync"), Some(path), None, None) => self.sync(path),
            (Some("ls"), None, None, None) => self.list().to_string(),
            (Some("status"), None, None, None) => self.status().to_string(),
            (Some("metrics"), None, None, None) => self.metrics(),
            // What a collector says that speaks HTTP over this socket.
            (Some("GET"), Some("/metrics"), Some(_), None) => http(&self.metrics()),
            (Some("query"), Some(name), Some(kind), asker) => {
                return match self.query(id, name, kind, asker) {
                    Ok(answer) => answer.map(|answer| answer.to_string()),
                    Err(text) => Some(json!({ "error": text }).to_string()),
                };
            }
            _ => "error unknown command".to_owned(),
        };
        Some(answer)
    }

    fn sync(&mut self, path: &str) -> String {
        let Some(key) = Key::parse(path) else {
            return format!("error {path:?} names no record");
        };
        let warnings = self.store.read_one(&mut self.zone, &key);
        let unread = warnings.first().cloned();
        self.warn(warnings);
        self.fit();
        let there = self
            .zone
            .of_container(&key.container)
            .find(|attachment| attachment.key == key);
        match (there, unread) {
            (None, Some(text)) => format!("error {text}"),
            (Some(attachment), _) => {
                let deaf = attachment
                    .gateways
                    .iter()
                    .find(|gateway| !self.listeners.has(**gateway));
                match deaf {
                    Some(gateway) => {
                        format!("error cannot listen at {gateway} port {}", self.port)
                    }
                    None => format!("ok {}", self.port),
                }
            }
            (None, None) => format!("ok {}", self.port),
        }
    }

    fn list(&self) -> Value {
        let texts = |addresses: &[IpAddr]| -> Vec<String> {
            addresses.iter().map(ToString::to_string).collect()
        };
        let attachments = self.zone.attachments().map(|attachment| {
            let links: Vec<Value> = attachment
                .links
                .iter()
                .map(|(alias, target)| {
                    json!({ "alias": alias.to_string(), "target": target.to_string() })
                })
                .collect();
            let names: Vec<String> = attachment.names.iter().map(Name::to_string).collect();
            json!({
                "network": attachment.key.network,
                "container": attachment.key.container,
                "interface": attachment.key.interface,
                "names": names,
                "links": links,
                "addresses": texts(&attachment.addresses),
                "gateways": texts(&attachment.gateways),
                "domain": attachment.domain.to_string(),
                "ttl": attachment.ttl,
            })
        });
        attachments.collect()
    }

    fn gauges(&self) -> [(&'static str, &'static str, usize); 6] {
        [
            ("records", "attachments known", self.zone.len()),
            (
                "listeners",
                "addresses listened at",
                self.listeners.addresses().len(),
            ),
            (
                "tcp_connections",
                "open connections of clients",
                self.clients.len(),
            ),
            (
                "in_flight",
                "questions asked of other servers",
                self.forwarder.under_way(),
            ),
            (
                "cache_entries",
                "replies in the cache",
                self.forwarder.cache.len(),
            ),
            ("warnings", "warnings kept", self.warnings.len()),
        ]
    }

    fn metrics(&self) -> String {
        self.stats.metrics(&self.gauges()) + &self.times.metrics()
    }

    fn status(&self) -> Value {
        let now = Instant::now();
        let mut numbers = serde_json::Map::new();
        for (name, _, value) in self.gauges() {
            numbers.insert(name.to_owned(), value.into());
        }
        for (name, _, value) in self.stats.all() {
            numbers.insert(name.to_owned(), value.into());
        }
        let health = &self.forwarder.upstreams.health;
        let servers: Vec<Value> = health
            .iter()
            .map(|(server, health)| {
                json!({
                    "server": server.to_string(),
                    "asked": health.asked,
                    "failed": health.failed,
                    "lastMicroseconds": health.last_micros,
                    "triedLast": health.is_dead(now),
                })
            })
            .collect();
        let mut listening: Vec<String> = self
            .listeners
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        listening.sort();
        let answers: Vec<Value> = self
            .times
            .summary()
            .into_iter()
            .map(|(outcome, count, within)| {
                json!({ "outcome": outcome, "count": count, "nineInTenWithin": within })
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .rev()
            .map(|failure| {
                json!({
                    "secondsAgo": now.saturating_duration_since(failure.at).as_secs(),
                    "name": failure.name,
                    "type": present::kind_name(failure.kind),
                    "source": failure.source.to_string(),
                    "reason": failure.reason,
                })
            })
            .collect();
        json!({
            "pid": std::process::id(),
            "port": self.port,
            "stay": self.options.stay,
            "listening": listening,
            "numbers": numbers,
            "servers": servers,
            "answers": answers,
            "failures": failures,
            "warnings": self.warnings,
        })
    }

    /// Asks as a container, and says why the answer is what it is.
    fn query(
        &mut self,
        id: Id,
        name: &str,
        kind: &str,
        asker: Option<&str>,
    ) -> Result<Option<Value>, String> {
        let name = Name::parse(name).ok_or_else(|| format!("{name:?} is no domain name"))?;
        let kind = present::kind(kind).ok_or_else(|| format!("{kind:?} is no record type"))?;
        let packet = present::query(&name, kind);
        let query = Query::parse(&packet).map_err(|_| "no query".to_owned())?;
        let source = match asker {
            None => IpAddr::from([127, 0, 0, 1]),
            Some(text) => self
                .source_of(text)
                .ok_or_else(|| format!("there is no container {text:?}"))?,
        };
        let asker = self.zone.asker(source);
        let verdict = decide_for(&self.zone, asker, &query);
        let (whom, networks) = match asker {
            Asker::Container(id) => {
                let networks = self.zone.of_container(id);
                let names = networks.map(|attachment| attachment.key.network.clone());
                (format!("container {id}"), names.collect())
            }
            Asker::Host => ("the host".to_owned(), Vec::new()),
            Asker::Stranger => ("a stranger".to_owned(), Vec::<String>::new()),
        };
        let mut about = json!({ "as": whom, "networks": networks, "source": source.to_string() });
        let mut out = Vec::new();
        if write(&verdict, &query, 0, MESSAGE, &mut out) {
            about["why"] = why(&verdict).into();
            about["reply"] = present::reply(&out);
            return Ok(Some(about));
        }
        let route = self.zone.at(source).map(|attachment| &attachment.route);
        let now = Instant::now();
        let mut look = Look {
            outside: &mut self.outside,
            zone: &self.zone,
            now,
        };
        let confined = confinement(&self.zone, asker, &mut look);
        let way =
            self.forwarder
                .upstreams
                .way(&self.zone, route, name.wire(), confined.as_deref(), now);
        let confined = confined.is_some();
        let servers: Vec<String> = way.servers.iter().map(ToString::to_string).collect();
        let hits = self.stats.cache_hits;
        let fate = self.forward(&query, Client::Command(id), source, MESSAGE);
        about["servers"] = servers.clone().into();
        about["why"] = match (self.stats.cache_hits > hits, servers.is_empty()) {
            (_, true) if confined => why(&Verdict::Refused(Refusal::Internal)),
            (true, _) => format!("no name of ours; from the cache of {}", way.origin),
            (false, true) => format!("no name of ours, and {} names no usable server", way.origin),
            (false, false) => format!("no name of ours; asked of {}", way.origin),
        }
        .into();
        if fate == Fate::Reply {
            about["reply"] = present::reply(&self.out);
            return Ok(Some(about));
        }
        if let Some(command) = self.commands.0.get_mut(id) {
            command.about = Some(about);
        }
        Ok(None)
    }

    /// An address, or that of a container by id, the beginning of it, or name.
    fn source_of(&self, text: &str) -> Option<IpAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let named = Name::parse(text);
        let mut by_name = named
            .iter()
            .flat_map(|name| self.zone.named(Asker::Host, name.wire()));
        let mut by_id = self
            .zone
            .attachments()
            .filter(|attachment| attachment.key.container.starts_with(text));
        let exact = self.zone.of_container(text).next();
        exact
            .or_else(|| by_name.next())
            .or_else(|| by_id.next())
            .and_then(|attachment| attachment.addresses.first().copied())
    }

    /// The reply that a `query` command waits for: what is in `out`.
    pub(super) fn reply_to_command(&mut self, id: Id) {
        let Some(command) = self.commands.0.get_mut(id) else {
            return;
        };
        let mut about = command.about.take().unwrap_or_else(|| json!({}));
        about["reply"] = present::reply(&self.out);
        self.tell(id, about.to_string());
    }

    pub(super) fn sweep_commands(&mut self, now: Instant) {
        for id in self.commands.0.ids() {
            let idle = self
                .commands
                .0
                .get(id)
                .is_some_and(|command| now.saturating_duration_since(command.since) > IDLE);
            if idle {
                self.commands.0.remove(id);
            }
        }
    }
}

/// Text for a collector of Prometheus's; the newline at the end comes with every answer.
fn http(text: &str) -> String {
    let length = text.len() + 1;
    format!(
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Addresses { .. } => "a name of the asker's networks",
        Verdict::Pointer { .. } => "an address of the asker's networks",
        Verdict::Authority { .. } => "our domain itself",
        Verdict::NoData { .. } => "a known name that has nothing of this type",
        Verdict::NoName { .. } => "in our domain, and no name of the asker's networks",
        Verdict::Refused(Refusal::Stranger) => "no container has this address, nor the host",
        Verdict::Refused(Refusal::Kind) => "ANY and zone transfers are refused",
        Verdict::Refused(Refusal::Class) => "not the class of the internet",
        Verdict::Refused(Refusal::Internal) => {
            "no name of ours, and the container is on internal networks alone: names of the outside are not asked for"
        }
        Verdict::BadVersion => "a version of EDNS that nobody knows",
        Verdict::Forward => "no name of ours",
    }
    .to_owned()
}
