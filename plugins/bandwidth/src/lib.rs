//! The `bandwidth` plugin: token buckets for what goes into a container and for what comes out of
//! it. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod undo;

use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Bandwidth = "bandwidth";
    add: add::add,
    del: del::del,
    check: check::check,
    status: |context: &Context| config::limits(&context.config).map(drop),
    gc: del::gc,
    judge: |context: &Context| config::limits(&context.config).map(drop),
}
