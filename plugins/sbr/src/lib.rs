//! The `sbr` plugin: source based routing. What leaves from an address of the interface leaves by
//! that interface, whatever the default route of the container is: for containers with several
//! networks. Everything it makes lies in the container's namespace, and goes with it; a record tells DEL
//! which routes were there before. See README for the keys.

mod add;
mod check;
mod del;
mod plan;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Sbr;

impl Plugin for Sbr {
    const NAME: &'static str = "sbr";
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

    fn gc(&self, context: &Context) -> Result<(), Error> {
        del::gc(context)
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        plan::Config::from_context(context).map(drop)
    }

    fn judge(&self, context: &Context) -> Result<(), Error> {
        plan::Config::from_context(context).map(drop)
    }
}
