//! What can go wrong with published ports, an enum an operation.

use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use pontoon_ledger::Key;
use pontoon_netfilter::Port;
use thiserror::Error;

/// Finding out what is to be published.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    #[error("must be called as chained plugin: no prevResult")]
    NoPrevResult,
    #[error("container {container}: {ports}")]
    NoFamily { container: String, ports: String },
}

impl OperationError for PlanError {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoPrevResult => "list portmap after the plugin that creates the interface",
            Self::NoFamily { .. } => {
                "give a hostIP of a family that the container has, or leave it empty for every address"
            }
        }
        .to_owned()
    }
}

/// Reserving ports, and giving them back.
#[derive(Debug, Error)]
pub(crate) enum ReservationError {
    #[error("cannot reserve a port at {path}")]
    Reserve { path: PathBuf, source: io::Error },
    #[error(
        "host port {}/{} is already published by container {} ({} of network {})",
        port.host_port, port.protocol, owner.container, owner.interface, owner.network
    )]
    Taken {
        port: Port,
        owner: Key,
        /// The path of the owner's namespace.
        sandbox: String,
    },
    #[error("cannot take over a port reservation")]
    TakeOver { source: io::Error },
    #[error("cannot give back the reserved ports")]
    GiveBack { source: io::Error },
}

impl OperationError for ReservationError {
    fn code(&self) -> u32 {
        match self {
            Self::Taken { .. } => code::PORT_TAKEN,
            _ => code::IO,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Taken { sandbox, .. } => format!(
                "its namespace {sandbox} is alive; DEL that attachment first, or choose another host port"
            ),
            _ => String::new(),
        }
    }
}

/// Letting the host's 127.0.0.1 reach the container, and taking that back.
#[derive(Debug, Error)]
pub(crate) enum LoopbackError {
    #[error("cannot let 127.0.0.1 reach containers on {bridge}")]
    Closed { bridge: String, source: Parameter },
    #[error("cannot restore /proc/sys/{path}")]
    NotRestored { path: String, source: io::Error },
}

/// The kernel's refusal of a parameter.
#[derive(Debug, Error)]
#[error("/proc/sys/{path}: {source}")]
pub(crate) struct Parameter {
    /// Below `/proc/sys`.
    pub(crate) path: String,
    pub(crate) source: io::Error,
}

impl OperationError for LoopbackError {
    fn code(&self) -> u32 {
        code::KERNEL
    }

    fn next_step(&self) -> String {
        match self {
            Self::Closed { .. } => "set \"snat\": false to do without",
            Self::NotRestored { .. } => "",
        }
        .to_owned()
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
#[error("published ports of container {container}: {}", differences[0])]
pub(crate) struct Differences {
    pub(crate) container: String,
    /// One at least.
    pub(crate) differences: Vec<String>,
}

impl OperationError for Differences {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        format!(
            "{}; an ADD of the container makes them again",
            self.differences.join("; ")
        )
    }
}

/// STATUS: what an ADD would fail for.
#[derive(Debug, Error)]
#[error("no published ports: {}", cause.msg)]
pub(crate) struct NotPublished {
    #[source]
    pub(crate) cause: pontoon_conf::Error,
}

impl OperationError for NotPublished {
    fn code(&self) -> u32 {
        code::NOT_AVAILABLE
    }

    fn reason(&self) -> String {
        self.cause.details.clone()
    }
}
