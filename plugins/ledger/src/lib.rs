//! # What Pontoon writes to disk
//!
//! Everything below the state directory has its type, its path and its lock here. Every plugin, the
//! resolver and the admin's command write and read these files with the same types, so that a field
//! that is renamed in one place is renamed for all of them.
//!
//! ```text
//! /run/pontoon/                         state of the initial network namespace
//! /run/pontoon/netns-COOKIE/            state of any other namespace that plugins run in
//!     PLUGIN/NETWORK/CONTAINER:IFNAME   an attachment's record of one plugin, see `record`
//!     dns/records/NETWORK/CONTAINER:IFNAME  the same of the plugin dns
//!     network/NETWORK                   the rules that a network has once, `NetworkRecord`
//!     policy/NETWORK                    what a network lets pass, `NetworkPolicyRecord`
//!     dns/remote/NETWORK                names of other hosts' containers, `RemoteNames`
//!     dns/network/NETWORK               how questions reach the resolver, `ResolverRecord`
//!     dns/policy/NETWORK                the INPUT rules for them, `OpeningsRecord`
//!     backend/KIND/PLUGIN:NETWORK       which netfilter backends have rules
//!     links/NETWORK/...                 who has a name and who waits for it, see `links`
//!     published/CONTAINER/NETWORK:IFNAME  the attachments with published ports, see `published`
//!     ports/...                         which attachment has a host port, see `port_slots`
//!     containers/CONTAINER/...          the files of names that a container reads
//!     draft/PID-NUMBER                  a file that is being written, until it has its name
//!     lock/...                          `flock` files, there as long as they are used
//! ```
//!
//! | to do | door |
//! | --- | --- |
//! | read and write an attachment's record | [`State::read`], [`State::write`] |
//! | read and write a record of a network | [`State::read_network`], [`State::write_network`] |
//! | list, count and remove attachments | [`Records`] |
//! | list attachments of all plugins | [`State::attachments`], [`find`] |
//! | write a file that is complete or absent, sweep drafts | [`draft::replace`], [`State::remove_drafts`] |
//! | make a directory or an empty file, with explicit modes | [`directory`], [`mark`] |
//! | remove what no record needs | [`State::prune`] |
//! | lock | [`Lock`], with the paths of [`State`] |
//! | tell whether a namespace is gone | [`State::is_gone`] |
//! | what is known of networks of several hosts | [`overlay`] |
//!
//! What has to survive a reboot lies below `/var/lib/pontoon` instead, see [`overlay`].
//!
//! Every record has a field `version`; a file without one is of version 1. A record that cannot be
//! read, or that another version wrote, is a [`RecordError`] with the file and the next step, and
//! never an absent record. `tests/recorded` holds files that the releases wrote.
//!
//! This crate decides nothing: it makes no rule and changes no interface. `pontoon-ipam` owns the
//! format of its leases and of their index.

pub mod attachments;
pub mod directory;
pub mod draft;
mod error;
mod file;
pub mod files;
mod key;
pub mod kinds;
pub mod links;
mod liveness;
mod lock;
pub mod overlay;
pub mod port_slots;
pub mod published;
pub mod record;
mod records;
mod sandbox;
mod state;

pub use attachments::{Attachment, AttachmentSummary, THIRD_PARTY, find};
pub use error::{FileError, RecordError};
pub use file::mark;
pub use key::Key;
pub use lock::Lock;
pub use record::{
    AttachmentRecord, BandwidthRecord, BridgeBased, BridgeRecord, ContainerRecord, DeviceBefore,
    DnsRecord, FileLink, FirewallRecord, HostDeviceRecord, HostRecord, InterfaceSettings,
    LinkRequest, MacvlanRecord, MovedRoute, NetworkPolicyRecord, NetworkRecord, NoneRecord,
    OpeningsRecord, OverlayRecord, PerNetworkRecord, PortmapRecord, PtpRecord, Rebind, Record,
    ReferenceChains, ResolverRecord, SbrRecord, TuningRecord, WaitingAddresses,
};
pub use records::Records;
pub use sandbox::Sandbox;
pub use state::State;
