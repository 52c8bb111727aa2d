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

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

struct Firewall;

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
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Firewall)
}
