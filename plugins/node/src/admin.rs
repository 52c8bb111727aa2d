//! The admin's commands: they read and write etcd, and need no agent.

pub(crate) mod judge;
mod networks;
mod nodes;
mod services;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use pontoon_ledger::State;
use serde::Serialize;

use crate::cli::{Network, Node, Shape};
use crate::control;
use crate::etcd::EtcdError;
use crate::say;
use crate::settings::Settings;
use crate::status::Status;

/// Nothing of that name is there.
const NOT_FOUND: u8 = 3;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// It may not be done, with the next step.
    #[error("{0}")]
    Refused(String),
    /// etcd does not answer, or says no.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Somebody else changed what was decided by, more than once.
    #[error("etcd's keys change all the time: call the command again")]
    Busy,
    /// It cannot be printed.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

/// `pontoon-node network`.
pub(crate) fn network(settings: &Settings, command: &Network) -> ExitCode {
    finish(async {
        match command {
            Network::Create(create) => networks::create(settings, create).await,
            Network::Ls(shape) => networks::list(settings, shape.json).await,
            Network::Rm { name, force } => networks::remove(settings, name.as_str(), *force).await,
        }
    })
}

/// `pontoon-node nodes`.
pub(crate) fn nodes(settings: &Settings, shape: &Shape) -> ExitCode {
    finish(nodes::list(settings, shape.json))
}

/// `pontoon-node services`.
pub(crate) fn services(settings: &Settings, shape: &Shape) -> ExitCode {
    finish(services::list(settings, shape.json))
}

/// `pontoon-node node`.
pub(crate) fn node(settings: &Settings, command: &Node) -> ExitCode {
    finish(async {
        match command {
            Node::Drain { host, undo } => nodes::drain(settings, host, *undo).await,
            Node::Forget { host } => nodes::forget(settings, host).await,
        }
    })
}

/// `pontoon-node status`.
pub(crate) fn status(json: bool, metrics: bool) -> ExitCode {
    let asked = || -> Result<bool, String> {
        let state = State::locate().map_err(|error| error.to_string())?;
        if metrics {
            print(&control::ask(&state, "metrics")?).map_err(|error| error.to_string())?;
            return Ok(true);
        }
        let answer = control::ask(&state, "status")?;
        let status: Status = serde_json::from_str(&answer)
            .map_err(|error| format!("the agent's status cannot be read: {error}: {answer}"))?;
        let text = match json {
            true => pretty(&status),
            false => status.text(),
        };
        print(&text).map_err(|error| error.to_string())?;
        Ok(status.is_well())
    };
    match asked() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            say!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command, and tells why it failed.
fn finish(command: impl Future<Output = Result<(), AdminError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            say!("cannot set up the event loop: {error}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("{error}");
            match error {
                AdminError::NotFound(_) => ExitCode::from(NOT_FOUND),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints. A reader that has had enough is no failure.
fn print(text: &str) -> Result<(), AdminError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(AdminError::Output(error))
        }
        _ => Ok(()),
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Rows as wide as their contents; an empty cell is a dash.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let shown = |cell: &String| {
        if cell.is_empty() {
            "-".to_owned()
        } else {
            cell.clone()
        }
    };
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| shown(cell).chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{:width$}", shown(cell)))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}
