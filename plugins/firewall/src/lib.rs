//! The `firewall` plugin: what may pass between containers, networks, the host and the world. See
//! README for the keys.

mod add;
mod check;
mod coexist;
mod config;
mod del;
mod links;
mod plan;
mod separate;
mod zones;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Firewall;

impl Plugin for Firewall {
    const NAME: &'static str = "firewall";

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
