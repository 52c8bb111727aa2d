//! What can go wrong. One type for the whole crate, since a plugin's step mixes operations; where the kernel's number
//! alone is ambiguous, a variant of its own says what it means.

use std::io;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::frame::Failure;
use crate::name::InvalidName;
use crate::netns::NetnsError;
use crate::setup::Step;

/// A netlink operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel answered the request with an error.
    #[error("cannot {action} {object}: {}", .why)]
    Kernel {
        /// The failed act, as it follows "cannot".
        action: String,
        /// What it was done to.
        object: String,
        /// The kernel's answer.
        why: Refusal,
    },
    /// The socket itself failed.
    #[error("cannot {action} on a netlink socket: {source}")]
    Io {
        /// The failed act.
        action: String,
        /// The system call's error.
        source: io::Error,
    },
    /// The kernel's answer lacks what it must contain.
    #[error("the kernel's answer to \"{action} {object}\" has no {missing}")]
    Incomplete {
        /// The act.
        action: String,
        /// What it was done to.
        object: String,
        /// What the answer lacks.
        missing: &'static str,
    },
    /// The kernel's table changed during each of a hundred attempts to read it.
    #[error("the kernel's table changed during every attempt to read it: try again")]
    Unstable,
    /// No interface can be called so.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The owner's note on a link is longer than the kernel's `IFALIASZ` allows.
    #[error("cannot label {object}: the alias has {length} bytes, and 255 are the most")]
    AliasTooLong {
        /// The link.
        object: String,
        /// Bytes of the alias.
        length: usize,
    },
    /// The namespace for a socket could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetnsError),

    /// The namespace has an interface of that name, maybe made by a neighbour a moment ago: look again.
    #[error("cannot create {name}: an interface of that name exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The container has an interface of the name that the veth's peer shall have.
    #[error("cannot create veth {name}: the container has an interface {peer_name} already")]
    PeerNameTaken {
        /// The host end's name.
        name: String,
        /// The container end's name.
        peer_name: String,
    },
    /// The bridge has all the ports a bridge can have.
    #[error(
        "cannot create veth {name}: bridge number {bridge} is full, Linux allows 1023 ports; use a second network"
    )]
    BridgeFull {
        /// The host end's name.
        name: String,
        /// The bridge's number.
        bridge: u32,
    },
    /// What should be the bridge is gone, or is no bridge.
    #[error("cannot create veth {name}: interface number {master} is no bridge")]
    NoBridge {
        /// The host end's name.
        name: String,
        /// The number given as bridge.
        master: u32,
    },
    /// This kernel cannot filter VLANs. The bridge is gone again.
    #[error(
        "cannot create bridge {name}: the kernel has no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING); leave VLANs out"
    )]
    NoVlanFiltering {
        /// The bridge's name.
        name: String,
    },
    /// Something was made, could not be finished, and could not be deleted either.
    #[error("{source}; and what was half made remains: {undo}")]
    Remains {
        /// What failed first.
        source: Box<Error>,
        /// Why it is still there.
        undo: Box<Error>,
    },

    /// IPv6 is off on this interface.
    #[error(
        "cannot add address {address}: IPv6 is disabled on the interface; set net/ipv6/conf/*/disable_ipv6 to 0"
    )]
    Ipv6Disabled {
        /// The address that was refused.
        address: IpNetwork,
    },
    /// The interface has this address already.
    #[error("cannot add address {address}: the interface has it already")]
    AddressTaken {
        /// The address.
        address: IpNetwork,
    },
    /// The kernel refused a step of [`RouteSocket::configure`](crate::RouteSocket::configure).
    #[error("cannot {step} in the container: {why}")]
    Setup {
        /// The step.
        step: Box<Step>,
        /// The kernel's answer.
        why: Refusal,
    },

    /// A link that was ordered to be deleted is still in view.
    #[error(
        "interface number {index} is still there {waited:?} after it was deleted; look for who holds the kernel's rtnl lock"
    )]
    StillThere {
        /// The link's number.
        index: u32,
        /// How long.
        waited: Duration,
    },
    /// Connection tracking is not there, or this kernel's is not reachable by netlink.
    #[error("the kernel has no connection tracking over netlink (CONFIG_NF_CT_NETLINK): {why}")]
    NoConntrack {
        /// The kernel's answer.
        why: Refusal,
    },
    /// A filter that would match every flow.
    #[error("refusing to cut every flow of the namespace: name a port, a destination or a source")]
    EmptyFilter,
}

/// The kernel's word on a request: a number and, for some requests, an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The explanation, from the extended acknowledgement.
    pub message: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.errno.desc())?;
        self.message
            .as_deref()
            .map_or(Ok(()), |message| write!(f, " ({message})"))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal {
            errno: failure.errno,
            message: failure.message,
        }
    }
}

impl Error {
    /// The error number, when the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { why, .. } | Error::Setup { why, .. } | Error::NoConntrack { why } => {
                Some(why.errno)
            }
            Error::Io { source, .. } | Error::Namespace(NetnsError::Io { source, .. }) => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Error::NameTaken { .. } | Error::PeerNameTaken { .. } | Error::AddressTaken { .. } => {
                Some(Errno::EEXIST)
            }
            Error::BridgeFull { .. } => Some(Errno::EXFULL),
            Error::Ipv6Disabled { .. } => Some(Errno::EACCES),
            Error::Remains { source, .. } => source.errno(),
            _ => None,
        }
    }

    /// The object is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// The bridge has no port left.
    #[must_use]
    pub fn is_bridge_full(&self) -> bool {
        self.errno() == Some(Errno::EXFULL)
    }

    pub(crate) fn kernel(action: &str, object: impl ToString, failure: Failure) -> Error {
        Error::Kernel {
            action: action.to_owned(),
            object: object.to_string(),
            why: failure.into(),
        }
    }

    pub(crate) fn io(action: &str) -> impl FnOnce(io::Error) -> Error + '_ {
        move |source| Error::Io {
            action: action.to_owned(),
            source,
        }
    }
}
