//! The `loopback` plugin: brings the loopback interface of the container up. Takes no keys and
//! ignores `CNI_IFNAME` and `CNI_ARGS`, as the reference plugin does.

mod add;
mod check;
mod del;
mod error;
mod plan;
mod undo;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Loopback = "loopback";
    add: add::add,
    del: del::del,
    check: check::check,
}
