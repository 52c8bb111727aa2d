//! Records of the plugins that change what a plugin before them has made: bandwidth, sbr and tuning.

use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_netlink::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{AttachmentRecord, Record};
use crate::Sandbox;

/// bandwidth's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// Name and index of the host's end of the veth pair.
    pub port: (String, u32),
}

/// sbr's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SbrRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The interface's routes that have left the main table.
    pub moved: Vec<MovedRoute>,
    /// Addresses that a rule was made for: the interface may have lost them when DEL comes.
    #[serde(default)]
    pub sources: Vec<IpAddr>,
    /// The table is the admin's (key `table`): its routes are left alone.
    #[serde(default)]
    pub rules_only: bool,
}

/// A route that has left the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedRoute {
    /// Where it leads.
    pub destination: IpNetwork,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Preferred source address.
    pub prefsrc: Option<IpAddr>,
    /// Metric.
    pub priority: Option<u32>,
    /// Scope, as in rtnetlink(7).
    pub scope: u8,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Advertised maximum segment size in bytes.
    pub advmss: Option<u32>,
}

/// tuning's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuningRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The file with the values from before, in the reference plugin's form.
    pub backup: PathBuf,
}

macro_rules! chained_record {
    ($type:ident, $plugin:literal) => {
        impl Record for $type {
            const WHAT: &'static str = concat!("record of plugin ", $plugin);
        }

        impl AttachmentRecord for $type {
            const PLUGIN: &'static str = $plugin;

            fn sandbox(&self) -> &Sandbox {
                &self.sandbox
            }
        }
    };
}

chained_record!(BandwidthRecord, "bandwidth");
chained_record!(SbrRecord, "sbr");
chained_record!(TuningRecord, "tuning");
