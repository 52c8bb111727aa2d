//! What the plugins that make interfaces note of a network as a whole.

use pontoon_netfilter::{BackendKind, NetworkRules, Reach};
use serde::{Deserialize, Serialize};

use super::{PerNetworkRecord, Record};

/// What was made for a network and goes with its last attachment. bridge and ptp write it, portmap and
/// the resolver read it too.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The rules for the way out, by backend.
    pub rules: Vec<(BackendKind, NetworkRules)>,
    /// The network is internal: it has no way out, portmap publishes nothing through it, and it needs no
    /// forwarding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Where the network goes on over other hosts; overlay writes it, firewall reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

impl Record for NetworkRecord {
    const WHAT: &'static str = "record of a network";
}

impl PerNetworkRecord for NetworkRecord {
    const FOLDER: &'static str = "network";
}
