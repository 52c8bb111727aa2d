//! The `host-device` plugin: a device of the host moves into the container, and DEL gives it back
//! under the name that it had. See README for the keys.

mod add;
mod check;
mod config;
mod del;
mod device;

use pontoon_conf::{Attached, Error};
use pontoon_ipam::delegation;
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct HostDevice;

impl Plugin for HostDevice {
    const NAME: &'static str = "host-device";
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
