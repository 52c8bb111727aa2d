//! What can go wrong with sharing a network, an enum an operation.

use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use pontoon_netlink::NetnsError;
use thiserror::Error;

/// Finding the container whose network is shared.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    #[error("container {wanted} is not attached by Pontoon")]
    NotAttached { wanted: String },
    #[error("\"{wanted}\" may mean any of {ids}")]
    Ambiguous { wanted: String, ids: String },
    #[error("container {container} is on the host's network")]
    OnHost { container: String },
    #[error("container {container} cannot share the network of itself")]
    Itself { container: String },
    #[error("containers would share a network in a circle: {way}")]
    Circle { way: String },
    #[error("{label} is in the host's network namespace")]
    HostNamespace { label: String },
    #[error("key \"container\": {reason}")]
    NoNamespace { reason: NetnsError },
    #[error("{path} is the container's own namespace: it cannot share it with itself")]
    OwnNamespace { path: String },
    #[error("container {container} is gone: its network namespace {path} is")]
    Gone { container: String, path: String },
    #[error("container {container} has no readable record")]
    NoRecord { container: String },
}

impl OperationError for TargetError {
    fn code(&self) -> u32 {
        match self {
            Self::NotAttached { .. }
            | Self::Ambiguous { .. }
            | Self::NoNamespace { .. }
            | Self::Gone { .. }
            | Self::NoRecord { .. } => code::UNKNOWN_CONTAINER,
            Self::OnHost { .. } | Self::HostNamespace { .. } => code::INVALID_NETNS,
            Self::Itself { .. } | Self::Circle { .. } | Self::OwnNamespace { .. } => {
                code::INVALID_CONFIG
            }
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotAttached { .. } => {
                "start it first, or name its network namespace by path; pontoon ls lists who is there"
            }
            Self::Ambiguous { .. } => "give more of the id, or a name that only one has",
            Self::OnHost { .. } => "use a network of type host for this one too",
            Self::Itself { .. } => "name another container",
            Self::Circle { .. } => "DEL one of them first",
            Self::HostNamespace { .. } => "use a network of type host",
            Self::NoNamespace { .. } => {
                "give the path of a network namespace, such as /run/netns/NAME"
            }
            Self::OwnNamespace { .. } => "name another one",
            Self::Gone { .. } | Self::NoRecord { .. } => {
                "start it again; GC of its network removes what it left"
            }
        }
        .to_owned()
    }
}

/// Sharing the files of names.
#[derive(Debug, Error)]
#[error("cannot {act} {path}")]
pub(crate) struct FileError {
    pub(crate) act: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl OperationError for FileError {
    fn code(&self) -> u32 {
        code::IO
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
pub(crate) enum Difference {
    #[error("the network that is shared has gone first: {}", cause.msg)]
    TargetGone {
        #[source]
        cause: pontoon_conf::Error,
    },
    #[error("{path} does not lead to the network namespace of {label}")]
    Namespace { path: String, label: String },
    #[error("{path} does not lead to the files of {label}")]
    Files { path: PathBuf, label: String },
    #[error("in the shared network namespace: {what}")]
    Inside { what: String },
}

impl OperationError for Difference {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    /// The message tells it.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        match self {
            Self::TargetGone { .. } => {
                "DEL this container, and ADD it again when the other one is back"
            }
            _ => "DEL and ADD of the container make it so again",
        }
        .to_owned()
    }
}
