//! The `host` plugin: the container is in the network namespace that the plugin runs in. A path
//! of its own is re-bound to it. Docker's mode of that name.

mod add;
mod check;
mod config;
mod del;
mod plan;

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

struct Host;

impl Plugin for Host {
    const NAME: &'static str = "host";
    const ON_THE_HOST: bool = true;

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
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Host)
}
