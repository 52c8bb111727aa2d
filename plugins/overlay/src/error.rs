//! Why a container cannot join the network on this host, an enum an operation.

use std::path::PathBuf;

use pontoon_conf::{OperationError, code};
use pontoon_ledger::overlay::OverlayMode;

/// Reading the keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("key \"mode\" cannot be {mode:?}")]
    Mode { mode: String },
    #[error("key \"vni\" cannot be {vni}")]
    Vni { vni: i64 },
    #[error("key \"disableContainerInterface\": an overlay network is reached by addresses")]
    WithoutInterface,
    #[error(
        "key \"ipam.type\" cannot be {plugin}: an overlay network gives out addresses of this host's blocks"
    )]
    Ipam { plugin: String },
    #[error("key \"ipam.{key}\": addresses of an overlay network come from this host's blocks")]
    Ranges { key: String },
}

impl OperationError for ConfigError {
    fn code(&self) -> u32 {
        code::INVALID_CONFIG
    }

    fn next_step(&self) -> String {
        match self {
            Self::Mode { .. } => "it takes vxlan, direct or auto".to_owned(),
            Self::Vni { .. } => "it takes a number from 1 to 16777215".to_owned(),
            Self::WithoutInterface => "leave the key out".to_owned(),
            Self::Ipam { .. } => "leave the key out, or write host-local".to_owned(),
            Self::Ranges { .. } => {
                "leave the key out; pontoon-node gives the network its subnets".to_owned()
            }
        }
    }
}

/// Finding this host's part of the network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    #[error("this host knows no overlay network \"{network}\": {} is not there", .path.display())]
    Unknown { network: String, path: PathBuf },
    #[error("this host has no block of overlay network \"{network}\" yet")]
    NoBlock { network: String },
    #[error("the record of overlay network \"{network}\" {problem}")]
    Invalid { network: String, problem: String },
    #[error("key \"vni\" is {written}, and overlay network \"{network}\" has the VNI {vni}")]
    OtherVni {
        network: String,
        written: i64,
        vni: u32,
    },
    #[error(
        "key \"mode\" is \"{written}\", and overlay network \"{network}\" is of mode \"{mode}\""
    )]
    OtherMode {
        network: String,
        written: OverlayMode,
        mode: OverlayMode,
    },
    #[error("overlay network \"{network}\" has no way to its other hosts: {what}")]
    NoTunnel { network: String, what: String },
}

impl OperationError for SiteError {
    fn code(&self) -> u32 {
        match self {
            Self::Unknown { .. } | Self::NoBlock { .. } => code::TRY_AGAIN,
            Self::Invalid { .. } => code::DECODE,
            Self::OtherVni { .. } | Self::OtherMode { .. } => code::INVALID_CONFIG,
            Self::NoTunnel { .. } => code::CHECK_FAILED,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "start pontoon-node, which writes it, and look whether the network has been created"
                    .to_owned()
            }
            Self::NoBlock { .. } => {
                "pontoon-node claims one as soon as it reaches etcd: look at pontoon-node status"
                    .to_owned()
            }
            Self::Invalid { .. } => {
                "look at what pontoon-node says of the network, and start it again".to_owned()
            }
            Self::OtherVni { .. } | Self::OtherMode { .. } => {
                "correct the key, or leave it out".to_owned()
            }
            Self::NoTunnel { .. } => "pontoon-node makes it; so does the next ADD".to_owned(),
        }
    }
}
