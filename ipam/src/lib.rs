//! Addresses for containers: which one is next, and who has which.
//!
//! The crate has a pure half and a half that touches the disk.
//!
//! **Pure.** [`Range`] and [`RangeSet`] are the administrator's ranges,
//! checked and completed; [`Exclusions`] what is kept back from them. A
//! [`Pool`] of these knows the order in which addresses are tried (round
//! robin, so that a freed address rests) and what is never given out: network,
//! broadcast and gateway addresses, and the excluded. What is taken it asks
//! through a closure. [`choose`] finds a subnet among pools that overlaps
//! nothing, for `"subnet": "auto"`. None of this reads a file or a clock.
//!
//! **On disk.** A [`Store`] is one network's lease directory under its lock:
//! a file per address with its owner in it, exactly as the reference plugin
//! has it, so that either plugin can take over from the other, or work beside
//! it, while containers run. The files are the truth. Beside them, in the
//! runtime state directory, is an index that makes an operation cost the same
//! at sixty thousand leases as at none; it is rebuilt from the files whenever
//! it might not speak of them as they are. Leases of an earlier boot are
//! released by the first operation of the next.
//!
//! **The verbs.** [`host_local`] has one function per CNI verb. The
//! `host-local` binary calls them; [`static_addresses`] is the same for
//! `static`. [`delegation`] is how our own plugins call them in process, and
//! any other address plugin by the specification.
//!
//! Invariants:
//! - an address is given out by making its file's name, which the kernel lets
//!   succeed once; no belief of the index can give one out twice;
//! - a lease file is never empty or half written under its own name;
//! - ADD that fails leaves no lease; DEL releases by owner, never by address;
//! - no verb lists the directory, except to rebuild the index and in GC.
//!
//! What this crate does not do: it configures no interface and looks at no
//! namespace (`netlink` and the plugins do), and it reads no environment and
//! no standard input (`plugin` does).

mod alive;
mod allocator;
mod auto;
mod boot;
mod config;
pub mod delegation;
mod error;
mod exclude;
pub mod host_local;
mod index;
mod owner;
mod range;
mod resolv;
mod span;
pub mod static_addresses;
mod store;

pub use allocator::{Grant, Pool, RequestError};
pub use auto::{DEFAULT_POOLS, SubnetPool, choose};
pub use boot::Boot;
pub use exclude::{ExcludeError, Exclusions};
pub use owner::{Owner, Owners};
pub use range::{Range, RangeError, RangeSet};
pub use span::{Family, Span};
pub use store::{Note, Store, StoreError};
