//! Whether a packet passes the rules of this host.
//!
//! [`Rules::read`] reads the rules of every backend and every owner: all tables of nftables, and the
//! tables of both variants of iptables. [`Visit`] takes one [`Packet`] through the chains of one hook and
//! tells each rule that it meets. What cannot be read keeps its name and becomes a doubt, so that the
//! caller can say "cannot tell" in place of a guess.
//!
//! The crate knows nothing of containers, networks or routes: the caller says by which interface the
//! packet comes and goes.

mod chains;
mod error;
mod packet;
mod rules;

pub use chains::{Passed, Step, Visit};
pub use error::Error;
pub use packet::{Packet, shown};
pub use rules::{Base, Chain, Element, Hook, Rule, Rules, Table};
