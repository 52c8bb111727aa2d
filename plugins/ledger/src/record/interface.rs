//! Records of the plugins that give a container an interface.

use std::path::PathBuf;

use pontoon_conf::{Cidr, Dns, KnownAs, Route};
use pontoon_netfilter::{BackendKind, SpoofGuard};
use serde::{Deserialize, Serialize};

use super::{AttachmentRecord, Record};
use crate::{AttachmentSummary, Sandbox};

/// What ADD gave a container's interface. `pontoon doctor` compares it with what the interface has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceSettings {
    /// Addresses with the prefix lengths of their subnets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Routes, each with its gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The host is the gateway: it has to forward what leaves the subnet.
    #[serde(default)]
    pub by_host: bool,
}

/// The rules that bridge and ptp make in iptables so that a DEL of the reference plugin finds what it
/// deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceChains {
    /// The backend that has them.
    pub backend: BackendKind,
    /// The container has an IPv4 address.
    pub v4: bool,
    /// The container has an IPv6 address.
    pub v6: bool,
}

/// bridge's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The source address that the container may use (key `macspoofchk`).
    pub spoof_guard: Option<SpoofGuard>,
    /// DNS settings, for a container that shares this one's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// The container's names, by which a container of type container finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
    /// Path of the network's leases; read by `pontoon leases` and `pontoon gc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<PathBuf>,
    /// The chains that a DEL of the reference plugin deletes. The file calls them `stand_in`.
    #[serde(rename = "stand_in", default, skip_serializing_if = "Option::is_none")]
    pub reference_chains: Option<ReferenceChains>,
    /// What the interface was given. The file calls it `given`.
    #[serde(rename = "given", default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<InterfaceSettings>,
}

/// ptp's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtpRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// DNS settings, for a container that shares this one's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// The container's names, by which a container of type container finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
    /// Path of the network's leases; read by `pontoon leases` and `pontoon gc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<PathBuf>,
    /// The chains that a DEL of the reference plugin deletes. The file calls them `stand_in`.
    #[serde(rename = "stand_in", default, skip_serializing_if = "Option::is_none")]
    pub reference_chains: Option<ReferenceChains>,
    /// What the interface was given. The file calls it `given`.
    #[serde(rename = "given", default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<InterfaceSettings>,
}

/// macvlan's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacvlanRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The container's names, by which a container of type container finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
    /// DNS settings, for a container that shares this one's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Path of the network's leases; read by `pontoon leases` and `pontoon gc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<PathBuf>,
}

/// host-device's record of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDeviceRecord {
    /// The container's namespace.
    pub sandbox: Sandbox,
    /// The container's names, by which a container of type container finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<KnownAs>,
    /// DNS settings, for a container that shares this one's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Path of the network's leases; read by `pontoon leases` and `pontoon gc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leases: Option<PathBuf>,
    /// The device as it was on the host; `None` when it belongs to a userspace driver.
    pub device: Option<DeviceBefore>,
}

/// A device of the host as it was before ADD moved it into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBefore {
    /// Interface name on the host.
    pub name: String,
    /// Its alias (`ip link set alias`); empty when it had none.
    pub alias: String,
    /// It was up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address, if it has any.
    pub mac: Option<[u8; 6]>,
}

/// What a plugin records that is built on bridge: the same under its own name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OverlayRecord(BridgeRecord);

/// The record of a plugin that gives a container a place on a bridge.
pub trait BridgeBased: AttachmentRecord + From<BridgeRecord> {
    /// What it says.
    fn bridge(&self) -> &BridgeRecord;
}

impl BridgeBased for BridgeRecord {
    fn bridge(&self) -> &BridgeRecord {
        self
    }
}

impl From<BridgeRecord> for OverlayRecord {
    fn from(record: BridgeRecord) -> Self {
        Self(record)
    }
}

impl BridgeBased for OverlayRecord {
    fn bridge(&self) -> &BridgeRecord {
        &self.0
    }
}

impl Record for OverlayRecord {
    const WHAT: &'static str = "record of plugin overlay";
}

impl AttachmentRecord for OverlayRecord {
    const PLUGIN: &'static str = "overlay";

    fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }

    fn about(&self) -> AttachmentSummary {
        self.0.about()
    }
}

macro_rules! interface_record {
    ($type:ident, $plugin:literal, $settings:expr) => {
        impl Record for $type {
            const WHAT: &'static str = concat!("record of plugin ", $plugin);
        }

        impl AttachmentRecord for $type {
            const PLUGIN: &'static str = $plugin;

            fn sandbox(&self) -> &Sandbox {
                &self.sandbox
            }

            fn about(&self) -> AttachmentSummary {
                let settings: fn(&Self) -> Option<InterfaceSettings> = $settings;
                AttachmentSummary {
                    names: self.names.iter().map(ToString::to_string).collect(),
                    dns: self.dns.clone(),
                    leases: self.leases.clone(),
                    settings: settings(self),
                    ..AttachmentSummary::of(&self.sandbox)
                }
            }
        }
    };
}

interface_record!(BridgeRecord, "bridge", |record| record.settings.clone());
interface_record!(PtpRecord, "ptp", |record| record.settings.clone());
interface_record!(MacvlanRecord, "macvlan", |_| None);
interface_record!(HostDeviceRecord, "host-device", |_| None);
