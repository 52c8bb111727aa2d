//! # What the plugins share that attach a container
//!
//! A plugin decides what an interface, a rule or an address shall be. The steps that several plugins
//! take for it are here, each once. They work on the kernel by `netlink` and `netfilter`, and note in
//! the ledger what has to be taken back.
//!
//! Links:
//! - [`sockets`]: route sockets of the host and of the container.
//! - [`veth`]: names, lookup and removal of a container's veth pair.
//! - [`container_link`]: an interface inside the container, its settings and its comparison with a result.
//! - [`Inventory`] and [`rebind`]: for containers that live in a namespace which is not their own.
//! - [`forwarding`]: switching it on without taking the host's own default route away.
//!
//! Rules:
//! - [`rules`]: which netfilter backend a plugin uses, and how its errors look to the runtime.
//! - [`backends`]: which backends have rules on the host, for which plugin of which network.
//! - [`masquerade`]: the rules that a network has once, and when they go.
//! - [`policy`]: what a network lets pass, and how that goes with its last attachment.
//! - [`ports`]: the published ports of a container, and the other networks that it is on.
//! - [`foreign_filters`]: what the filters of other programs do to a container's packets, and which rules have to stand there.
//! - [`mod@reference`]: attachments that the reference plugins have made, and what a DEL of theirs deletes.
//! - [`repair`]: making again the rules that another program has flushed.
//!
//! What this crate does not do: it reads no configuration key and prints no result.

pub mod backends;
pub mod bridge_port;
pub mod container_link;
mod error;
pub mod foreign_filters;
pub mod forwarding;
mod inventory;
pub mod masquerade;
pub mod policy;
pub mod ports;
mod possession;
pub mod rebind;
pub mod reference;
pub mod repair;
pub mod rules;
pub mod sockets;
pub mod veth;

pub use inventory::Inventory;
