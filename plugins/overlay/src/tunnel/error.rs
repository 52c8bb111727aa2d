//! Why a tunnel cannot be made at all. What only one other host suffers from stands in
//! [`Changes::failed`](super::Changes::failed).

use std::io;
use std::net::IpAddr;

use pontoon_conf::{OperationError, code};

/// Making or removing the way to the other hosts of a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The values that the agent has written contradict each other.
    #[error("the record of overlay network {network} {problem}")]
    Invalid {
        /// The network.
        network: String,
        /// What is wrong.
        problem: String,
    },
    /// This host does not have the address that its end of the tunnel is to have.
    #[error(
        "no interface of this host has {address}, the tunnel address of overlay network {network}"
    )]
    NoAddress {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// Another program has a link of the tunnel's name.
    #[error("{device} is there already, and Pontoon has not made it for overlay network {network}")]
    Foreign {
        /// The network.
        network: String,
        /// The link.
        device: String,
    },
    /// Another program has a VXLAN device of the same number and port.
    #[error(
        "{other} has the VNI {vni} at port {port} already, which overlay network {network} is to have"
    )]
    VniTaken {
        /// The network.
        network: String,
        /// The device that has it.
        other: String,
        /// The number.
        vni: u32,
        /// The UDP port.
        port: u16,
    },
    /// A parameter of the device could not be set.
    #[error("cannot set /proc/sys/{path} of the tunnel of overlay network {network}")]
    Parameter {
        /// The network.
        network: String,
        /// The parameter.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The rules that keep others out could not be removed.
    #[error("cannot remove the rules of the tunnel of overlay network {network}")]
    Rules {
        /// The network.
        network: String,
        /// The kernel's answer.
        source: pontoon_netfilter::nft::Error,
    },
    /// The kernel refused.
    #[error("cannot {action} of overlay network {network}")]
    Kernel {
        /// The network.
        network: String,
        /// The failed act.
        action: &'static str,
        /// The kernel's answer.
        source: pontoon_netlink::Error,
    },
}

impl OperationError for TunnelError {
    fn code(&self) -> u32 {
        match self {
            Self::Invalid { .. } => code::DECODE,
            Self::NoAddress { .. } => code::TRY_AGAIN,
            Self::Foreign { .. } => code::EXISTS,
            Self::VniTaken { .. } => code::CONFLICT,
            Self::Rules { .. } => code::RULES,
            Self::Parameter { .. } | Self::Kernel { .. } => code::KERNEL,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Invalid { .. } => {
                "look at what pontoon-node says of the network, and start it again".to_owned()
            }
            Self::NoAddress { .. } => {
                "give the host the address, or let pontoon-node name another one".to_owned()
            }
            Self::Foreign { device, .. } => {
                format!("remove that link (ip link del {device}) if nothing needs it")
            }
            Self::VniTaken { other, .. } => {
                format!("give the network another VNI or port, or remove {other}")
            }
            Self::Rules { .. } | Self::Parameter { .. } | Self::Kernel { .. } => String::new(),
        }
    }
}
