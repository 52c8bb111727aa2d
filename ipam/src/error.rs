//! What can go wrong with addresses, an enum an operation; what a lease directory refuses is
//! [`StoreError`](crate::store::StoreError). `conf` makes the object of the protocol of them.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_conf::{Cidr, CidrError, ContainerId, OperationError, PluginType, code};

use crate::allocator::RequestError;

/// host-local: giving out addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllocateError {
    #[error("cannot read resolvConf {path}")]
    ResolvConf { path: PathBuf, source: io::Error },
    #[error("failed to allocate all requested IPs: {asked}")]
    InNoSet { asked: String },
    #[error("{0}")]
    Requested(#[source] RequestError),
    #[error("requested IP address {address} is not available in range set {set}")]
    Taken { address: IpAddr, set: String },
    #[error("{address} has been allocated to {owner}, duplicate allocation is not allowed")]
    Twice { address: IpAddr, owner: String },
    #[error("no IP addresses available in range set: {set}")]
    Full { set: String },
    #[error("{0}")]
    Prefix(#[source] CidrError),
}

impl OperationError for AllocateError {
    fn code(&self) -> u32 {
        match self {
            Self::ResolvConf { .. } => code::IO,
            Self::InNoSet { .. }
            | Self::Requested(_)
            | Self::Taken { .. }
            | Self::Twice { .. }
            | Self::Full { .. } => code::ADDRESS,
            Self::Prefix(_) => code::INVALID_CONFIG,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::ResolvConf { source, .. } => source.to_string(),
            _ => String::new(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::ResolvConf { .. } | Self::Prefix(_) => "",
            Self::InNoSet { .. } => {
                "no range set of the network has them, or another of them was taken from the same set"
            }
            Self::Requested(_) => "ask for another address of the network",
            Self::Taken { .. } => "another attachment has it; see its lease file",
            Self::Twice { .. } => "DEL the attachment before it is added again",
            Self::Full { .. } => {
                "every address is leased or excluded: remove attachments, run GC, or widen the range"
            }
        }
        .to_owned()
    }
}

/// CHECK: the attachment does not have its addresses any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("host-local: Failed to find address added by container {owner}")]
    NoLease { owner: String, folder: PathBuf },
    #[error("static: Failed to find address added by container {container}")]
    NotInResult {
        container: ContainerId,
        address: Cidr,
    },
}

impl OperationError for CheckError {
    fn code(&self) -> u32 {
        code::CHECK_FAILED
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoLease { folder, .. } => format!(
                "no lease in {} belongs to it; DEL and ADD it again",
                folder.display()
            ),
            Self::NotInResult { address, .. } => {
                format!("{address} is not in the previous result; DEL and ADD the container")
            }
        }
    }
}

/// Choosing a subnet in the place of `auto`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChooseError {
    #[error("cannot lock {data_dir} to choose a subnet")]
    Lock {
        data_dir: PathBuf,
        source: io::Error,
    },
    #[error("could not find an available, non-overlapping IPv4 address pool among the defaults")]
    NoneFree,
    #[error("cannot read {path} to choose a subnet")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot list the host's routes to choose a subnet")]
    Routes { source: pontoon_netlink::Error },
}

impl OperationError for ChooseError {
    fn code(&self) -> u32 {
        match self {
            Self::Lock { .. } | Self::Unreadable { .. } => code::IO,
            Self::NoneFree => code::CONFLICT,
            Self::Routes { .. } => code::KERNEL,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Lock { .. } | Self::Routes { .. } => "",
            Self::NoneFree => {
                "host routes, resolvers and other networks overlap all of them: write \"subnet\" out"
            }
            Self::Unreadable { .. } => "or write \"subnet\" out",
        }
        .to_owned()
    }
}

/// An address plugin that gave no address.
#[derive(Debug, thiserror::Error)]
#[error("IPAM plugin {kind} returned missing IP config")]
pub(crate) struct NoAddress {
    pub(crate) kind: PluginType,
}

impl OperationError for NoAddress {
    fn code(&self) -> u32 {
        code::DELEGATE
    }

    fn next_step(&self) -> String {
        "a network with IPAM needs at least one address for a container".to_owned()
    }
}
