//! The `container` plugin: the container is in the network namespace of another one. Docker's mode
//! of that name.

mod add;
mod check;
mod config;
mod del;
mod files;
mod plan;
mod target;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

/// The plugin.
pub struct Container;

impl Plugin for Container {
    const NAME: &'static str = "container";

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

    fn judge(&self, context: &Context) -> Result<(), Error> {
        config::Wanted::from_context(context).map(drop)
    }
}
