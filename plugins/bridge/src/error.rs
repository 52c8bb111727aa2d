//! What can go wrong with a network's bridge and with a container's place on it, an enum an operation.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_conf::{Cidr, OperationError, code};
use thiserror::Error;

/// Making the bridge what the network needs.
#[derive(Debug, Error)]
pub(crate) enum BridgeError {
    #[error("bridge {bridge} was removed while it was being used")]
    Removed { bridge: String },
    #[error("\"{name}\" already exists but is not a bridge")]
    NoBridge { name: String },
    #[error("\"{bridge}\" already has an IP address different from {gateway}")]
    OtherAddress {
        bridge: String,
        gateway: Cidr,
        present: Cidr,
    },
    #[error("cannot enable IPv6 on bridge {bridge}")]
    WithoutIpv6 { bridge: String, source: io::Error },
    #[error("subnet {subnet} clashes with {destination} on {interface} of the host")]
    Clash {
        subnet: Cidr,
        destination: Cidr,
        interface: String,
        gateway: Cidr,
    },
    #[error("gateway {gateway} is a link-local address: the bridge cannot be the gateway by it")]
    LinkLocal { gateway: IpAddr },
    #[error("cannot restore /proc/sys/{path}")]
    NotRestored { path: String, source: io::Error },
}

impl OperationError for BridgeError {
    fn code(&self) -> u32 {
        match self {
            Self::Removed { .. } => code::TRY_AGAIN,
            Self::NoBridge { .. } | Self::OtherAddress { .. } => code::EXISTS,
            Self::WithoutIpv6 { .. } | Self::NotRestored { .. } => code::KERNEL,
            Self::Clash { .. } => code::CONFLICT,
            Self::LinkLocal { .. } => code::INVALID_CONFIG,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Removed { .. } | Self::WithoutIpv6 { .. } | Self::NotRestored { .. } => {
                String::new()
            }
            Self::NoBridge { .. } => {
                "give another name in the key \"bridge\", or remove that interface".to_owned()
            }
            Self::OtherAddress { present, .. } => format!(
                "it has {present}; set \"forceAddress\": true to replace it, or use another bridge"
            ),
            Self::Clash { gateway, .. } => format!(
                "the bridge would have the gateway's address {gateway}: choose another subnet, or \"subnet\": \"auto\""
            ),
            Self::LinkLocal { .. } => "name an address of the subnet in the key \"gateway\", or \
                leave the key out for its first one"
                .to_owned(),
        }
    }
}

/// Giving a container its place.
#[derive(Debug, Error)]
pub(crate) enum AttachError {
    #[error("keys \"vlan\" and \"vlanTrunk\" of bridge {bridge}: the kernel has no VLAN filtering")]
    NoVlanFiltering { bridge: String },
    #[error("key \"snat\": {source_address} is not an address of this host")]
    ForeignSource { source_address: IpAddr },
    #[error(
        "key \"snat\": {source_address} is an {family} address, and network \"{network}\" has none of that family"
    )]
    OtherFamily {
        source_address: IpAddr,
        family: &'static str,
        network: String,
    },
    #[error("key \"mtu\": \"auto\" needs a default route, and the host has none")]
    NoDefaultRoute,
    #[error("bridge {bridge} is full: it has 1023 ports")]
    Full { bridge: String },
    #[error("address {address} of {interface} is in use by another host")]
    Duplicate { address: String, interface: String },
    #[error("addresses of {interface} are still tentative after 5 s")]
    Tentative { interface: String },
}

impl OperationError for AttachError {
    fn code(&self) -> u32 {
        match self {
            Self::NoVlanFiltering { .. } => code::UNSUPPORTED_FIELD,
            Self::ForeignSource { .. } | Self::OtherFamily { .. } | Self::NoDefaultRoute => {
                code::INVALID_CONFIG
            }
            Self::Full { .. } => code::KERNEL,
            Self::Duplicate { .. } => code::ADDRESS,
            Self::Tentative { .. } => code::TRY_AGAIN,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoVlanFiltering { .. } => {
                "it needs CONFIG_BRIDGE_VLAN_FILTERING; leave the keys out, or use another kernel"
            }
            Self::ForeignSource { .. } => {
                "add it to an interface, or set \"snatUnchecked\": true if it is routed here"
            }
            Self::OtherFamily { .. } => "give a source of the family of the network's subnet",
            Self::NoDefaultRoute => "give the MTU as a number",
            Self::Full { .. } => {
                "the kernel's limit (BR_MAX_PORTS); use another bridge and subnet for further containers"
            }
            Self::Duplicate { .. } => {
                "duplicate address detection failed (RFC 4862); release the address elsewhere"
            }
            Self::Tentative { .. } => "",
        }
        .to_owned()
    }
}

/// Judging whether the bridge is another program's.
#[derive(Debug, Error)]
pub(crate) enum ForeignError {
    #[error(
        "bridge {bridge} was not made by Pontoon and has ports of another program ({ports}): network {network} would \
         give out addresses that containers there may have"
    )]
    OtherPorts {
        bridge: String,
        ports: String,
        network: String,
    },
    #[error("cannot read {path}")]
    Unreadable { path: PathBuf, source: io::Error },
}

impl OperationError for ForeignError {
    fn code(&self) -> u32 {
        match self {
            Self::OtherPorts { .. } => code::CONFLICT,
            Self::Unreadable { .. } => code::IO,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::OtherPorts { .. } => {
                "choose another bridge by the key \"bridge\" and \"subnet\": \"auto\"; or set \"sharedBridge\": true, \
                 if the pool has no address that the other program gives out"
            }
            Self::Unreadable { .. } => {
                "whether the bridge is the reference plugin's cannot be told without it"
            }
        }
        .to_owned()
    }
}

/// STATUS: what an ADD would fail for, and what attached containers suffer from.
#[derive(Debug, Error)]
pub(crate) enum StatusError {
    #[error("no masquerade: {}", cause.msg)]
    NoMasquerade {
        #[source]
        cause: pontoon_conf::Error,
    },
    #[error("bridge {bridge} is down: containers of network {network} reach nothing")]
    Down { bridge: String, network: String },
    #[error(
        "the host forwards nothing that comes from bridge {bridge}: containers of network {network} reach the host and each other only"
    )]
    NotForwarding {
        bridge: String,
        network: String,
        setting: String,
    },
}

impl OperationError for StatusError {
    fn code(&self) -> u32 {
        match self {
            Self::NoMasquerade { .. } => code::NOT_AVAILABLE,
            Self::Down { .. } | Self::NotForwarding { .. } => code::LIMITED,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::NoMasquerade { cause } => cause.details.clone(),
            _ => String::new(),
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::NoMasquerade { .. } => String::new(),
            Self::Down { bridge, .. } => format!("try: ip link set dev {bridge} up"),
            Self::NotForwarding { setting, .. } => {
                format!("{setting} is 0; try: pontoon ip-forward --fix")
            }
        }
    }
}
