//! A ruleset as a value, and two backends that bring it into the kernel.
//!
//! [`Ruleset`] says in the field's own terms what a network and an attachment need: egress by
//! masquerade or from a fixed source, published ports, what may pass between whom, a guard against
//! spoofed MAC addresses. Four
//! operations take it: apply, withdraw, verify, and removing what all networks share.
//!
//! - [`nft`] speaks nfnetlink and starts no program. One table with chains that never change, and
//!   maps and sets for everything that grows: the cost of an operation does not depend on how many
//!   containers there are, nor does the way of a packet.
//! - [`iptables`] writes by `iptables-restore`, one process per family and operation, in the chains
//!   that the reference plugins use, which admins and tools know.
//!
//! [`firewalld`] is no backend: it opens a zone of that firewall for a bridge.
//!
//! Both take the kernel's side of the conversation from `pontoon_netlink`: one socket, one codec of
//! attributes, one framing. Addresses with a prefix are `ipnetwork::IpNetwork`, since the text that
//! the configuration's strict `Cidr` judges has become a value before it gets here. Names of
//! interfaces go through one check for both backends before any rule is written.
//!
//! Every rule and every element carries the tag of its [`Owner`]. Removal goes by owner: a late one
//! cannot take what belongs to another owner by now. Which backend has made a rule is remembered
//! by the caller ([`BackendKind`] goes into its records).
//!
//! What this crate does not do: it knows nothing of CNI, opens no namespace, changes no kernel
//! parameter, and keeps no state; locks around a check and the change that follows from it are the
//! caller's, except inside the iptables backend, where concurrent processes would double rules.

mod backend;
mod digest;
pub mod firewalld;
mod interface;
pub mod iptables;
pub mod nft;
mod owner;
mod policy;
mod protocol;
pub mod reference;
mod rules;

pub use backend::{Backend, BackendKind, Error, ReferenceRules};
pub use nft::TunnelGuard;
pub use owner::{Owner, is_attachment_tag};
pub use policy::{Ingress, Link, Member, Policy, PortIsolation, Reach};
pub use protocol::Protocol;
pub use rules::{
    Egress, Mark, NetworkRules, Opening, Port, Published, Resolver, Ruleset, Snat, SpoofGuard,
};
