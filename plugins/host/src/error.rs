//! What can go wrong with the host's network, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// CHECK: what differs from what ADD has made.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{path} does not lead to the host's network namespace")]
pub(crate) struct Difference {
    pub(crate) path: String,
}

impl OperationError for Difference {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        "DEL and ADD of the container make it so again".to_owned()
    }
}
