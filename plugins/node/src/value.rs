//! The values in etcd. Each is JSON; a field that a newer program writes is passed over by an older one.

use std::net::IpAddr;
use std::time::Duration;

use pontoon_conf::{Cidr, Mac};
use pontoon_ledger::overlay::{OverlayMode, OverlaySubnet, Underlay};
use pontoon_ledger::record::names::Service;
use serde::{Deserialize, Serialize};

/// For how long a host that says nothing counts as alive.
pub(crate) const LEASE: Duration = Duration::from_secs(10);

/// A network of several hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkValue {
    /// Its subnets, at most one of each family.
    pub(crate) subnets: Vec<OverlaySubnet>,
    /// Its number in the tunnel.
    pub(crate) vni: u32,
    /// UDP port of the tunnel.
    pub(crate) port: u16,
    /// How packets get to other hosts.
    pub(crate) mode: OverlayMode,
    /// The parts of the subnets that services have their addresses of, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<Cidr>,
}

/// Who asked for a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimValue {
    /// The host.
    pub(crate) host: String,
}

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InfoValue {
    /// Its end of the tunnels.
    pub(crate) underlay: Underlay,
    /// The hardware address of its tunnel devices.
    pub(crate) mac: Mac,
    /// The agent's version.
    pub(crate) version: String,
    /// Key for encrypted packets, when there will be such: nothing reads it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<String>,
}

/// A container with names, or of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointValue {
    /// Its id.
    pub(crate) container: String,
    /// Its interface on the network.
    pub(crate) interface: String,
    /// Its own names, the first of which its addresses are called.
    pub(crate) names: Vec<String>,
    /// Names that several containers may share.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Its addresses on the network.
    pub(crate) addresses: Vec<IpAddr>,
    /// The network's domain there.
    pub(crate) domain: String,
    /// For how long answers may be kept, in seconds.
    pub(crate) ttl: u32,
    /// The service that it is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Service>,
}

/// The number of a service in its network's ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceValue {
    /// The number.
    pub(crate) number: u32,
}

/// That a host is alive, and since which boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AliveValue {
    /// The machine's `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot: String,
}
