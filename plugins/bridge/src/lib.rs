//! The `bridge` plugin: a docker0-style bridge, a veth pair for each container, addresses, routes,
//! masquerade or SNAT. See README for the keys.
//!
//! [`verbs`] are for a plugin that is built on this one: it says what more there is of its network, and keeps records of
//! its own.

mod add;
mod check;
mod config;
mod del;
mod error;
mod foreign;
mod network;
mod plan;
mod undo;
pub mod verbs;

use pontoon_ledger::BridgeRecord;
use pontoon_plugin::Context;

pub use foreign::foreign_ports;
pub use verbs::Beyond;

const ALONE: Beyond = Beyond {
    subnets: Vec::new(),
    gateways: Vec::new(),
    reach: None,
};

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Bridge = "bridge";
    add: |context: &Context| verbs::add::<BridgeRecord>(context, &ALONE),
    del: verbs::del::<BridgeRecord>,
    check: |context: &Context| verbs::check::<BridgeRecord>(context, &ALONE),
    status: verbs::status::<BridgeRecord>,
    gc: verbs::gc::<BridgeRecord>,
    judge: verbs::judge,
    changed: verbs::changed::<BridgeRecord>,
}
