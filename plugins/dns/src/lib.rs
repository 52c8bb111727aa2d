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
mod files;
mod input;
mod plan;
mod resolver;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Names;

impl Plugin for Names {
    const NAME: &'static str = "dns";

    fn add(&self, context: &Context) -> Result<Attached, Error> {
        add::add(context)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        del::del(context)
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        check::check(context)
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        check::status(context)
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        del::gc(context)
    }

    fn judge(&self, context: &Context) -> Result<(), Error> {
        config::Config::from_context(context).map(drop)
    }
}
