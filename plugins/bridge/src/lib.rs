//! The `bridge` plugin: a docker0-style bridge, a veth pair for each container, addresses, routes,
//! masquerade or SNAT. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod foreign;
mod network;
mod plan;

use pontoon_conf::{Attached, Error};
use pontoon_ipam::delegation;
use pontoon_plugin::{Context, Plugin};

pub use foreign::foreign_ports;

/// The plugin.
pub struct Bridge;

impl Plugin for Bridge {
    const NAME: &'static str = "bridge";
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
            .and_then(|config| delegation::judge(context, config.ipam.as_ref()))
    }
}
