//! What can go wrong with a device of the host, an enum an operation.

use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use thiserror::Error;

use crate::config::{AUXILIARY, PCI};

/// Finding the device.
#[derive(Debug, Error)]
pub(crate) enum DeviceError {
    #[error("failed to find host device: failed to find network devices of {address}")]
    NotOnBus { address: String },
    #[error("failed to find host device: failed to find physical interface")]
    None { selector: String },
    #[error("failed to find host device: failed to find network devices at {dir:?}")]
    Unlisted { dir: PathBuf, source: io::Error },
    #[error("cannot list {dir}")]
    Unread { dir: PathBuf, source: io::Error },
}

impl OperationError for DeviceError {
    fn code(&self) -> u32 {
        match self {
            Self::Unread { .. } => code::IO,
            _ => code::INVALID_CONFIG,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotOnBus { .. } => format!("neither {PCI} nor {AUXILIARY} has it"),
            Self::None { selector } => format!("the host has no {selector}"),
            Self::Unlisted { .. } | Self::Unread { .. } => String::new(),
        }
    }
}

/// Moving the device into the container and back.
#[derive(Debug, Error)]
pub(crate) enum MoveError {
    #[error("failed to move link lo: loopback stays where it is")]
    Loopback,
    #[error("failed to find \"{interface}\" in the container")]
    Lost { interface: String },
    #[error("failed to move {interface:?} to host netns as {name:?}")]
    Taken { interface: String, name: String },
}

impl OperationError for MoveError {
    fn code(&self) -> u32 {
        match self {
            Self::Loopback => code::INVALID_CONFIG,
            Self::Lost { .. } => code::KERNEL,
            Self::Taken { .. } => code::EXISTS,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Loopback => "name another device".to_owned(),
            Self::Lost { .. } => String::new(),
            Self::Taken { name, .. } => format!(
                "the host has another interface {name} by now: rename or remove that one, and run DEL again"
            ),
        }
    }
}
