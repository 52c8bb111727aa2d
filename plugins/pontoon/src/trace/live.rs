//! `--live`: one packet is sent, followed through the kernel's own tracing, and compared with what was
//! predicted.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use pontoon_netfilter::nft::{PacketHeader, Probe, ProbeKind, TraceEvent, TraceVerdict, Tracing};
use pontoon_passage::{Rules, Step, shown};
use serde::Serialize;

use super::path_end::{End, Verdict};
use super::probe::{Answer, Sender};
use super::question::{PacketOrigin, Protocol, Question};
use super::reply::Reply;
use super::walk::Predicted;
use crate::facts::Host;
use crate::report::Failure;

/// After the last event: the way through this host takes microseconds, the neighbour's address some
/// milliseconds.
const QUIET: Duration = Duration::from_millis(150);
/// The first segment of a connection is sent again after a second: that is another packet.
const AT_MOST: Duration = Duration::from_millis(900);

/// What the packet did.
#[derive(Serialize)]
pub(crate) struct Live {
    /// Where it came from.
    pub(crate) sent: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    /// Whether an answer came; of a packet from outside it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Answer>,
    /// Where it did other than predicted.
    pub(crate) differences: Vec<String>,
}

/// Follows one packet; from outside the next one that comes within `patience`.
pub(super) fn follow(
    host: &mut Host,
    rules: &Rules,
    question: &Question,
    predicted: &Predicted,
    patience: Duration,
) -> Result<Live, Failure> {
    let mut sender = match &question.place {
        PacketOrigin::Outside(_) => None,
        PacketOrigin::Host => Some(Sender::open(question, None)?),
        PacketOrigin::Container(inside) => Some(Sender::open(question, Some(&inside.netns))?),
    };
    let from = sender.as_ref().map(Sender::number);
    let to = question.ports.map_or(0, |(_, to)| to);
    let probe = Probe {
        destination: question.destination,
        kind: match question.protocol {
            Protocol::Tcp => ProbeKind::Tcp(from, to),
            Protocol::Udp => ProbeKind::Udp(from, to),
            Protocol::Icmp => ProbeKind::Echo(from),
        },
    };
    let failed = |error: pontoon_netfilter::nft::Error| {
        Failure::Failed(format!("cannot trace in the kernel: {error}"))
    };
    let mut tracing = Tracing::start(&probe).map_err(failed)?;
    let sent = match &mut sender {
        Some(sender) => sender.send(question)?,
        None => {
            eprintln!(
                "waiting {} s for {}: send it from there",
                patience.as_secs(),
                question.text()
            );
            "a packet from outside".to_owned()
        }
    };
    let mut events = Vec::new();
    let first = match sender {
        Some(_) => QUIET,
        None => patience,
    };
    let mut deadline = Instant::now() + first;
    let mut end = None;
    loop {
        let told = tracing.events(deadline).map_err(failed)?;
        if told.is_empty() {
            break;
        }
        events.extend(told);
        let end = *end.get_or_insert_with(|| Instant::now() + AT_MOST);
        deadline = end.min(Instant::now() + QUIET);
    }
    drop(tracing);
    if events.is_empty() && sender.is_none() {
        return Err(Failure::Failed(format!(
            "no such packet came within {} s: {}\nhint: --wait SECONDS, and send it meanwhile",
            patience.as_secs(),
            question.text()
        )));
    }
    let mut way = Way::default();
    for event in &events {
        way.take(event, rules);
    }
    let (found, seen) = match &predicted.packet {
        // Within the container: this host's hooks see nothing of it.
        None if events.is_empty() => (predicted.end.clone(), None),
        _ => way.end(host),
    };
    let found = match predicted.end.chain == way.dropped && way.dropped.is_some() {
        true => predicted.end.clone(),
        false => found,
    };
    let answer = sender.as_mut().map(Sender::answer);
    Ok(Live {
        sent,
        differences: differences(predicted, &found, seen),
        end: found,
        steps: way.steps,
        answer,
    })
}

/// What the events tell, put together.
#[derive(Default)]
struct Way {
    steps: Vec<Step>,
    /// The end of a hook that was seen last, and whether that was the far one.
    at: Option<(String, bool)>,
    seen: Option<PacketHeader>,
    out: Option<u32>,
    /// A bridge has taken it to one of its ports.
    bridged: bool,
    dropped: Option<String>,
}

impl Live {
    /// What was foretold of the reply, beside what came.
    pub(super) fn compare(&mut self, reply: &Reply) {
        if reply.lost() && self.answer == Some(Answer::Answered) {
            let difference = format!("reply: predicted lost ({}), found an answer", reply.reason);
            self.differences.push(difference);
        }
    }
}

fn label(event: &TraceEvent) -> String {
    match event.family {
        "bridge" => format!("bridge {}", event.chain),
        _ => event.chain.clone(),
    }
}

fn as_text(seen: &PacketHeader) -> String {
    format!("{} -> {}", seen.source, shown(seen.destination, seen.port))
}

impl Way {
    fn take(&mut self, event: &TraceEvent, rules: &Rules) {
        let Some(table) = &event.table else {
            if event.rule.is_some() {
                return;
            }
            let label = label(event);
            let moved = self.at.as_ref().is_none_or(|(at, _)| *at != label);
            let changed = event.packet.is_some() && event.packet != self.seen;
            if let Some(seen) = event.packet.as_ref().filter(|_| moved || changed) {
                self.step(&label, None, as_text(seen), None);
            }
            self.seen = event.packet.or(self.seen);
            self.out = event.out.or(self.out);
            self.bridged |= event.family == "bridge"
                && ["forward", "output", "postrouting"].contains(&event.chain.as_str());
            self.at = Some((label, event.last));
            return;
        };
        let name = rules.table_name(event.family, table);
        let chain = format!("{name}, chain {}", event.chain);
        let at = self.at.as_ref().map_or("", |(at, _)| at).to_owned();
        let effect = match &event.verdict {
            TraceVerdict::Accept if event.rule.is_none() => return,
            TraceVerdict::Continue => return,
            TraceVerdict::Accept => "accept".to_owned(),
            TraceVerdict::Drop => "drop".to_owned(),
            TraceVerdict::Jump(name) => format!("jump {name}"),
        };
        let rule = event
            .rule
            .and_then(|handle| rules.by_handle(event.family, table, &event.chain, handle));
        let what = match (rule, event.rule) {
            (Some(rule), _) => rule.text.clone(),
            (None, Some(handle)) => format!("rule {handle}"),
            (None, None) => "policy".to_owned(),
        };
        self.step(&at, Some(chain.clone()), what, Some(effect));
        if let Some(step) = self.steps.last_mut() {
            step.handle = event.rule;
        }
        if event.verdict == TraceVerdict::Drop {
            self.dropped = Some(chain);
        }
    }

    fn step(&mut self, at: &str, chain: Option<String>, what: String, effect: Option<String>) {
        self.steps.push(Step {
            at: at.to_owned(),
            chain,
            what,
            owner: None,
            effect,
            handle: None,
            remove: None,
        });
    }

    /// How it ended, and the packet as it was then.
    fn end(&self, host: &Host) -> (End, Option<PacketHeader>) {
        let Some((at, last)) = &self.at else {
            let reason = "no hook of this host has seen it";
            return (End::new(Verdict::Dropped, None, reason), None);
        };
        let hook = Some(at.clone());
        if let Some(chain) = &self.dropped {
            let reason = format!("by {chain} ({at})");
            return (End::new(Verdict::Dropped, hook, reason), self.seen);
        }
        let target = self
            .seen
            .map_or(String::new(), |seen| shown(seen.destination, seen.port));
        let out = self.out.and_then(|index| host.link(index));
        let end = match (at.as_str(), last) {
            (_, false) => End::new(
                Verdict::Dropped,
                hook,
                format!("in {at}, by rules that the tracing does not name (iptables-legacy)"),
            ),
            ("input", true) => End::new(Verdict::Arrives, None, format!("at this host ({target})")),
            ("postrouting" | "bridge postrouting", true)
                if self.seen.is_some_and(|seen| seen.source.is_loopback()) =>
            {
                let reason = format!("the receiver takes no such source address: {target}");
                End::new(Verdict::Dropped, None, reason)
            }
            ("postrouting", true)
                if !self.bridged
                    && out.is_some_and(|out| out.kind.as_deref() == Some("bridge")) =>
            {
                End::new(
                    Verdict::Refused,
                    Some("routing".to_owned()),
                    format!("no port of the bridge answers for {target}"),
                )
            }
            ("postrouting" | "bridge postrouting", true) => {
                let by = out.map_or("?", |out| &out.name);
                End::new(
                    Verdict::Arrives,
                    None,
                    format!("leaves by {by}, to {target}"),
                )
            }
            ("bridge prerouting", true) => End::new(
                Verdict::Dropped,
                Some("bridge".to_owned()),
                "on the bridge: it lets it out nowhere".to_owned(),
            ),
            _ => End::new(
                Verdict::Dropped,
                Some("routing".to_owned()),
                format!("by routing, after {at}"),
            ),
        };
        (end, self.seen)
    }
}

fn differences(predicted: &Predicted, found: &End, seen: Option<PacketHeader>) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differ = |what: &str, predicted: &str, found: &str| {
        differences.push(format!("{what}: predicted {predicted}, found {found}"));
    };
    let arrives = |end: &End| end.verdict == Verdict::Arrives;
    match (arrives(&predicted.end), arrives(found)) {
        (true, true) => {
            let own = |address: IpAddr, port| shown(address, port);
            if let (Some(packet), Some(seen)) = (&predicted.packet, seen) {
                let port = packet.destination_port();
                let (wanted, found) = (
                    own(packet.destination, port),
                    own(seen.destination, seen.port),
                );
                if wanted != found {
                    differ("destination", &wanted, &found);
                }
                if packet.source != seen.source {
                    let (wanted, found) = (packet.source, seen.source);
                    differ("source", &wanted.to_string(), &found.to_string());
                }
            }
        }
        (false, false) => {
            if let (Some(wanted), Some(found)) = (&predicted.end.hook, &found.hook)
                && wanted != found
            {
                differ("where it ends", wanted, found);
            }
        }
        _ => differ(
            "verdict",
            &format!("{}, {}", predicted.end.verdict.word(), predicted.end.reason),
            &format!("{}, {}", found.verdict.word(), found.reason),
        ),
    }
    differences
}
