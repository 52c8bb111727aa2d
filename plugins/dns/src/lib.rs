//! The `dns` plugin: registers a container's names with the embedded resolver, leads port 53 of the
//! bridge to it, and writes the container's resolv.conf and hosts.
//!
//! The names are a record in the state directory, which `pontoon-dns` reads; it is started here when
//! it does not run. ADD returns when the resolver has confirmed that it has seen the record, DEL when
//! it has confirmed that it is gone. What the resolver answers is decided in `pontoon-dns` alone.

mod add;
mod check;
mod config;
mod del;
mod error;
mod files;
mod input;
mod plan;
mod resolver;
mod service;
mod undo;

use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    /// The plugin.
    pub struct Names = "dns";
    add: add::add,
    del: del::del,
    check: check::check,
    status: check::status,
    gc: del::gc,
    judge: |context: &Context| config::Config::from_context(context).map(drop),
}
