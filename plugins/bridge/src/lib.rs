//! The `bridge` plugin: a docker0-style bridge, a veth pair for each container, addresses, routes,
//! masquerade or SNAT. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod error;
mod foreign;
mod network;
mod plan;
mod undo;

use pontoon_attach::ports;
use pontoon_ipam::delegation;
use pontoon_plugin::Context;

pub use foreign::foreign_ports;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Bridge = "bridge";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| { config::Config::from_context(context)
            .and_then(|config| delegation::judge(context, config.ipam.as_ref())) },
    changed: |context: &Context| ports::follow(context, "bridge"),
}
