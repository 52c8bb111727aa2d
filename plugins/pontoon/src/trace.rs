//! `pontoon trace SRC DST[:PORT]`: the way of a packet told hook by hook, predicted from the rules, the
//! routes and who is attached; with `--live` also by a packet that is sent.

mod decided;
mod live;
mod path_end;
mod print;
mod probe;
mod question;
mod reply;
mod walk;

use std::io::BufRead;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pontoon_passage::{Rules, Step};
use serde::Serialize;

use crate::facts::Host;
use crate::report::{Failure, Outcome, print as put, write};
use live::Live;
use path_end::End;
use reply::Reply;
use walk::Walk;

pub(crate) use path_end::Verdict;
pub(crate) use question::{Asked, Protocol};
pub(crate) use walk::Predicted;

#[derive(Args)]
pub(crate) struct Options {
    /// Who sends: a container, `host`, `outside`, or an address
    #[arg(value_name = "SRC", required_unless_present = "batch")]
    from: Option<String>,
    /// To whom: a container, `host`, `outside`, or an address
    #[arg(value_name = "DST[:PORT]", required_unless_present = "batch")]
    to: Option<String>,
    /// The protocol: tcp when there is a port, icmp otherwise
    #[arg(long, value_enum)]
    proto: Option<Protocol>,
    /// The port that it is sent from, 1 to 65535; 45678 unless told
    #[arg(long, value_name = "PORT")]
    from_port: Option<u16>,
    /// Trace IPv6 where names have both
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Read questions from standard input, `SRC DST[:PORT] [PROTO [FROM-PORT]]` each a line, and
    /// answer each with a line of JSON
    #[arg(long, conflicts_with_all = ["from", "to", "proto", "from_port"])]
    batch: bool,
    /// Send one packet, follow it through the kernel's own tracing, and say where it did other than
    /// predicted; from outside: follow the next one that comes
    #[arg(long, conflicts_with = "batch")]
    live: bool,
    /// How long a packet from outside is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "live")]
    wait: u64,
    /// Show each rule on the way, as its tool prints it
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is told.
#[derive(Serialize)]
struct Report {
    question: String,
    steps: Vec<Step>,
    end: End,
    /// What becomes of the reply, as far as this host can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Reply>,
    /// What stands on the way and could not be read: the verdict does not hold then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cannot_tell: Vec<String>,
    /// What a packet really did.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut host = Host::look()?;
    let mut rules = Rules::read()?;
    rules.in_own_words()?;
    if options.batch {
        return batch(&mut host, &rules, options.ipv6);
    }
    let asked = Asked {
        from: options.from.as_deref().unwrap_or_default(),
        to: options.to.as_deref().unwrap_or_default(),
        protocol: options.proto,
        from_port: options.from_port,
        v6: options.ipv6,
    };
    let patience = options.live.then(|| Duration::from_secs(options.wait));
    let report = answer(&mut host, &rules, &asked, patience)?;
    put(options.json, &report, || {
        print::text(&report, options.verbose)
    })?;
    let live = report.live.as_ref();
    let agrees = live.is_none_or(|live| live.differences.is_empty());
    let end = live.map_or(&report.end, |live| &live.end);
    let lost = report.reply.as_ref().is_some_and(|reply| reply.lost());
    Ok(end.verdict == Verdict::Arrives && agrees && !lost)
}

/// What becomes of a packet.
pub(crate) fn predict(
    host: &mut Host,
    rules: &Rules,
    asked: &Asked<'_>,
) -> Result<Predicted, Failure> {
    let question = question::find(host, asked)?;
    Walk::new(host, rules, &question).predict()
}

fn answer(
    host: &mut Host,
    rules: &Rules,
    asked: &Asked<'_>,
    live: Option<Duration>,
) -> Result<Report, Failure> {
    let question = question::find(host, asked)?;
    let predicted = Walk::new(host, rules, &question).predict()?;
    let reply = reply::of(host, rules, &question, &predicted)?;
    let mut live = live
        .map(|patience| live::follow(host, rules, &question, &predicted, patience))
        .transpose()?;
    if let (Some(live), Some(reply)) = (&mut live, &reply) {
        live.compare(reply);
    }
    Ok(Report {
        question: question.text(),
        steps: predicted.steps,
        end: predicted.end,
        reply,
        cannot_tell: predicted.doubts,
        live,
    })
}

fn batch(host: &mut Host, rules: &Rules, v6: bool) -> Outcome {
    for line in std::io::stdin().lock().lines() {
        let line =
            line.map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
        let mut words = line.split_whitespace();
        let (Some(from), Some(to)) = (words.next(), words.next()) else {
            continue;
        };
        let wrong = |what: &str| Failure::Failed(format!("{line}: {what}"));
        let protocol = words
            .next()
            .map(|word| Protocol::from_str(word, true).map_err(|_| wrong("no such protocol")))
            .transpose()?;
        let from_port = words
            .next()
            .map(|word| word.parse().map_err(|_| wrong("no such port")))
            .transpose()?;
        let asked = Asked {
            from,
            to,
            protocol,
            from_port,
            v6,
        };
        let report = answer(host, rules, &asked, None)?;
        let text = serde_json::to_string(&report);
        write(&(text.map_err(|error| Failure::Failed(error.to_string()))? + "\n"))?;
    }
    Ok(true)
}
