//! `pontoon lint`: what is wrong with a configuration, in plain words, before any runtime reads it.
//!
//! Keys and kinds are judged by the schemas in `conf/schemas`, which are made from the types that
//! the plugins read; what lies between plugins is judged in [`chain`]. Nothing of the host counts:
//! that is `doctor`'s.

mod chain;
mod shape;
mod source;

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

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
enum Level {
    /// A plugin or a runtime refuses it.
    Error,
    /// It does nothing, or not what it seems to.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    #[serde(flatten)]
    place: Place,
    text: String,
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

#[derive(Serialize)]
struct Judged {
    file: String,
    findings: Vec<Finding>,
}

/// Judges files. Warnings alone are no failure.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut all = Vec::new();
    for path in &options.files {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::NotFound(format!("cannot read {}: {error}", path.display()))
        })?;
        let kind = path.extension().and_then(|kind| kind.to_str());
        all.push(Judged {
            file: path.display().to_string(),
            findings: judge(&text, kind.unwrap_or_default()),
        });
    }
    print(options.json, &all, || {
        all.iter().map(told).collect::<String>()
    })?;
    let mut findings = all.iter().flat_map(|file| &file.findings);
    Ok(findings.all(|finding| finding.level != Level::Error))
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
