//! What the worker asks of the keeper, and what the keeper says. A request is one datagram of a socket
//! pair, and so is its answer; descriptors travel with it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Most files that are opened by one request: a datagram has room for their names and descriptors.
pub(crate) const FILES: usize = 32;

/// A request and its number, which the answer repeats: a request that is sent again because another
/// process has become the keeper may be answered twice.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NumberedMessage<T> {
    pub(crate) number: u64,
    pub(crate) outcome: T,
}

/// What the worker cannot do itself. Paths are relative to the state directory, keys are those of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Open these files and directories for reading; at most [`FILES`].
    Open(Vec<String>),
    /// Is there a record of this name?
    Exists(String),
    /// Tell of changes in a directory.
    Watch(WatchKind, String),
    /// Both sockets at a gateway that one of these records names.
    Listen {
        keys: Vec<String>,
        address: IpAddr,
        port: u16,
    },
    /// A socket in the container's network namespace, connected to a server that its record names.
    Connect {
        key: String,
        server: SocketAddr,
        stream: bool,
    },
    /// Is one of the containers of these records alive?
    IsAnyAlive(Vec<String>),
    /// The sockets are there: write the port, tell the starter.
    Ready { port: u16 },
    /// There is no port to listen at; why, in words.
    Failed(String),
    /// Take the lock under which a resolver is started: no record comes unseen while it is held.
    Lock,
    /// Give it back.
    Unlock,
    /// Remove the files and end, under the lock.
    Leave,
    /// A signal asks for the end.
    Stop,
    /// Which processes are there?
    About,
}

/// Which descriptor tells of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum WatchKind {
    /// The records of names.
    Records,
    /// What other plugins have noted of networks.
    Notes,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    /// Of each file in turn; a descriptor for each that is [`OpenResult::There`].
    Opened(Vec<OpenResult>),
    Is(bool),
    /// The number of the watch.
    Watching(i32),
    Departure(ShutdownPermission),
    About(ResolverProcesses),
    /// Why not, in words and as the system call's error.
    Refused {
        text: String,
        errno: Option<i32>,
    },
    /// Another process is the keeper now: ask again what has no answer.
    Again,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OpenResult {
    There,
    Missing,
    Failed(String),
}

/// Whether a resolver may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShutdownPermission {
    /// The lock is held: no plugin starts one meanwhile.
    Locked,
    /// A plugin is about to.
    Contested,
    /// The state directory is gone: no plugin will ever find this resolver.
    Homeless,
}

/// The processes of a resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResolverProcesses {
    pub(crate) keeper: u32,
    pub(crate) standby: Option<u32>,
    /// Workers before this one.
    pub(crate) restarts: u64,
}

/// What a worker is told first. With it come the control socket, and a descriptor for each kind of
/// watch that there is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerHandover {
    pub(crate) port: u16,
    pub(crate) records: bool,
    pub(crate) notes: bool,
    /// How the worker before has ended, in words.
    pub(crate) ended: Option<String>,
}

/// What a standby is told, again whenever there is another worker. With it come the lock, the control
/// socket, the keeper's end of the worker's pair, and its watches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StandbyHandover {
    pub(crate) port: u16,
    pub(crate) records: bool,
    pub(crate) notes: bool,
    pub(crate) worker: Option<u32>,
    pub(crate) restarts: u64,
}

impl Reply {
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::Refused {
            text: text.into(),
            errno: None,
        }
    }

    /// The answer where a system call failed.
    pub(crate) fn failed(error: &io::Error) -> Self {
        Self::Refused {
            text: error.to_string(),
            errno: error.raw_os_error(),
        }
    }

    /// The error that a refusal is.
    pub(crate) fn into_error(self) -> io::Error {
        match self {
            Self::Refused {
                errno: Some(errno), ..
            } => io::Error::from_raw_os_error(errno),
            Self::Refused { text, .. } => io::Error::other(text),
            other => io::Error::other(format!("the keeper answers {other:?}")),
        }
    }
}
