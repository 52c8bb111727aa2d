//! What can go wrong with the names of a container, an enum an operation.

use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use pontoon_dns::start;
use thiserror::Error;

/// Finding out where the container is.
#[derive(Debug, Error)]
pub(crate) enum PlaceError {
    #[error("must be called as chained plugin: no prevResult")]
    NoPrevResult,
    #[error("no address of {interface} in prevResult to name")]
    NoAddress { interface: String },
}

impl OperationError for PlaceError {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoPrevResult => "list dns after the plugin that creates the interface",
            Self::NoAddress { .. } => {
                "the plugin before dns must give the container's interface an address"
            }
        }
        .to_owned()
    }
}

/// Reading and writing the files of names.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    #[error("cannot read resolvConf {path}")]
    ResolvConf { path: PathBuf, source: io::Error },
    #[error("cannot {act} {path}")]
    Refused {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{0}")]
    Encode(serde_json::Error),
}

impl OperationError for FileError {
    fn code(&self) -> u32 {
        code::IO
    }
}

/// Starting the resolver and telling it names.
#[derive(Debug, Error)]
pub(crate) enum ResolverError {
    #[error("the resolver ended right after its start")]
    Ended,
    #[error("the resolver at {socket} does not answer")]
    Silent { socket: PathBuf, source: io::Error },
    #[error("the resolver refuses the names of container {container}: {answer}")]
    Refuses { container: String, answer: String },
    #[error("the resolver {program} is not installed", program = start::PROGRAM)]
    NotInstalled { searched: String },
    #[error("cannot start the resolver {program}")]
    NotStarted { program: PathBuf, reason: String },
    #[error("{program} is built without DNS over TLS and cannot ask {server}")]
    WithoutTls { program: PathBuf, server: String },
}

impl OperationError for ResolverError {
    fn code(&self) -> u32 {
        match self {
            Self::Silent { .. } => code::TRY_AGAIN,
            _ => code::RESOLVER,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Ended => "run `pontoon-dns` by hand to see why".to_owned(),
            Self::Silent { .. } => String::new(),
            Self::Refuses { .. } => "`pontoon dns status` tells more".to_owned(),
            Self::NotInstalled { searched } => {
                format!("put it beside the plugin, or set \"serve\": \"none\"; searched {searched}")
            }
            Self::NotStarted { reason, .. } => reason.clone(),
            Self::WithoutTls { .. } => {
                "install one that is built with the feature dns-over-tls, or name plain addresses"
                    .to_owned()
            }
        }
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
#[error("names of container {container}: {what}")]
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

/// STATUS: what an ADD would fail for, and what attached containers suffer from.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    #[error("no resolver is running: containers of network {network} find no names")]
    NoResolver { network: String },
    #[error(
        "{chain} drops questions to the resolver: containers of network {network} find no names"
    )]
    Dropped {
        chain: String,
        network: String,
        details: String,
    },
    #[error("names cannot be served: {}", cause.msg)]
    NotServed {
        #[source]
        cause: pontoon_conf::Error,
    },
}

impl OperationError for StatusError {
    fn code(&self) -> u32 {
        match self {
            Self::NoResolver { .. } | Self::Dropped { .. } => code::LIMITED,
            Self::NotServed { .. } => code::NOT_AVAILABLE,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::NotServed { cause } => cause.details.clone(),
            _ => String::new(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoResolver { .. } => {
                "the next ADD starts it, and so does: pontoon dns start".to_owned()
            }
            Self::Dropped { details, .. } => details.clone(),
            Self::NotServed { .. } => String::new(),
        }
    }
}
