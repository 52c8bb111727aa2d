//! The `host` plugin: the container is in the network namespace that the plugin runs in. A path
//! of its own is re-bound to it. Docker's mode of that name.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod undo;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Host = "host" [ON_THE_HOST];
    add: add::add,
    del: del::del,
    check: check::check,
    gc: del::gc,
}
