//! What can go wrong with a plugin as a process, an enum an operation, and the two refusals of the kernel that
//! every plugin meets. `conf` makes the object of the protocol of them.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use pontoon_conf::{Error, NameError, OperationError, PluginType, code};
use pontoon_netlink::NetnsError;

/// The kernel has refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct KernelError {
    action: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl OperationError for KernelError {
    fn code(&self) -> u32 {
        code::KERNEL
    }
}

/// A kernel refusal, as the runtime should see it; it stays the error's source. `action` names the failed act and the
/// object.
#[must_use]
pub fn kernel_error(
    action: impl Into<String>,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    KernelError {
        action: action.into(),
        source: source.into(),
    }
    .into()
}

/// The container's network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("CNI_NETNS: {0}")]
pub struct UnusableNetns(#[source] Arc<NetnsError>);

impl OperationError for UnusableNetns {
    fn code(&self) -> u32 {
        code::INVALID_ENVIRONMENT
    }

    /// The message tells it.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        "give the path of a network namespace, such as /run/netns/NAME or /proc/PID/ns/net"
            .to_owned()
    }
}

/// A namespace that cannot be used, as the runtime should see it.
#[must_use]
pub fn netns_error(error: impl Into<Arc<NetnsError>>) -> Error {
    UnusableNetns(error.into()).into()
}

/// What a verb needs to know of its call is not there, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("{0}")]
    Name(#[source] NameError),
    #[error("required env variables [CNI_NETNS] missing")]
    NoNetns,
    #[error("CNI_NETNS {path} is the network namespace that the plugin itself runs in")]
    OwnNetns { path: String },
    #[error("Required prevResult missing")]
    NoPrevResult,
}

impl OperationError for ContextError {
    fn code(&self) -> u32 {
        match self {
            Self::Name(_) | Self::NoNetns => code::INVALID_ENVIRONMENT,
            Self::OwnNetns { .. } => code::INVALID_NETNS,
            Self::NoPrevResult => code::INVALID_CONFIG,
        }
    }

    /// The message of a wrong name is the name's own.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        match self {
            Self::OwnNetns { .. } => {
                "a container needs a network namespace of its own; set CNI_NETNS_OVERRIDE=1 only if \
                 the host's own interfaces may be changed"
            }
            Self::Name(_) | Self::NoNetns | Self::NoPrevResult => "",
        }
        .to_owned()
    }
}

/// Reading standard input and writing standard output.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot read the network configuration from standard input")]
    Input(#[source] io::Error),
    #[error("the network configuration is longer than {most} bytes")]
    LongInput { most: u64 },
    #[error("cannot write the result to standard output")]
    Output(#[source] io::Error),
    #[error("the plugin has a fault at {place}: {words}")]
    Panic { place: String, words: String },
}

impl OperationError for ProcessError {
    fn code(&self) -> u32 {
        match self {
            Self::Input(_) | Self::Output(_) => code::IO,
            Self::LongInput { .. } => code::INVALID_CONFIG,
            Self::Panic { .. } => code::FAULT,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Panic { .. } => {
                "DEL removes what it has made so far; please report this place and these words"
            }
            Self::LongInput { .. } => {
                "what is read is bounded, so that no configuration holds the host up"
            }
            Self::Input(_) | Self::Output(_) => "",
        }
        .to_owned()
    }
}

/// Running another plugin. The object that a plugin prints which fails by itself is none of these: it is passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DelegateError {
    #[error("failed to find plugin \"{kind}\" in CNI_PATH")]
    NotFound { kind: PluginType, searched: String },
    #[error("cannot run the delegated plugin {program}")]
    Run { program: PathBuf, source: io::Error },
    #[error("no error object from the delegated plugin {program}")]
    NoErrorObject {
        program: PathBuf,
        status: ExitStatus,
        output: String,
    },
    #[error("no result from the delegated plugin {program}")]
    NoResult {
        program: PathBuf,
        source: serde_json::Error,
    },
}

impl OperationError for DelegateError {
    fn code(&self) -> u32 {
        match self {
            Self::NotFound { .. } => code::INVALID_CONFIG,
            Self::Run { .. } | Self::NoErrorObject { .. } | Self::NoResult { .. } => code::DELEGATE,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NotFound { searched, .. } => format!("searched {searched}"),
            Self::NoErrorObject { status, output, .. } => format!("{status}, output: {output}"),
            Self::Run { .. } | Self::NoResult { .. } => String::new(),
        }
    }
}

/// A test has asked for a failure here.
#[cfg(debug_assertions)]
#[derive(Debug, thiserror::Error)]
#[error("fault injected at {point}")]
pub(crate) struct InjectedFault {
    pub(crate) point: String,
}

#[cfg(debug_assertions)]
impl OperationError for InjectedFault {
    fn code(&self) -> u32 {
        code::IO
    }
}
