//! What can go wrong with a pair without a bridge, an enum an operation.

use pontoon_conf::{OperationError, code};
use thiserror::Error;

/// CHECK without the result of ADD, in the words of the reference plugin.
#[derive(Debug, Error)]
#[error("ptp: Required prevResult missing")]
pub(crate) struct NoPrevResult;

impl OperationError for NoPrevResult {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }
}

/// STATUS: what an ADD would fail for.
#[derive(Debug, Error)]
#[error("no masquerade: {}", cause.msg)]
pub(crate) struct NoMasquerade {
    #[source]
    pub(crate) cause: pontoon_conf::Error,
}

impl OperationError for NoMasquerade {
    fn code(&self) -> u32 {
        code::NOT_AVAILABLE
    }

    fn reason(&self) -> String {
        self.cause.details.clone()
    }
}
