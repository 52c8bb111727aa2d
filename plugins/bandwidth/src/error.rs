//! What can go wrong with limits of traffic, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// Setting limits.
#[derive(Debug, Error)]
pub(crate) enum LimitError {
    #[error("must be called as chained plugin")]
    NotChained,
    #[error("container interface {interface} has no veth peer")]
    NoInterface { interface: String },
    #[error("container interface {interface} has no veth peer")]
    NoPair { interface: String },
    #[error("no veth peer of container interface found in host ns")]
    PeerElsewhere { interface: String },
    #[error("{what} of {port} is taken by another program's traffic control")]
    Busy { what: &'static str, port: String },
}

impl OperationError for LimitError {
    fn code(&self) -> u32 {
        match self {
            Self::Busy { .. } => code::EXISTS,
            _ => code::INVALID_CONFIG,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotChained => {
                "bandwidth comes after the plugin that makes the interface".to_owned()
            }
            Self::NoInterface { .. } => "the container has no such interface".to_owned(),
            Self::NoPair { .. } => {
                "bandwidth limits veth pairs only, such as bridge and ptp make".to_owned()
            }
            Self::PeerElsewhere { interface } => format!(
                "the other end of {interface} is not in the namespace that the plugin runs in"
            ),
            Self::Busy { port, .. } => format!("see tc qdisc show dev {port}"),
        }
    }
}

/// CHECK without the result of ADD, in the words of the reference plugin.
#[derive(Debug, Error)]
#[error("must be called as a chained plugin")]
pub(crate) struct CheckedAlone;

impl OperationError for CheckedAlone {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }
}
