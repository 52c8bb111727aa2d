//! The `tuning` plugin: kernel parameters of the container, and MAC address, MTU, promiscuous mode,
//! all-multicast and queue length of its interface. DEL gives all of them back. See README for the
//! keys.

mod add;
mod allowlist;
mod backup;
mod check;
mod config;
mod del;
mod inside;
mod plan;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Tuning;

impl Plugin for Tuning {
    const NAME: &'static str = "tuning";
    const WITHOUT_NETWORK: bool = true;

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
