//! The `sbr` plugin: source based routing. What leaves from an address of the interface leaves by
//! that interface, whatever the default route of the container is: for containers with several
//! networks. Everything it makes lies in the container's namespace, and goes with it; a record tells DEL
//! which routes were there before. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod undo;

use pontoon_attach::ports;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Sbr = "sbr";
    add: add::add,
    del: del::del,
    check: check::check,
    gc: del::gc,
    status: |context: &Context| config::Config::from_context(context).map(drop),
    judge: |context: &Context| config::Config::from_context(context).map(drop),
    changed: |context: &Context| ports::follow(context, "sbr"),
}
