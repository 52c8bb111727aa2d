//! What can go wrong with a result: reading one of another plugin, and writing one in an old version's shape.

use crate::{DecodeError, NameError, OperationError, Version, code};

#[derive(Debug, thiserror::Error)]
pub(super) enum ResultError {
    #[error("the result is not a JSON object")]
    NotObject,
    #[error("cannot read the result: {0}")]
    Malformed(#[source] DecodeError),
    #[error("unsupported CNI result version {named}")]
    Version { named: serde_json::Value },
    #[error("interfaces: {0}")]
    Interface(#[source] NameError),
    #[error("a result with {count} {what}: an attachment has {most} at most")]
    TooMany {
        count: usize,
        what: &'static str,
        most: usize,
    },
    #[error("cannot convert: no valid IP addresses")]
    NoAddress { version: Version },
}

impl OperationError for ResultError {
    fn code(&self) -> u32 {
        match self {
            Self::NotObject | Self::Malformed(_) => code::DECODE,
            Self::Version { .. } | Self::NoAddress { .. } => code::INCOMPATIBLE_VERSION,
            Self::Interface(_) | Self::TooMany { .. } => code::INVALID_CONFIG,
        }
    }

    /// The messages tell it.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotObject | Self::Malformed(_) => String::new(),
            Self::Version { .. } => {
                format!(
                    "supported are {}",
                    Version::ALL.map(Version::as_str).join(", ")
                )
            }
            Self::Interface(_) => {
                "the plugin that wrote the result must name an interface of the kernel".to_owned()
            }
            Self::TooMany { .. } => "give the container fewer of them".to_owned(),
            Self::NoAddress { version } => format!(
                "a result of CNI {version} needs an address; write \"cniVersion\": \"0.3.1\" or newer \
                 in the network configuration"
            ),
        }
    }
}
