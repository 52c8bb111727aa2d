//! The `overlay` plugin: a bridge whose network goes on over several hosts. See README for the keys.
//!
//! What the plugin does on ADD is `bridge`'s work on the blocks of this host. The way to the other hosts is
//! [`tunnel`], which the agent `pontoon-node` uses too: it decides what there shall be, [`tunnel::apply`] makes the
//! kernel have it.

mod add;
mod check;
mod config;
mod error;
mod site;
pub mod tunnel;

use pontoon_bridge::verbs;
use pontoon_ledger::OverlayRecord;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Overlay = "overlay";
    add: add::add,
    del: |context: &Context| verbs::del::<OverlayRecord>(&config::for_removal(context)),
    check: check::check,
    status: check::status,
    gc: |context: &Context| verbs::gc::<OverlayRecord>(&config::for_removal(context)),
    judge: |context: &Context| { config::Config::from_context(context)
            .and_then(|_| verbs::judge(&config::for_removal(context))) },
    changed: verbs::changed::<OverlayRecord>,
}
