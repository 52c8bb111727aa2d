//! The embedded resolver: names of containers for the containers of their networks, and everything
//! else from the servers that know.
//!
//! What is here are the parts that decide, as values and functions without a socket or a clock:
//!
//! - [`record`]: what the `dns` plugin writes about one container on one network.
//! - [`zone`]: what the resolver knows from all records, and who asks.
//! - [`answer`]: from zone, asker and question to a verdict, and prepared answers as bytes.
//! - [`wire`], [`name`]: DNS messages as bytes, and names.
//! - [`fingerprint`]: a number for a network's names, to compare hosts.
//! - [`internal`]: who may not ask for names of the outside.
//! - [`present`]: messages in words, for people.
//! - [`cache`]: replies of other servers, as long as they may be kept.
//! - [`resolv_conf`], [`hosts`]: the two files that a container's own resolver reads.
//!
//! The program `pontoon-dns` puts sockets, files and time around them. What is not ours is forwarded
//! as the bytes that came, so that nothing is lost that this crate does not know.
//!
//! Beside them [`probe`] asks whether servers answer, and [`start`] starts the program.
//!
//! What this crate does not do: it makes no rules, knows no bridge, and writes no container's files.
//! That is the `dns` plugin's work.

pub mod answer;
pub mod cache;
pub mod fingerprint;
pub mod hosts;
pub mod internal;
pub mod name;
pub mod present;
pub mod probe;
pub mod resolv_conf;
#[cfg(test)]
mod sample;
pub mod start;
pub mod wire;
pub mod zone;

pub use pontoon_ledger::record::names as record;
