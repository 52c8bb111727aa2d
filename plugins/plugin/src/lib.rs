//! # A plugin as a process
//!
//! From invocation to verb to one JSON document or one error. A plugin is a type that implements
//! [`Plugin`], mostly by [`plugin!`]; [`main`] reads the environment and standard input, builds a
//! [`Context`], calls the verb and prints what the specification asks for. Nothing else in the
//! workspace reads the environment of a plugin or writes its standard output.
//!
//! Beside that, what a verb needs to keep its promises:
//!
//! - [`Undo`]: the steps an ADD has done, reverted in reverse order when a later step fails.
//!   [`fault::point`] lets tests fail, or kill, the process after each of them.
//! - [`gc`]: the loop over the attachments of a network, for GC.
//! - [`delegate`]: running another vendor's IPAM plugin by the specification's rules.
//! - the log of calls, for the key `log`.
//! - [`warn`]: what went wrong and stops nothing, on standard error and in the log.
//!
//! What this crate does not do: it makes no link, no rule and no address. What the plugins share for
//! that is `pontoon-attach`; what is written to disk is `pontoon-ledger`.

/// The C library's allocator gives memory back to the kernel with almost every `free`, and takes it
/// again with the next `malloc`: 35 pairs of system calls and page faults in an ADD that takes two
/// milliseconds.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

mod context;
pub mod delegate;
mod error;
pub mod fault;
pub mod gc;
mod log;
mod run;
mod undo;
mod verbs;
mod warning;

pub use context::Context;
pub use error::{KernelError, UnusableNetns, kernel_error, netns_error};
pub use pontoon_conf::{AddResult, Error};
pub use run::{Plugin, main, search, system_bus};
pub use undo::Undo;
pub use warning::warn;
