//! The `static` plugin: addresses that stand in the configuration. See README for the keys.

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_ipam::static_addresses;
use pontoon_plugin::{Context, Plugin};

struct Static;

impl Plugin for Static {
    const NAME: &'static str = "static";

    fn add(&self, context: &Context) -> Result<Attached, Error> {
        static_addresses::add(&context.invocation, &context.config)
    }

    fn del(&self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        static_addresses::check(&context.invocation, &context.config)
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        static_addresses::status(&context.invocation, &context.config)
    }
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Static)
}
