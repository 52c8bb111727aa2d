//! What can go wrong with having no network, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// Leaving the container alone.
#[derive(Debug, Error)]
pub(crate) enum AloneError {
    #[error("interface {interface} is in the container, which is to have no network")]
    Intruder { interface: String },
    #[error("the container has no interface lo")]
    NoLoopback,
}

impl OperationError for AloneError {
    fn code(&self) -> u32 {
        match self {
            Self::Intruder { .. } => code::EXISTS,
            Self::NoLoopback => code::KERNEL,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Intruder { .. } => {
                "DEL the attachment that made it, or leave out the network of type none"
            }
            Self::NoLoopback => "",
        }
        .to_owned()
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
pub(crate) enum Difference {
    #[error("interface {interface} has appeared in the container, which is to have no network")]
    Appeared { interface: String },
    #[error("loopback interface is down")]
    Down,
}

impl OperationError for Difference {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        match self {
            Self::Appeared { interface } => format!(
                "remove it (ip link delete {interface}), or attach the container to a network by ADD"
            ),
            Self::Down => "an ADD brings it up".to_owned(),
        }
    }
}
