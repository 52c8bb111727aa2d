//! What can go wrong with what is written to disk, an enum an operation. `conf` makes the object of the protocol
//! of them.

use std::io;
use std::path::{Path, PathBuf};

use pontoon_conf::{OperationError, code};
use pontoon_netlink::NetnsError;

/// A file or a directory could not be written, listed, locked or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {path}")]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// The error of an `act`, as it follows "cannot", at a path.
    pub fn of(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            act,
            path: path.to_owned(),
            source,
        }
    }
}

impl OperationError for FileError {
    fn code(&self) -> u32 {
        code::IO
    }
}

/// Why a file is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is larger than any record.
    #[error("{path} has {bytes} bytes; {what} has at most {limit}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What the file should be.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size in bytes.
        limit: u64,
    },
    /// It is not JSON of the record's shape.
    #[error("{path} is no {what}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the file should be.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another version wrote it.
    #[error("{path} is a {what} of version {version}; this program reads version {known}")]
    Version {
        /// The file.
        path: PathBuf,
        /// What the file is.
        what: &'static str,
        /// Its version.
        version: u32,
        /// The version that is known here.
        known: u32,
    },
}

impl OperationError for RecordError {
    fn code(&self) -> u32 {
        match self {
            Self::Read { .. } => code::IO,
            Self::TooLarge { .. } | Self::Parse { .. } | Self::Version { .. } => code::DECODE,
        }
    }

    /// The messages tell it.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        match self {
            Self::Version { version, .. } => format!(
                "use the Pontoon that wrote it (records of version {version}) until its containers are gone, or move \
                 the file away: without it only what the kernel shows is found"
            ),
            Self::Read { .. } => {
                "make the file readable for root, then call the plugin again".to_owned()
            }
            Self::TooLarge { .. } | Self::Parse { .. } => {
                "another program has changed it: move the file away and call the plugin again; without it \
                 only what the kernel shows is found"
                    .to_owned()
            }
        }
    }
}

/// Finding the state directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot tell the host's network namespace from others")]
    NoCookie { source: NetnsError },
    #[error("the state directory {path} belongs to user {owner}, not to root")]
    OtherOwner { path: PathBuf, owner: u32 },
    #[error("the state directory {path} may be written by others than its owner (mode {mode:04o})")]
    WritableByOthers { path: PathBuf, mode: u32 },
}

impl OperationError for StateError {
    fn code(&self) -> u32 {
        match self {
            Self::NoCookie { .. } => code::KERNEL,
            Self::OtherOwner { .. } | Self::WritableByOthers { .. } => code::IO,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoCookie { .. } => "SO_NETNS_COOKIE needs Linux 5.14 or newer".to_owned(),
            Self::OtherOwner { path, .. } => format!(
                "look at what is in it, then remove it, or give it to root: chown -R root {}",
                path.display()
            ),
            Self::WritableByOthers { path, .. } => format!(
                "look at what others have put there, then: chmod -R go-w {}",
                path.display()
            ),
        }
    }
}

/// Telling whether the namespace of an attachment still exists.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LivenessError {
    #[error("cannot tell whether container {container} is alive")]
    Namespace {
        container: String,
        source: NetnsError,
    },
    #[error("cannot tell whether the namespace of a container exists")]
    Sandbox { source: NetnsError },
    #[error("cannot look up {name}")]
    Veth {
        name: String,
        source: pontoon_netlink::Error,
    },
    #[error("cannot read /proc")]
    Processes { source: io::Error },
}

impl OperationError for LivenessError {
    fn code(&self) -> u32 {
        match self {
            Self::Namespace { .. } | Self::Sandbox { .. } | Self::Processes { .. } => code::IO,
            Self::Veth { .. } => code::KERNEL,
        }
    }
}

/// Keeping what a host knows of a network of several hosts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OverlayError {
    #[error("{network:?} cannot be the name of an overlay network")]
    Name { network: String },
    /// `problem` is a sentence without subject.
    #[error("{path} {problem}")]
    Values { path: PathBuf, problem: String },
}

impl OperationError for OverlayError {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }

    fn next_step(&self) -> String {
        match self {
            Self::Name { .. } => "choose a name that does not end in \".peers\", without a slash",
            Self::Values { .. } => "",
        }
        .to_owned()
    }
}
