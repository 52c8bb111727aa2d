//! What can go wrong with a macvlan link, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// Making the link.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("failed to lookup master \"{name}\"")]
    NoMaster { name: String },
    #[error("no default route interface found")]
    NoDefaultRoute,
    #[error("{interface} vanished from the container")]
    Vanished { interface: String },
}

impl OperationError for LinkError {
    fn code(&self) -> u32 {
        match self {
            Self::NoMaster { .. } | Self::NoDefaultRoute => code::INVALID_CONFIG,
            Self::Vanished { .. } => code::TRY_AGAIN,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoMaster { .. } | Self::NoDefaultRoute => {
                "name a device that exists in the key \"master\""
            }
            Self::Vanished { .. } => "",
        }
        .to_owned()
    }
}

/// CHECK without the result of ADD, in the words of the reference plugin.
#[derive(Debug, Error)]
#[error("required prevResult missing")]
pub(crate) struct NoPrevResult;

impl OperationError for NoPrevResult {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }
}
