//! Records of the plugin firewall.

use std::net::IpAddr;

use pontoon_conf::KnownAs;
use pontoon_netfilter::{BackendKind, Policy, PortIsolation, Protocol};
use serde::{Deserialize, Serialize};

use super::{AttachmentRecord, PerNetworkRecord, Record};
use crate::{AttachmentSummary, Sandbox};

/// firewall's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRecord {
    /// The backend that has its rules.
    pub backend: BackendKind,
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The network's bridge; `None` when the container is on none.
    pub bridge: Option<String>,
    /// The host's end of the veth pair, a port of the bridge.
    pub port: Option<String>,
    /// The container's addresses on the network.
    pub addresses: Vec<IpAddr>,
    /// The container's names, its id among them, by which links find it.
    pub names: Vec<KnownAs>,
    /// The links that the container asks for.
    pub links: Vec<LinkRequest>,
    /// Its port is kept apart from its siblings': the network has no `icc`.
    pub separation: Option<PortIsolation>,
    /// The zone of firewalld that has the addresses as sources, of a container on no bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// As [`Policy::admin_chain`], of a container on no bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_chain: Option<String>,
    /// The backend that has to let pass the same, because its FORWARD chain drops; of a container on no
    /// bridge. On a bridge the network's policy has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<BackendKind>,
}

/// A link as it was asked for: the container reaches these ports of every container of that name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRequest {
    /// A name of the other container.
    pub container: KnownAs,
    /// Ports of the other container.
    pub ports: Vec<(Protocol, u16)>,
}

/// What a network lets pass. Written before the rules are made, so that they are found whatever happens
/// in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPolicyRecord {
    /// The backend that has its rules.
    pub backend: BackendKind,
    /// What the network lets pass.
    pub policy: Policy,
    /// What it let pass before, until the change is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<(BackendKind, Policy)>,
    /// What another backend has to let pass as well, because a chain of its own drops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<(BackendKind, Policy)>,
    /// The key `profile` from which the policy comes, for a message that says why something is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The zone of firewalld that the bridge was put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Record for FirewallRecord {
    const WHAT: &'static str = "record of plugin firewall";
}

impl AttachmentRecord for FirewallRecord {
    const PLUGIN: &'static str = "firewall";

    fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn about(&self) -> AttachmentSummary {
        AttachmentSummary {
            names: self.names.iter().map(ToString::to_string).collect(),
            ..AttachmentSummary::of(&self.sandbox)
        }
    }
}

impl Record for NetworkPolicyRecord {
    const WHAT: &'static str = "policy record of a network";
}

impl PerNetworkRecord for NetworkPolicyRecord {
    const FOLDER: &'static str = "policy";
}
