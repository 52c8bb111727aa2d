//! What is wrong with a configuration: one type for the plugins' `config.rs`, one for this crate's own parser.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::{DecodeError, NameError, OperationError, Verb, Version, code};

/// A plugin refuses its configuration, before it changes anything.
///
/// One type for every plugin's `config.rs`: what differs between them is which key, and which words. What a
/// plugin refuses because of the host, such as a clash of networks, is an error of the plugin's own.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct ConfigError {
    fault: Fault,
    /// The fault's words have the cause in them.
    quotes_source: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
    next_step: Cow<'static, str>,
}

/// What is wrong.
#[derive(Debug)]
enum Fault {
    /// The key takes one of a few words, and has another one.
    Unsupported {
        key: Cow<'static, str>,
        value: String,
    },
    /// The key cannot have this value.
    Value {
        key: Cow<'static, str>,
        value: String,
    },
    /// What the key has is wrong for a reason.
    Key { key: Cow<'static, str>, why: String },
    /// The key is not there.
    Missing { key: Cow<'static, str> },
    /// Keys that contradict each other, what the runtime adds, or the words of the reference plugin.
    Refused { what: Cow<'static, str> },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { key, value } => {
                write!(f, "key \"{key}\" cannot be \"{}\"", excerpt(value))
            }
            Self::Value { key, value } => write!(f, "key \"{key}\" cannot be {value}"),
            Self::Key { key, why } => write!(f, "key \"{key}\": {why}"),
            Self::Missing { key } => write!(f, "key \"{key}\" is missing"),
            Self::Refused { what } => f.write_str(what),
        }
    }
}

impl ConfigError {
    fn of(fault: Fault) -> Self {
        Self {
            fault,
            quotes_source: false,
            source: None,
            next_step: Cow::Borrowed(""),
        }
    }

    /// The key takes one of a few words, `takes`, and has another one: code 2.
    #[must_use]
    pub fn unsupported(key: impl Into<Cow<'static, str>>, value: &str, takes: &str) -> Self {
        Self::of(Fault::Unsupported {
            key: key.into(),
            value: value.to_owned(),
        })
        .with_next_step(format!("it takes {takes}"))
    }

    /// The key cannot have this value: code 7.
    #[must_use]
    pub fn value(key: impl Into<Cow<'static, str>>, value: impl fmt::Display) -> Self {
        Self::of(Fault::Value {
            key: key.into(),
            value: value.to_string(),
        })
    }

    /// What the key has is wrong, as `why` says: code 7.
    #[must_use]
    pub fn key(key: impl Into<Cow<'static, str>>, why: impl fmt::Display) -> Self {
        Self::of(Fault::Key {
            key: key.into(),
            why: why.to_string(),
        })
    }

    /// The key is not there: code 7.
    #[must_use]
    pub fn missing(key: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Fault::Missing { key: key.into() })
    }

    /// What is refused in words of its own, because it is more than the value of one key: keys that contradict
    /// each other, or what the runtime adds: code 7.
    #[must_use]
    pub fn refused(what: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Fault::Refused { what: what.into() })
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with its cause, which the message quotes already.
    #[must_use]
    pub fn quoting(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            quotes_source: true,
            ..self.because(source)
        }
    }

    /// The same error with what the admin can do about it.
    #[must_use]
    pub fn with_next_step(mut self, next_step: impl Into<Cow<'static, str>>) -> Self {
        self.next_step = next_step.into();
        self
    }
}

impl OperationError for ConfigError {
    fn code(&self) -> u32 {
        match self.fault {
            Fault::Unsupported { .. } => code::UNSUPPORTED_FIELD,
            _ => code::INVALID_CONFIG,
        }
    }

    fn reason(&self) -> String {
        let source = self.source.as_ref().filter(|_| !self.quotes_source);
        source.map(ToString::to_string).unwrap_or_default()
    }

    fn next_step(&self) -> String {
        self.next_step.clone().into_owned()
    }
}

/// The beginning of a value, 80 characters: hostile ones are shown, but not at any length.
#[must_use]
pub fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Reading the network configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("the network configuration has more than {most} values")]
    TooManyValues { most: usize },
    #[error("the network configuration is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    #[error("the network configuration is not a JSON object")]
    NotObject,
    #[error("missing network name")]
    NoName,
    #[error("invalid characters found in network name")]
    NameCharacters { source: NameError },
    #[error("invalid network name")]
    Name { source: NameError },
    #[error("invalid network name")]
    NameKind { source: DecodeError },
    #[error("config version does not allow {verb}")]
    VerbBeforeItsVersion {
        verb: Verb,
        named: Version,
        since: Version,
    },
    #[error("cniVersion must be a string, not {found}")]
    VersionKind { found: serde_json::Value },
    #[error("incompatible CNI versions")]
    Version {
        named: String,
        supported: Vec<Version>,
    },
    #[error("network {network:?} is configured wrongly: {source}")]
    Key {
        network: String,
        source: DecodeError,
    },
}

impl OperationError for DocumentError {
    fn code(&self) -> u32 {
        match self {
            Self::NotJson(_) | Self::NotObject | Self::VersionKind { .. } => code::DECODE,
            Self::VerbBeforeItsVersion { .. } | Self::Version { .. } => code::INCOMPATIBLE_VERSION,
            Self::TooManyValues { .. }
            | Self::NoName
            | Self::NameCharacters { .. }
            | Self::Name { .. }
            | Self::NameKind { .. }
            | Self::Key { .. } => code::INVALID_CONFIG,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::NameCharacters { source } | Self::Name { source } => source.to_string(),
            Self::NameKind { source } => source.to_string(),
            _ => String::new(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::TooManyValues { .. } => {
                "what is read is bounded, so that no configuration takes the host's memory"
                    .to_owned()
            }
            Self::NotJson(_) => {
                "the runtime must send the plugin's configuration on standard input".to_owned()
            }
            Self::NoName => "write \"name\" into the network configuration".to_owned(),
            Self::VerbBeforeItsVersion { verb, named, since } => format!(
                "config is {:?}, {verb} needs {:?} or newer",
                named.as_str(),
                since.as_str()
            ),
            Self::Version { named, supported } => {
                let supported: Vec<String> = supported
                    .iter()
                    .map(|version| format!("{:?}", version.as_str()))
                    .collect();
                format!(
                    "config is {named:?}, plugin supports [{}]",
                    supported.join(" ")
                )
            }
            Self::Key { .. } => {
                "correct this key in the network configuration, or in what the runtime adds"
                    .to_owned()
            }
            Self::NotObject
            | Self::NameCharacters { .. }
            | Self::Name { .. }
            | Self::NameKind { .. }
            | Self::VersionKind { .. } => String::new(),
        }
    }
}
