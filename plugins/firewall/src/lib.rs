//! The `firewall` plugin: what may pass between containers, networks, the host and the world. See
//! README for the keys.

mod add;
mod check;
mod coexist;
mod config;
mod del;
mod error;
mod links;
mod plan;
mod request;
mod separate;
mod undo;
mod zones;

use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Firewall = "firewall";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| config::Config::from_context(context).map(drop),
}
