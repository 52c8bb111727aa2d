//! The `ptp` plugin: a veth pair between a container and its host, without a bridge. The host
//! routes; the container's neighbours in its own subnet are reached through it too. See README for
//! the keys.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod undo;

use pontoon_attach::ports;
use pontoon_ipam::delegation;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Ptp = "ptp";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| { config::Config::from_context(context)
            .and_then(|config| delegation::judge(context, Some(&config.ipam))) },
    changed: |context: &Context| ports::follow(context, "ptp"),
}
