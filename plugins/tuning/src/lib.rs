//! The `tuning` plugin: kernel parameters of the container, and MAC address, MTU, promiscuous mode,
//! all-multicast and queue length of its interface. DEL gives all of them back. See README for the
//! keys.

mod add;
mod allowlist;
mod backup;
mod check;
mod config;
mod del;
mod error;
mod inside;
mod plan;
mod undo;

use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Tuning = "tuning" [WITHOUT_NETWORK];
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| config::Config::from_context(context).map(drop),
}
