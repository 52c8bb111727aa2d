//! What can go wrong with a network's policy, an enum an operation.

use pontoon_conf::{OperationError, code};
use pontoon_netfilter::firewalld;
use thiserror::Error;

/// Deciding what the policy is and where it is held.
#[derive(Debug, Error)]
pub(crate) enum PolicyError {
    #[error("must be called as chained plugin: no prevResult")]
    NoPrevResult,
    #[error("key \"trustedInterfaces\": {bridge} is the network's own bridge")]
    TrustedOwn { bridge: String },
    #[error("no bridge in prevResult to hold the network's policy on")]
    NoBridge,
    #[error("icc false: no bridge port of {bridge} in prevResult to keep apart")]
    NoPort { bridge: String },
    #[error("network {network} is internal: no port of container {container} can be published")]
    Published { network: String, container: String },
}

impl OperationError for PolicyError {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoPrevResult => "list firewall after the plugin that creates the interface",
            Self::TrustedOwn { .. } => "containers of one network reach each other by icc",
            Self::NoBridge => {
                "list firewall after a plugin that joins containers to a bridge, or leave its keys out"
            }
            Self::NoPort { .. } => {
                "the plugin before firewall must name the host's end of the veth pair, after the bridge"
            }
            Self::Published { .. } => {
                "set \"internal\": true in the bridge plugin too: then portmap publishes nothing through this network"
            }
        }
        .to_owned()
    }
}

/// Keeping containers of one bridge apart.
#[derive(Debug, Error)]
#[error("cannot let {bridge} answer for its containers: /proc/sys/{path}")]
pub(crate) struct ProxyError {
    pub(crate) bridge: String,
    pub(crate) path: String,
    pub(crate) source: std::io::Error,
}

impl OperationError for ProxyError {
    fn code(&self) -> u32 {
        code::KERNEL
    }
}

/// Entering a zone of firewalld that has to be there.
#[derive(Debug, Error)]
#[error("backend firewalld, zone {zone}: {reason}")]
pub(crate) struct ZoneError {
    pub(crate) zone: String,
    pub(crate) reason: firewalld::Error,
}

impl OperationError for ZoneError {
    fn code(&self) -> u32 {
        code::RULES
    }

    fn next_step(&self) -> String {
        next_step(&self.reason).to_owned()
    }
}

/// What an admin does about an error of firewalld.
pub(crate) fn next_step(error: &firewalld::Error) -> &'static str {
    match error {
        firewalld::Error::Bus { .. } => {
            "start firewalld, or let the runtime pass DBUS_SYSTEM_BUS_ADDRESS on"
        }
        firewalld::Error::Refused { .. } => {
            "see `firewall-cmd --get-active-zones`, or name another zone in firewalldZone"
        }
    }
}

/// CHECK: what differs from what ADD has made.
#[derive(Debug, Error)]
#[error("policy of network {network} for container {container}: {}", differences[0])]
pub(crate) struct Differences {
    pub(crate) network: String,
    pub(crate) container: String,
    /// One at least.
    pub(crate) differences: Vec<String>,
}

impl OperationError for Differences {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        format!(
            "{}; an ADD of the network, or `pontoon repair`, makes it again",
            self.differences.join("; ")
        )
    }
}

/// STATUS: what an ADD would fail for, and what attached containers suffer from.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    #[error("{drop} drops {what}: containers of network {network} have no way out")]
    Dropped {
        drop: String,
        what: String,
        network: String,
        advice: String,
    },
    #[error("{chain} drops what goes to and from {interface}")]
    MayDrop {
        chain: String,
        interface: String,
        advice: String,
    },
    #[error("no policy can be held: {}", cause.msg)]
    NotHeld {
        #[source]
        cause: pontoon_conf::Error,
    },
}

impl OperationError for StatusError {
    fn code(&self) -> u32 {
        match self {
            Self::Dropped { .. } | Self::MayDrop { .. } => code::LIMITED,
            Self::NotHeld { .. } => code::NOT_AVAILABLE,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::NotHeld { cause } => cause.details.clone(),
            _ => String::new(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Dropped { advice, .. } | Self::MayDrop { advice, .. } => advice.clone(),
            Self::NotHeld { .. } => String::new(),
        }
    }
}
