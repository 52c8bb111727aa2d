//! The `ptp` plugin: a veth pair between a container and its host, without a bridge. The host
//! routes; the container's neighbours in its own subnet are reached through it too. See README for
//! the keys.

mod add;
mod check;
mod config;
mod del;
mod plan;

use pontoon_conf::{Attached, Error};
use pontoon_ipam::delegation;
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Ptp;

impl Plugin for Ptp {
    const NAME: &'static str = "ptp";
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
        config::Config::from_context(context)
            .and_then(|config| delegation::judge(context, Some(&config.ipam)))
    }
}
