//! `pontoon lint`: what is wrong with a configuration, in plain words, before any runtime reads it.
//!
//! Keys and kinds are judged by the schemas in `conf/schemas`, which are made from the types that
//! the plugins read; what lies between plugins is judged in [`chain`]. Nothing of the host counts:
//! that is `doctor`'s, which asks [`configured`].

mod chain;
mod refused;
mod shape;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::conflist::Places;
use crate::report::{Failure, Outcome, print};
use source::{Node, Place};

/// What to judge.
#[derive(Args)]
pub(crate) struct Options {
    /// Network configurations: lists (.conflist) or single plugins (.conf, .json)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// A plugin or a runtime refuses it.
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

/// Judges files. Warnings alone are no failure.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut all = Vec::new();
    for path in &options.files {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::NotFound(format!("cannot read {}: {error}", path.display()))
        })?;
        all.push(judged(path, &text));
    }
    print(options.json, &all, || {
        all.iter().map(told).collect::<String>()
    })?;
    let mut findings = all.iter().flat_map(|file| &file.findings);
    Ok(findings.all(|finding| finding.level != Level::Error))
}

/// Judges the networks that this host has: every configuration in the folder of them, each for itself,
/// beside the others, and on this host. For `doctor`.
///
/// # Errors
/// When the folder or a file in it cannot be read.
#[allow(dead_code)]
pub(crate) fn configured(places: &Places) -> Result<Vec<Judged>, Failure> {
    let files = places.files()?;
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
        all.push(judged(&path, &text));
    }
    Ok(all)
}

fn judged(path: &Path, text: &str) -> Judged {
    let kind = path.extension().and_then(|kind| kind.to_str());
    let root = source::read(text).ok();
    let name = root.as_ref().and_then(|root| root.get("name"));
    Judged {
        file: path.display().to_string(),
        network: name.and_then(|name| name.value.text().map(str::to_owned)),
        findings: judge(text, kind.unwrap_or_default()),
    }
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

/// All that is wrong with a document, in its order.
fn judge(text: &str, extension: &str) -> Vec<Finding> {
    let root = match source::read(text) {
        Ok(root) => root,
        Err((place, problem)) => return vec![Finding::error(place, problem)],
    };
    let mut findings = Vec::new();
    repeated(&root, &mut findings);
    chain::document(&root, extension, &mut findings);
    findings.sort_by_key(|finding| (finding.place.line, finding.place.column, finding.level));
    findings.dedup();
    findings
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
