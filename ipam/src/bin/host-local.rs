//! The `host-local` plugin: addresses from ranges, kept on this host. See README for the keys.

use std::process::ExitCode;

use pontoon_ipam::host_local;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    struct HostLocal = "host-local";
    add: |context: &Context| host_local::add(&context.invocation, &context.config, context.state.dir()),
    del: |context: &Context| host_local::del(&context.invocation, &context.config, context.state.dir()),
    check: |context: &Context| host_local::check(&context.invocation, &context.config, context.state.dir()),
    status: |context: &Context| host_local::status(&context.invocation, &context.config, context.state.dir()),
    gc: |context: &Context| host_local::gc(&context.invocation, &context.config, context.state.dir()),
}

fn main() -> ExitCode {
    pontoon_plugin::main(&HostLocal)
}
