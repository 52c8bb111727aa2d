//! The `portmap` plugin: published ports, reached from outside, from the host, from siblings, from
//! other networks and from the container itself. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod plan;
mod share;
mod warn;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Portmap;

impl Plugin for Portmap {
    const NAME: &'static str = "portmap";
    const CONNECTS: bool = true;

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
