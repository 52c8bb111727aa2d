//! The `host-local` plugin: addresses from ranges, kept on this host. See README for the keys.

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_ipam::host_local;
use pontoon_plugin::{Context, Plugin};

struct HostLocal;

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";

    fn add(&self, context: &Context) -> Result<Attached, Error> {
        host_local::add(&context.invocation, &context.config, context.state.dir())
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        host_local::del(&context.invocation, &context.config, context.state.dir())
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        host_local::check(&context.invocation, &context.config, context.state.dir())
    }

    fn status(&self, context: &Context) -> Result<(), Error> {
        host_local::status(&context.invocation, &context.config, context.state.dir())
    }

    fn gc(&self, context: &Context) -> Result<(), Error> {
        host_local::gc(&context.invocation, &context.config, context.state.dir())
    }
}

fn main() -> ExitCode {
    pontoon_plugin::main(&HostLocal)
}
