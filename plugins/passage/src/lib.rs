//! Whether a packet passes the rules of this host.
//!
//! [`Rules::read`] reads the rules of every backend and every owner: all tables of nftables, and the
//! tables of both variants of iptables. It runs `nft` and `iptables-save`, so that it is for commands,
//! for STATUS, and for an ADD that has seen by netlink that something drops.
//!
//! Three ways to ask:
//!
//! - [`Rules::judge`] answers the plain question: does this packet pass this hook? The [`PacketVerdict`] is
//!   that it passes, that a named rule or policy drops it, or that it cannot be judged and why. What
//!   cannot be read makes a drop elsewhere no less certain, because one drop is final whatever other
//!   chains say. STATUS, doctor and ADD's look go by this answer; where there is none they warn and do
//!   not fail.
//! - [`Rules::judge_checks`], and [`judge`], which reads the rules first, ask the same for all packets that a
//!   network needs to pass, of the rules of other programs.
//! - [`HookTraversal`] takes a packet through a hook and tells each rule that it meets; `pontoon trace` puts the
//!   hooks together to a way.
//!
//! ```no_run
//! use pontoon_passage::{Hook, Packet, PacketVerdict, Rules};
//!
//! let rules = Rules::read()?;
//! // A container's first packet to the outside, and the answer to it.
//! let out = Packet::new("tcp", ("10.0.0.2".parse()?, 45_678), ("1.1.1.1".parse()?, 443));
//! let out = out.forwarded("br0", "eth0");
//! for packet in [out.clone(), out.reply()] {
//!     match rules.judge(Hook::Forward, &packet) {
//!         PacketVerdict::Passes => {}
//!         PacketVerdict::Dropped(drop) => println!("dropped: {drop}"),
//!         PacketVerdict::Unknown(doubts) => println!("cannot judge: {}", doubts.join("; ")),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A question to the resolver arrives at [`Hook::Input`] after its redirection: ask for
//! `Packet::new("udp", (container, 45_678), (gateway, port of the resolver)).redirected().received(bridge)`.
//!
//! The crate knows nothing of containers, networks or routes: the caller says by which interface the
//! packet comes and goes.

mod chains;
mod checks;
mod error;
mod judge;
mod packet;
mod rules;

pub use chains::{HookOutcome, HookTraversal, Step};
pub use checks::{CheckOutcome, PacketCheck, judge};
pub use error::Error;
pub use judge::{DroppingRule, PacketVerdict};
pub use packet::{Packet, shown};
pub use rules::{Base, Chain, Element, Hook, Rule, Rules, Table};
