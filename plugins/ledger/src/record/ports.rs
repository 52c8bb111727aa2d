//! Records of the plugin portmap.

use pontoon_netfilter::{BackendKind, Published};
use pontoon_netlink::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{AttachmentRecord, Record};
use crate::Sandbox;

/// portmap's record of an attachment with published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortmapRecord {
    /// The backend that has its rules.
    pub backend: BackendKind,
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// What the rules say.
    pub published: Published,
    /// Addresses whose ports another network of the container publishes.
    #[serde(default)]
    pub waits: WaitingAddresses,
    /// Attachments of the container, as `NETWORK/CONTAINER:IFNAME`, whose ports this one publishes.
    #[serde(default)]
    pub waiters: Vec<String>,
}

/// Addresses that are in no rule.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingAddresses {
    /// The IPv4 address.
    pub v4: Option<IpNetwork>,
    /// The IPv6 address.
    pub v6: Option<IpNetwork>,
}

impl PortmapRecord {
    /// What it would publish if it were the container's only network.
    #[must_use]
    pub fn full(&self) -> Published {
        Published {
            v4: self.published.v4.or(self.waits.v4),
            v6: self.published.v6.or(self.waits.v6),
            ..self.published.clone()
        }
    }
}

impl Record for PortmapRecord {
    const WHAT: &'static str = "record of plugin portmap";
}

impl AttachmentRecord for PortmapRecord {
    const PLUGIN: &'static str = "portmap";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}
