//! The `loopback` plugin: brings the loopback interface of the container up. Takes no keys and
//! ignores `CNI_IFNAME` and `CNI_ARGS`, as the reference plugin does.

mod lo;

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

struct Loopback;

impl Plugin for Loopback {
    const NAME: &'static str = "loopback";

    fn add(&self, context: &Context) -> Result<Attached, Error> {
        lo::add(context)
    }

    fn del(&self, context: &Context) -> Result<(), Error> {
        lo::del(context)
    }

    fn check(&self, context: &Context) -> Result<(), Error> {
        lo::check(context)
    }
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Loopback)
}
