//! What can go wrong with `lo`, an enum an operation.

use pontoon_conf::{Cidr, OperationError, code};
use thiserror::Error;

/// Bringing it up.
#[derive(Debug, Error)]
pub(crate) enum UpError {
    #[error("the container has no interface lo")]
    Missing,
    #[error("loopback interface found with non-loopback address {address}")]
    OtherAddress { address: Cidr },
}

impl OperationError for UpError {
    fn code(&self) -> u32 {
        code::KERNEL
    }

    fn next_step(&self) -> String {
        match self {
            Self::Missing => "",
            Self::OtherAddress { .. } => "remove the address from lo of the container",
        }
        .to_owned()
    }
}

/// CHECK: it is not up any more.
#[derive(Debug, Error)]
#[error("loopback interface is down")]
pub(crate) struct Down;

impl OperationError for Down {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        "an ADD brings it up".to_owned()
    }
}
