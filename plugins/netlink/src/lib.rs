//! Links, addresses, routes, namespaces, kernel parameters and connection tracking, as a network plugin needs them on its
//! hot path: blocking sockets, no runtime, no lookup that an echo saves, one message or one batch for what belongs
//! together.
//!
//! - [`RouteSocket`] makes a bridge or a veth pair whose container end is *born* in its namespace, sets a container's
//!   link up in one batch, and answers questions with filters that the kernel applies.
//! - It makes the VXLAN device of a network of several hosts, and writes routes, neighbours and forwarding entries by the
//!   hundred, see [`TableChange`].
//! - [`Netns`] opens, makes and names network namespaces, and runs work inside them on a thread that never comes back.
//! - [`NetfilterSocket`] carries nf_tables transactions and questions, which the `netfilter` crate encodes with [`attr`]
//!   and [`frame`].
//! - [`conntrack`] cuts flows that connection tracking has pinned to a target which is gone or has moved.
//! - [`DetachedChild`] leaves the waits for RCU, which a deletion costs, to a detached child.
//! - [`TokenBucket`] and a redirection to an ifb device limit what goes out of a link and what comes in by it.
//! - [`sysctl`] reads and writes kernel parameters, and does not write what is so already.
//!
//! This crate knows nothing of CNI: no container ids, no configuration, no policy. What a bridge or rule should look like
//! is decided by the plugins; the encoding of rules belongs to the `netfilter` crate; what to do about an error belongs to
//! the caller, for whom errors are typed where the kernel's number alone is ambiguous.
//!
//! It is the only crate of the workspace with `unsafe` code, a handful of system calls that have no safe wrapper.
//!
//! Addresses with a prefix are [`IpNetwork`] as the `ipnetwork` crate has it. The strict newtype of the configuration
//! (`Cidr` of the crate `conf`, which refuses an address without prefix) judges text, and there is no text here.
//! Names of interfaces are judged here, by [`InterfaceName`]: text of a runtime reaches this crate as it came.
//!
//! Messages are built from netlink-packet-route's types with rtnetlink's builders and sent by a socket of our own; of
//! answers only the attributes that matter are read.

pub mod attr;
pub mod conntrack;
pub mod frame;
pub mod sysctl;

mod address;
mod detached_child;
mod error;
#[cfg(test)]
mod fuzz;
mod link;
mod listener;
mod name;
mod neighbour;
mod netfilter;
mod netns;
mod program;
mod route;
mod routing;
mod rule;
mod setup;
mod socket;
mod solicit;
mod tables;
mod traffic;

pub use address::Address;
pub use conntrack::{Conntrack, Filter, TrackedFlow};
pub use detached_child::{DetachedChild, end};
pub use error::{Error, Refusal};
pub use frame::{Failure, Frames};
pub use ipnetwork::IpNetwork;
pub use link::bridge::{BridgeSpec, vlan_filtering_supported};
pub use link::change::LinkChange;
pub use link::macvlan::MacvlanSpec;
pub use link::veth::{Veth, VethSpec};
pub use link::vlan::VlanRange;
pub use link::vxlan::{VxlanInfo, VxlanSpec};
pub use link::{BridgeInfo, Link, PortFlags};
pub use listener::{Group, Listener, Received};
pub use name::{InterfaceName, InvalidName};
pub use neighbour::Neighbour;
pub use netfilter::{NetfilterError, NetfilterSocket, Reply};
pub use netns::{Netns, NetnsError, NetnsId, NetnsMount, NotNetnsId};
pub use nix::errno::Errno;
pub use program::{EndedProgram, run_program};
pub use route::RouteSocket;
pub use routing::{NextHop, RouteEntry, RouteQuestion, RouteSpec};
pub use rule::SourceRule;
pub use setup::{LOOSE, Setup, Step};
pub use solicit::solicit_routers;
pub use tables::{Forwarding, TableChange, TableEntry};
pub use traffic::{Qdisc, TokenBucket};
