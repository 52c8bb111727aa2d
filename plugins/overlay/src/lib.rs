//! The `overlay` plugin: a bridge whose network goes on over several hosts. See README for the keys.
//!
//! What the plugin does on ADD is `bridge`'s work on the blocks of this host. The way to the other hosts is
//! [`tunnel`], which the agent `pontoon-node` uses too: it decides what there shall be, [`tunnel::apply`] makes the
//! kernel have it.

pub mod tunnel;
