//! `pontoon lint`: what is wrong with a configuration, in plain words, before any runtime reads it.
//!
//! Keys and kinds are judged by the schemas in `conf/schemas`, which are made from the types that
//! the plugins read; values by the plugins' own parsers, in [`refused`]; what lies between plugins in
//! [`chain`], and between networks in [`mod@together`]. What depends on the host counts for the networks
//! that are configured on it only, and by `--host`: that is in [`host`].

mod chain;
mod host;
mod ranges;
mod refused;
mod shape;
mod source;
mod together;
mod ways;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::conflist::{self, Places};
use crate::report::{Failure, Outcome, print, write};
use host::Facts;
use source::{Node, Place};
use together::Network;

/// What to judge.
#[derive(Args)]
pub(crate) struct Options {
    /// Network configurations: lists (.conflist), single plugins (.conf, .json), folders of them, or - for
    /// standard input [default: the folder of the host's networks, which are judged for this host]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Judge for this host: its routes, its uplink, its bridges, its plugins
    #[arg(long)]
    host: bool,
    #[command(flatten)]
    places: Places,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// A plugin or a runtime refuses it, or it cannot work.
    Error,
    /// It does nothing, or not what it seems to.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Finding {
    fn error(place: Place, text: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            place,
            text: text.into(),
        }
    }

    fn warning(place: Place, text: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            place,
            text: text.into(),
        }
    }
}

/// A file, and what is wrong with it.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) file: String,
    /// The network's name, where one can be read.
    pub(crate) network: Option<String>,
    pub(crate) findings: Vec<Finding>,
}

/// A configuration as it was read.
struct Document {
    file: String,
    kind: String,
    text: String,
}

impl Document {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::NotFound(format!("cannot read {}: {error}", path.display()))
        })?;
        let kind = path.extension().and_then(|kind| kind.to_str());
        Ok(Self {
            file: path.display().to_string(),
            kind: kind.unwrap_or_default().to_owned(),
            text,
        })
    }

    fn of_stdin() -> Result<Self, Failure> {
        let text = io::read_to_string(io::stdin())
            .map_err(|error| Failure::Failed(format!("cannot read standard input: {error}")))?;
        Ok(Self {
            file: "-".to_owned(),
            kind: String::new(),
            text,
        })
    }
}

/// Judges files. Warnings alone are no failure.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut all = Vec::new();
    if options.files.is_empty() {
        all = configured(&options.places)?;
        if all.is_empty() && !options.json {
            let dir = options.places.conf_dir();
            let text = format!("{}: no network is configured there\n", dir.display());
            return write(&text).map(|()| true);
        }
    }
    let host = match options.host {
        true => Some(Facts::look(&options.places)?),
        false => None,
    };
    let mut single = Vec::new();
    for path in &options.files {
        if path.as_os_str() == "-" {
            single.push(Document::of_stdin()?);
        } else if path.is_dir() {
            let inside = conflist::files(path)?;
            let inside = inside.iter().map(|path| Document::read(path));
            all.extend(together(
                &inside.collect::<Result<Vec<_>, _>>()?,
                true,
                host.as_ref(),
            ));
        } else {
            single.push(Document::read(path)?);
        }
    }
    all.extend(together(&single, false, host.as_ref()));
    print(options.json, &all, || {
        all.iter().map(told).collect::<String>()
    })?;
    let mut findings = all.iter().flat_map(|file| &file.findings);
    Ok(findings.all(|finding| finding.level != Level::Error))
}

/// Judges the networks that this host has: every configuration in the folder of them, each for itself,
/// beside the others, and on this host: whether its plugins are there and can be run, and what its
/// routes, its uplink and its bridges have against it. For `doctor`.
///
/// # Errors
/// When the folder or a file in it cannot be read.
pub(crate) fn configured(places: &Places) -> Result<Vec<Judged>, Failure> {
    let documents = places.files()?;
    let documents = documents.iter().map(|path| Document::read(path));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    Ok(together(&documents, true, Some(&Facts::look(places)?)))
}

/// Judges documents: those of one `folder` are one host's, and on `host`, if it is to count.
fn together(documents: &[Document], folder: bool, host: Option<&Facts>) -> Vec<Judged> {
    let roots: Vec<Result<Node, (Place, String)>> = documents
        .iter()
        .map(|document| source::read(&document.text))
        .collect();
    let networks: Vec<Option<Network<'_>>> = documents
        .iter()
        .zip(&roots)
        .map(|(document, root)| Network::new(&document.file, root.as_ref().ok()?))
        .collect();
    let beside = together::judge(&networks, folder);
    let mut all = Vec::new();
    for ((document, root), mut findings) in documents.iter().zip(&roots).zip(beside) {
        let mut network = None;
        match root {
            Err((place, problem)) => findings.push(Finding::error(*place, problem)),
            Ok(root) => {
                own(root, &document.kind, &mut findings);
                if let Some(host) = host {
                    host.judge(root, &mut findings);
                }
                let name = root.get("name").and_then(|name| name.value.text());
                network = name.map(str::to_owned);
            }
        }
        in_order(&mut findings);
        all.push(Judged {
            file: document.file.clone(),
            network,
            findings,
        });
    }
    all
}

fn told(judged: &Judged) -> String {
    if judged.findings.is_empty() {
        return format!("{}: nothing to say\n", judged.file);
    }
    let line = |finding: &Finding| {
        let level = match finding.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        let Place { line, column } = finding.place;
        format!(
            "{}:{line}:{column}: {level}: {}\n",
            judged.file, finding.text
        )
    };
    judged.findings.iter().map(line).collect()
}

/// All that is wrong with a document itself.
fn own(root: &Node, kind: &str, findings: &mut Vec<Finding>) {
    repeated(root, findings);
    chain::document(root, kind, findings);
}

fn in_order(findings: &mut Vec<Finding>) {
    findings.sort_by_key(|finding| (finding.place, finding.level));
    findings.dedup();
}

/// Keys that stand twice in one object: plugins take the last one.
fn repeated(node: &Node, findings: &mut Vec<Finding>) {
    for (at, member) in node.members().iter().enumerate() {
        let earlier = &node.members()[..at];
        if earlier
            .iter()
            .any(|other| other.key.eq_ignore_ascii_case(&member.key))
        {
            findings.push(Finding::warning(
                member.place,
                format!(
                    "key \"{}\" stands here twice: the last one counts",
                    member.key
                ),
            ));
        }
        repeated(&member.value, findings);
    }
    for item in node.items() {
        repeated(item, findings);
    }
}

#[cfg(test)]
mod tests;
