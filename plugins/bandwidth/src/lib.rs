//! The `bandwidth` plugin: token buckets for what goes into a container and for what comes out of
//! it. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod plan;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Bandwidth;

impl Plugin for Bandwidth {
    const NAME: &'static str = "bandwidth";

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
        config::limits(&context.config).map(drop)
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        del::gc(context)
    }

    fn judge(&self, context: &Context) -> Result<(), Error> {
        config::limits(&context.config).map(drop)
    }
}
