//! `pontoon repair [NET]`: makes flushed rules again, and cuts the flows that
//! still go where a published port led before.

use std::collections::BTreeSet;

use clap::Args;
use pontoon_attach::repair;
use serde::Serialize;

use crate::doctor::flows;
use crate::facts::Host;
use crate::report::{Failure, Outcome, need_root, print};

#[derive(Args)]
pub(crate) struct Options {
    /// Name of the network; all of them without
    network: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One network's part of the work.
#[derive(Serialize)]
struct RepairResult {
    network: String,
    /// Sets of rules that the network has.
    rules: usize,
    /// What was missing and is made again.
    made: Vec<String>,
    /// Kinds of flows that were cut.
    flows: usize,
    failures: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    need_root("make rules")?;
    let mut host = Host::look()?;
    let attachments = host.attachments();
    let mut names: BTreeSet<String> = host
        .network_names()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    if let Some(wanted) = &options.network {
        names.retain(|name| name == wanted);
        if names.is_empty() {
            return Err(Failure::NotFound(format!("there is no network {wanted}")));
        }
    }
    let done = names
        .into_iter()
        .map(|network| {
            let done = repair::repair(&host.state, &pontoon_plugin::search(), &network)?;
            let failures = done.failures.iter().map(ToString::to_string);
            Ok(RepairResult {
                flows: flows::cut(&mut host.socket, &attachments, &network)?,
                network,
                rules: done.rules,
                made: done.made,
                failures: failures.collect(),
            })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    print(options.json, &done, || text(&done))?;
    Ok(done.iter().all(|network| network.failures.is_empty()))
}

fn text(done: &[RepairResult]) -> String {
    if done.is_empty() {
        return "there are no networks\n".to_owned();
    }
    let line = |one: &RepairResult| {
        let mut made: String = one
            .made
            .iter()
            .map(|what| format!("{}: made again: {what}\n", one.network))
            .collect();
        if one.failures.is_empty() {
            let cut = match one.flows {
                0 => String::new(),
                count => format!(", {count} kinds of stale flows are cut"),
            };
            let found = match one.made.is_empty() {
                true => "and nothing was missing",
                false => "now",
            };
            made += &format!(
                "{}: {} sets of rules are there, {found}{cut}\n",
                one.network, one.rules
            );
            return made;
        }
        let failures = one.failures.iter();
        made.extend(failures.map(|failure| format!("{}: {failure}\n", one.network)));
        made
    };
    done.iter().map(line).collect()
}
