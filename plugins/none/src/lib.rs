//! The `none` plugin: the container has nothing but its loopback interface, and CHECK fails when
//! anything else has appeared. Docker's mode of that name.

mod add;
mod check;
mod config;
mod del;
mod error;
mod plan;
mod undo;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct None = "none";
    add: add::add,
    del: del::del,
    check: check::check,
    gc: del::gc,
}
