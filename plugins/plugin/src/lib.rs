//! What every plugin shares: from invocation to verb to one JSON document or one error.
//!
//! A plugin is a type that implements [`Plugin`]; [`main`] reads the environment and standard
//! input, builds a [`Context`], calls the verb and prints what the specification asks for. Nothing
//! else in the workspace reads the environment of a plugin or writes its standard output.
//!
//! Beside that, these tools that a verb needs to keep its promises:
//!
//! - [`Undo`]: the steps an ADD has done, reverted in reverse order when a later step fails.
//!   [`fault::point`] lets tests fail, or kill, the process after each of them.
//! - [`delegate`]: running another vendor's IPAM plugin by the specification's rules.
//!
//! What is written to disk belongs to `pontoon-ledger`. A record is written before the first kernel
//! change and removed after the last, so a plugin killed in between leaves a record for DEL and GC to
//! find.
//!
//! - [`rebind`] and [`Inventory`]: for containers that live in a namespace which is not their own.
//! - [`gc`]: the loop over the attachments of a network, for GC.
//! - [`policy`]: what a network lets pass, and how that goes with its last attachment.
//! - [`backends`]: which netfilter backends have rules on the host, for whom, and when what they share goes.
//! - [`rules`]: which netfilter backend a plugin uses, and how its errors look to the runtime.
//! - [`ports`]: the published ports of a container, and the other networks that it is on.
//! - [`masquerade`]: the rules that a network has once, and when they go.
//! - [`beside`]: what the filters of others do to our packets, and where rules of ours must stand for it.
//! - [`repair`]: making again what somebody has flushed.
//! - [`forwarding`]: switching it on without taking the host's own default route away.
//! - [`veth`] and [`interior`]: what plugins share that make an interface for a container.
//!
//! This crate decides nothing about a network: what an interface, a rule or an address shall be is the
//! plugin's business, and how it comes to be that of `netlink`, `netfilter`, `ipam`.

/// The C library's allocator gives memory back to the kernel with almost every `free`, and takes it
/// again with the next `malloc`: 35 pairs of system calls and page faults in an ADD that takes two
/// milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

pub mod backends;
pub mod beside;
mod context;
pub mod delegate;
pub mod fault;
pub mod forwarding;
pub mod gc;
pub mod interior;
mod inventory;
mod log;
pub mod masquerade;
pub mod policy;
pub mod ports;
pub mod rebind;
pub mod reference;
pub mod repair;
pub mod rules;
mod run;
mod undo;
pub mod veth;

pub use context::{Context, kernel_error, netns_error};
pub use inventory::Inventory;
pub use pontoon_ledger::{Key, Lock, Records, Sandbox, State, files, kinds};
pub use run::{Plugin, main, search, system_bus};
pub use undo::Undo;
