//! What can go wrong with the steps that plugins share, an enum an operation. `conf` makes the object of the protocol
//! of them.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use pontoon_netfilter::firewalld;
use pontoon_netlink::NetnsError;

/// The netfilter backend has refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RulesError(#[source] pub(crate) pontoon_netfilter::Error);

impl OperationError for RulesError {
    fn code(&self) -> u32 {
        match &self.0 {
            error if error.is_transient() => code::TRY_AGAIN,
            error if error.is_clash() => code::CONFLICT,
            _ => code::RULES,
        }
    }

    /// All causes of the backend's error, the deepest first.
    fn reason(&self) -> String {
        let mut causes = Vec::new();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            causes.insert(0, error.to_string());
            cause = error.source();
        }
        causes.join("; ")
    }

    fn next_step(&self) -> String {
        self.0.next_step()
    }
}

/// firewalld has not taken the bridge into its zone.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ZoneError(#[source] pub(crate) firewalld::Error);

impl OperationError for ZoneError {
    fn code(&self) -> u32 {
        code::RULES
    }

    fn reason(&self) -> String {
        self.0.source().map(ToString::to_string).unwrap_or_default()
    }
}

/// Making an interface inside the container what the network needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerLinkError {
    #[error("container veth name (\"{name}\") already exists")]
    NameTaken { name: String, netns: String },
    #[error("cannot enable IPv6 on {name} in the container")]
    WithoutIpv6 {
        name: String,
        path: String,
        source: io::Error,
    },
}

impl OperationError for ContainerLinkError {
    fn code(&self) -> u32 {
        match self {
            Self::NameTaken { .. } => code::EXISTS,
            Self::WithoutIpv6 { .. } => code::KERNEL,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::NameTaken { .. } => String::new(),
            Self::WithoutIpv6 { path, source, .. } => format!("/proc/sys/{path}: {source}"),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NameTaken { netns, .. } => format!(
                "an interface of that name is in {netns}; DEL the attachment first, or set another CNI_IFNAME"
            ),
            Self::WithoutIpv6 { .. } => String::new(),
        }
    }
}

/// CHECK: something is not as ADD has left it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Difference {
    pub(crate) what: String,
    pub(crate) next_step: &'static str,
}

impl OperationError for Difference {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        self.next_step.to_owned()
    }
}

/// Making `CNI_NETNS` lead to another namespace, and back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebindError {
    #[error(
        "CNI_NETNS {path} is the network namespace of a running process, and cannot be made to lead to another one"
    )]
    OfProcess { path: String, instead: String },
    #[error(
        "CNI_NETNS {path} has a path that is not UTF-8, and cannot be made to lead to another one"
    )]
    NotUtf8 { path: String, instead: String },
    #[error("CNI_NETNS {path} leads to a network namespace that is not its own already")]
    Already { path: String },
    #[error("{0}")]
    Mount(#[source] NetnsError),
}

impl OperationError for RebindError {
    fn code(&self) -> u32 {
        match self {
            Self::OfProcess { .. } | Self::NotUtf8 { .. } => code::INVALID_NETNS,
            Self::Already { .. } => code::EXISTS,
            Self::Mount(_) => code::KERNEL,
        }
    }

    /// The message of a failed mount is the mount's own.
    fn reason(&self) -> String {
        String::new()
    }

    fn next_step(&self) -> String {
        match self {
            Self::OfProcess { instead, .. } | Self::NotUtf8 { instead, .. } => instead,
            Self::Already { .. } => {
                "DEL the attachment that did it first, or unmount the path once"
            }
            Self::Mount(_) => "mounting needs CAP_SYS_ADMIN in the mount namespace of the path",
        }
        .to_owned()
    }
}

/// A lease of the reference plugin cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub(crate) struct LeaseError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl OperationError for LeaseError {
    fn code(&self) -> u32 {
        code::IO
    }

    fn next_step(&self) -> String {
        "what the reference's plugins made is not looked for".to_owned()
    }
}

/// Asking who has a port.
#[derive(Debug, thiserror::Error)]
#[error("cannot read who has a published port: {path}")]
pub(crate) struct PortsError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl OperationError for PortsError {
    fn code(&self) -> u32 {
        code::IO
    }

    fn next_step(&self) -> String {
        "the rules of these ports are neither checked nor made again".to_owned()
    }
}

/// Switching forwarding on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardingError {
    #[error("cannot enable forwarding: /proc/sys/{path}")]
    SwitchOn { path: String, source: io::Error },
    #[error(
        "cannot forward IPv6: the host would lose the routes that {interface} has by router advertisement"
    )]
    KeepAdvertised {
        interface: String,
        path: String,
        value: &'static str,
        source: io::Error,
    },
}

impl OperationError for ForwardingError {
    fn code(&self) -> u32 {
        code::KERNEL
    }

    fn reason(&self) -> String {
        match self {
            Self::SwitchOn { source, .. } => source.to_string(),
            Self::KeepAdvertised { path, source, .. } => format!("/proc/sys/{path}: {source}"),
        }
    }

    fn next_step(&self) -> String {
        let value = match self {
            Self::SwitchOn { .. } => "1",
            Self::KeepAdvertised { value, .. } => value,
        };
        format!("set it to {value} by hand, then try again")
    }
}

/// STATUS: the containers of a network do not get beyond the host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardingStatus {
    #[error(
        "the host forwards {nothing}: containers of network {network} reach the host and each other only"
    )]
    Off {
        nothing: &'static str,
        network: String,
        setting: String,
    },
    #[error(
        "the host has no IPv6 default route, and {interface} ignores router advertisements: containers of network \
         {network} reach nothing outside by IPv6"
    )]
    Deaf {
        interface: String,
        network: String,
        value: &'static str,
        evidence: String,
    },
}

impl OperationError for ForwardingStatus {
    fn code(&self) -> u32 {
        code::LIMITED
    }

    fn next_step(&self) -> String {
        match self {
            Self::Off { setting, .. } => {
                format!("{setting} is 0; try: pontoon ip-forward --fix")
            }
            Self::Deaf {
                interface,
                value,
                evidence,
                ..
            } => format!(
                "accept_ra of {interface} is {value} while the host forwards IPv6; {evidence}; try: pontoon \
                 ip-forward --fix"
            ),
        }
    }
}
