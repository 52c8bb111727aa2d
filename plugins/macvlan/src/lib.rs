//! The `macvlan` plugin: a link of the container that shares a device of the host and has a MAC
//! address of its own. See README for the keys.

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
    pub struct Macvlan = "macvlan";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| { config::Config::from_context(context)
            .and_then(|config| delegation::judge(context, config.ipam.as_ref())) },
    changed: |context: &Context| ports::follow(context, "macvlan"),
}
