//! The control socket: one line in, one answer out, then the end.
//!
//! ```text
//! sync NETWORK/CONTAINER:IFNAME   ok PORT | error TEXT    the record is seen as it is now
//! ls                              JSON                    all attachments
//! status                          JSON                    counters, servers, warnings
//! metrics                         text                    Prometheus's format
//! query NAME TYPE [AS]            JSON                    as a container would be answered
//! ```

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::answer::{Refusal, Verdict, decide_for};
use pontoon_dns::fingerprint::fingerprints;
use pontoon_dns::name::Name;
use pontoon_dns::present;
use pontoon_dns::record::Upstream;
use pontoon_dns::zone::{Attachment, Key, Querier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::client::{Client, MESSAGE, PacketOutcome};
use super::forward::QuestionSource;
use super::options::DNS_OVER_TLS;
use super::privileges;
use super::state::Daemon;
use pontoon_resolver::local::{self, Local};

/// Most commands at a time.
const MOST: usize = 256;
/// Longest command, in bytes.
const LONGEST: usize = 4096;
/// For how long a command may take to be read, or its answer to be taken.
const IDLE: Duration = Duration::from_secs(10);
/// For how long no command is accepted when there is no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes commands, for ever.
pub(crate) async fn serve(daemon: Rc<Daemon>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) if daemon.commands.get() < MOST => {
                let daemon = Rc::clone(&daemon);
                daemon.commands.set(daemon.commands.get() + 1);
                tokio::task::spawn_local(async move {
                    let _ = converse(&daemon, stream).await;
                    daemon.commands.set(daemon.commands.get() - 1);
                });
            }
            Ok(_) => {}
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// One command and its answer; `None` when there was none, or the caller has gone.
async fn converse(daemon: &Rc<Daemon>, mut stream: UnixStream) -> Option<()> {
    let line = timeout(IDLE, read_line(&mut stream)).await.ok()??;
    daemon.begin_turn();
    let mut answer = daemon.obey(&line).await;
    answer.push('\n');
    let written = stream.write_all(answer.as_bytes());
    timeout(IDLE, written).await.ok()?.ok()
}

async fn read_line(stream: &mut UnixStream) -> Option<String> {
    let mut input = Vec::new();
    loop {
        if let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            return Some(String::from_utf8_lossy(&input[..end]).into_owned());
        }
        if input.len() > LONGEST || stream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
    }
}

impl Daemon {
    async fn obey(self: &Rc<Self>, line: &str) -> String {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("sync"), Some(path), None, None) => self.sync(path),
            (Some("ls"), None, None, None) => self.list().to_string(),
            (Some("status"), None, None, None) => self.status().to_string(),
            (Some("metrics"), None, None, None) => self.metrics(),
            // What a collector says that speaks HTTP over this socket.
            (Some("GET"), Some("/metrics"), Some(_), None) => http(&self.metrics()),
            (Some("query"), Some(name), Some(kind), querier) => {
                match self.query(name, kind, querier).await {
                    Ok(answer) => answer.to_string(),
                    Err(text) => json!({ "error": text }).to_string(),
                }
            }
            _ => "error unknown command".to_owned(),
        }
    }

    fn sync(self: &Rc<Self>, path: &str) -> String {
        let Some(key) = Key::parse(path) else {
            return format!("error {path:?} names no record");
        };
        let warnings = self
            .store
            .borrow_mut()
            .read_one(&mut self.zone.borrow_mut(), &key);
        let unread = warnings.first().cloned();
        self.warn(warnings);
        self.fit();
        let zone = self.zone.borrow();
        let listeners = self.listeners.borrow();
        let port = self.port.get();
        let there = zone.of_key(&key);
        match (there, unread) {
            (None, Some(text)) => format!("error {text}"),
            (Some(attachment), _) if let Some(server) = unable(attachment) => {
                format!("error pontoon-dns is built without DNS over TLS and cannot ask {server}")
            }
            (Some(attachment), _) => {
                let deaf = attachment
                    .shared
                    .gateways
                    .iter()
                    .find(|gateway| !listeners.has(**gateway));
                match deaf {
                    Some(gateway) => format!("error cannot listen at {gateway} port {port}"),
                    None => format!("ok {port}"),
                }
            }
            (None, None) => format!("ok {port}"),
        }
    }

    fn list(&self) -> Value {
        let texts = |addresses: &[IpAddr]| -> Vec<String> {
            addresses.iter().map(ToString::to_string).collect()
        };
        let zone = self.zone.borrow();
        let attachments = zone.attachments().map(|attachment| {
            let links: Vec<Value> = attachment
                .links
                .iter()
                .map(|(alias, target)| {
                    json!({ "alias": alias.to_string(), "target": target.to_string() })
                })
                .collect();
            let names: Vec<String> = attachment.names.iter().map(Name::to_string).collect();
            json!({
                "network": attachment.shared.network,
                "container": &*attachment.container,
                "interface": attachment.shared.interface,
                "names": names,
                "links": links,
                "addresses": texts(&attachment.addresses),
                "gateways": texts(&attachment.shared.gateways),
                "domain": attachment.shared.domain.to_string(),
                "ttl": attachment.shared.ttl,
            })
        });
        attachments.collect()
    }

    fn gauges(&self) -> [(&'static str, &'static str, usize); 6] {
        [
            ("records", "attachments known", self.zone.borrow().len()),
            (
                "listeners",
                "addresses listened at",
                self.listeners.borrow().addresses().len(),
            ),
            (
                "tcp_connections",
                "open connections of clients",
                self.connections.borrow().len(),
            ),
            (
                "in_flight",
                "questions asked of other servers",
                self.forwarding.borrow().merge.under_way(),
            ),
            (
                "cache_entries",
                "replies in the cache",
                self.forwarding.borrow().cache.len(),
            ),
            ("warnings", "warnings kept", self.warnings.borrow().len()),
        ]
    }

    fn metrics(&self) -> String {
        let forwarding = self.forwarding.borrow();
        self.stats.borrow().metrics(&self.gauges())
            + &forwarding.healths.metrics()
            + &self.times.borrow().metrics()
    }

    fn status(&self) -> Value {
        let now = Instant::now();
        let mut numbers = serde_json::Map::new();
        for (name, _, value) in self.gauges() {
            numbers.insert(name.to_owned(), value.into());
        }
        for (name, _, value) in self.stats.borrow().all() {
            numbers.insert(name.to_owned(), value.into());
        }
        let forwarding = self.forwarding.borrow();
        let servers: Vec<Value> = forwarding
            .healths
            .all()
            .map(|(server, health)| {
                json!({
                    "server": server.to_string(),
                    "asked": health.asked,
                    "failed": health.failed,
                    "lastMicroseconds": health.last_micros,
                    "triedLast": health.is_dead(now),
                    "reason": health.reason,
                })
            })
            .collect();
        let mut listening: Vec<String> = self
            .listeners
            .borrow()
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        listening.sort();
        let answers: Vec<Value> = self
            .times
            .borrow()
            .summary()
            .into_iter()
            .map(|(outcome, count, within)| {
                json!({ "outcome": outcome, "count": count, "nineInTenWithin": within })
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .borrow()
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
        let zones: serde_json::Map<String, Value> = fingerprints(&self.zone.borrow())
            .into_iter()
            .map(|(network, zone)| {
                let value = json!({ "containers": zone.containers, "hash": zone.hash });
                (network, value)
            })
            .collect();
        let about = self.keeper.about();
        let held = privileges::held();
        json!({
            "pid": about.keeper,
            "worker": std::process::id(),
            "standby": about.standby,
            "restarts": about.restarts,
            "privileges": {
                "user": held.user,
                "capabilities": held.capabilities,
                "noNewPrivileges": held.no_new_privileges,
                "seccomp": if held.filtered { "filter" } else { "none" },
                "missing": self.missing,
            },
            "port": self.port.get(),
            "stay": self.options.stay,
            "listening": listening,
            "zones": zones,
            "numbers": numbers,
            "servers": servers,
            "answers": answers,
            "failures": failures,
            "warnings": *self.warnings.borrow(),
        })
    }

    /// Asks as a container, and says why the answer is what it is.
    async fn query(
        self: &Rc<Self>,
        name: &str,
        kind: &str,
        querier: Option<&str>,
    ) -> Result<Value, String> {
        let name = Name::parse(name).ok_or_else(|| format!("{name:?} is no domain name"))?;
        let kind = present::kind(kind).ok_or_else(|| format!("{kind:?} is no record type"))?;
        let packet = present::query(&name, kind);
        let source = match querier {
            None => IpAddr::from([127, 0, 0, 1]),
            Some(text) => self
                .source_of(text)
                .ok_or_else(|| format!("there is no container {text:?}"))?,
        };
        let from = SocketAddr::new(source, 0);
        let request = local::read(&packet, from, false).map_err(|_| "no query".to_owned())?;
        let query = local::query(&request, &packet).ok_or_else(|| "no query".to_owned())?;
        let (verdict, mut about) = {
            let zone = self.zone.borrow();
            let querier = zone.querier(source);
            let (whom, networks) = match querier {
                Querier::Container(id) => {
                    let networks = zone.of_container(id);
                    let names = networks.map(|attachment| attachment.shared.network.clone());
                    (format!("container {id}"), names.collect())
                }
                Querier::Host => ("the host".to_owned(), Vec::new()),
                Querier::Stranger => ("a stranger".to_owned(), Vec::<String>::new()),
            };
            let about = json!({ "as": whom, "networks": networks, "source": source.to_string() });
            (decide_for(&zone, querier, &query), about)
        };
        let mut out = Vec::new();
        if let Some(answer) = Local::of(&request, &verdict, 0, MESSAGE) {
            answer.write(&request, MESSAGE, &mut out);
            about["why"] = why(&verdict).into();
            about["reply"] = present::reply(&out);
            return Ok(about);
        }
        let (choice, confined) = self
            .choice(source, None, name.wire(), Instant::now())
            .ok_or_else(|| "no query".to_owned())?;
        let servers: Vec<String> = choice.servers.iter().map(ToString::to_string).collect();
        let hits = self.stats.borrow().cache_hits;
        let (sender, receiver) = oneshot::channel();
        let asked = QuestionSource {
            source,
            gateway: None,
            limit: MESSAGE,
        };
        let client = || Client::Command(sender);
        let outcome = self.forward(&query, asked, client, &mut out);
        let cached = self.stats.borrow().cache_hits > hits;
        about["why"] = match (cached, servers.is_empty()) {
            (_, true) if confined => why(&Verdict::Refused(Refusal::Internal)),
            (true, _) => format!(
                "no name of a container; from the cache of {}",
                choice.origin
            ),
            (false, true) => format!(
                "no name of a container, and {} names no usable server",
                choice.origin
            ),
            (false, false) => format!("no name of a container; asked of {}", choice.origin),
        }
        .into();
        about["servers"] = servers.into();
        if outcome == PacketOutcome::Pending {
            out = receiver.await.map_err(|_| "no answer".to_owned())?;
        }
        about["reply"] = present::reply(&out);
        Ok(about)
    }

    /// An address, or that of a container by id, the beginning of it, or name.
    fn source_of(&self, text: &str) -> Option<IpAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let zone = self.zone.borrow();
        let named = Name::parse(text);
        let mut by_name = named
            .iter()
            .flat_map(|name| zone.named(Querier::Host, name.wire()));
        let mut by_id = zone
            .attachments()
            .filter(|attachment| attachment.container.starts_with(text));
        let exact = zone.of_container(text).next();
        exact
            .or_else(|| by_name.next())
            .or_else(|| by_id.next())
            .and_then(|attachment| attachment.addresses.first().copied())
    }
}

/// A server of the network that this program cannot ask.
fn unable(attachment: &Attachment) -> Option<&Upstream> {
    let of_domains = attachment.shared.domains.iter().flat_map(|(_, list)| list);
    let mut servers = attachment.shared.upstreams.iter().chain(of_domains);
    servers.find(|server| !DNS_OVER_TLS && server.tls.is_some())
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
            "no name of a container, and the container is on internal networks alone: names of the outside are not asked for"
        }
        Verdict::BadVersion => "a version of EDNS that is not known",
        Verdict::Forward => "no name of a container",
    }
    .to_owned()
}
