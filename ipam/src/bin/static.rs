//! The `static` plugin: addresses that stand in the configuration. See README for the keys.

use std::process::ExitCode;

use pontoon_ipam::static_addresses;
use pontoon_plugin::Context;

pontoon_plugin::plugin! {
    struct Static = "static";
    add: |context: &Context| static_addresses::add(&context.invocation, &context.config),
    del: |_: &Context| Ok(()),
    check: |context: &Context| static_addresses::check(&context.invocation, &context.config),
    status: |context: &Context| static_addresses::status(&context.invocation, &context.config),
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Static)
}
