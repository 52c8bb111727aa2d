//! What can go wrong with source based routing, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// Finding the interface in the container.
#[derive(Debug, Error)]
#[error("Cannot find container link {interface}")]
pub(crate) struct NoLink {
    pub(crate) interface: String,
}

impl OperationError for NoLink {
    fn code(&self) -> u32 {
        code::UNKNOWN_CONTAINER
    }

    fn next_step(&self) -> String {
        "sbr comes after the plugin that makes the interface".to_owned()
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
#[error("routing of container {container}: {what}")]
pub(crate) struct Difference {
    pub(crate) container: String,
    pub(crate) what: String,
}

impl OperationError for Difference {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        "an ADD of the container makes it again".to_owned()
    }
}
