//! What can go wrong with the settings of a container, an enum an operation.

use std::fmt;
use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use thiserror::Error;

use crate::config::ALLOWLIST;

/// The kernel's refusal of a parameter.
#[derive(Debug, Error)]
#[error("/proc/sys/{path}: {source}")]
pub(crate) struct Parameter {
    /// Below `/proc/sys`.
    pub(crate) path: String,
    pub(crate) source: io::Error,
}

/// Reading, setting and restoring.
#[derive(Debug, Error)]
pub(crate) enum SettingError {
    #[error("Cannot find container link {interface}")]
    NoLink { interface: String },
    #[error("the kernel has no parameter {key}")]
    Unknown { key: String, path: String },
    #[error("cannot read what {key} was before")]
    Unread { key: String, source: Parameter },
    #[error("cannot set {key} to {value:?}")]
    NotSet {
        key: String,
        value: String,
        source: Parameter,
    },
    #[error("cannot restore /proc/sys/{path}")]
    NotRestored { path: String, source: io::Error },
}

impl OperationError for SettingError {
    fn code(&self) -> u32 {
        match self {
            Self::NoLink { .. } => code::UNKNOWN_CONTAINER,
            Self::Unknown { .. } => code::INVALID_CONFIG,
            Self::Unread { .. } | Self::NotSet { .. } | Self::NotRestored { .. } => code::KERNEL,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoLink { .. } => {
                "tuning comes after the plugin that makes the interface".to_owned()
            }
            Self::Unknown { path, .. } => {
                format!("/proc/sys/{path} does not exist in the container; a module may be missing")
            }
            Self::Unread { .. } | Self::NotSet { .. } | Self::NotRestored { .. } => String::new(),
        }
    }
}

/// What is done with the file of what was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAction {
    Read,
    Write,
    Remove,
}

impl fmt::Display for FileAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        })
    }
}

/// Remembering what was before.
#[derive(Debug, Error)]
#[error("cannot {act} {path}")]
pub(crate) struct BackupError {
    pub(crate) act: FileAction,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl OperationError for BackupError {
    fn code(&self) -> u32 {
        code::IO
    }

    fn next_step(&self) -> String {
        match self.act {
            FileAction::Read => {
                "what the container's settings were before is not known: set them by hand, then remove the file"
            }
            FileAction::Write | FileAction::Remove => "",
        }
        .to_owned()
    }
}

/// Asking the host's list of parameters.
#[derive(Debug, Error)]
pub(crate) enum AllowlistError {
    #[error("cannot read {file}", file = ALLOWLIST)]
    Unread { source: io::Error },
    #[error("{file}: {line:?} is no regular expression", file = ALLOWLIST)]
    Pattern {
        line: String,
        source: regex_lite::Error,
    },
    #[error("Sysctl {key} is not allowed. Only the following sysctls are allowed: [{allowed}]")]
    NotAllowed { key: String, allowed: String },
}

impl OperationError for AllowlistError {
    fn code(&self) -> u32 {
        match self {
            Self::Unread { .. } => code::IO,
            Self::Pattern { .. } | Self::NotAllowed { .. } => code::INVALID_CONFIG,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Unread { .. } | Self::Pattern { .. } => String::new(),
            Self::NotAllowed { .. } => {
                format!("the list is {ALLOWLIST}; its lines are regular expressions")
            }
        }
    }
}
