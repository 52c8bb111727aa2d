//! The `container` plugin: the container is in the network namespace of another one. Docker's mode
//! of that name.

mod add;
mod check;
mod config;
mod del;
mod error;
mod files;
mod plan;
mod target;
mod undo;

use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Container = "container";
    add: add::add,
    del: del::del,
    check: check::check,
    gc: del::gc,
    judge: |context: &Context| config::JoinTarget::from_context(context).map(drop),
}
