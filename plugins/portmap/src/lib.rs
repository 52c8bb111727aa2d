//! The `portmap` plugin: published ports, reached from outside, from the host, from siblings, from
//! other networks and from the container itself. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod share;
mod undo;
mod warn;

use pontoon_attach::ports;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Portmap = "portmap";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| config::Config::from_context(context).map(drop),
    changed: |context: &Context| ports::follow(context, "portmap"),
}
