//! The `none` plugin: the container has nothing but its loopback interface, and CHECK fails when
//! anything else has appeared. Docker's mode of that name.

mod add;
mod check;
mod config;
mod del;
mod plan;

use std::process::ExitCode;

use pontoon_conf::{Attached, Error};
use pontoon_plugin::{Context, Plugin};

struct None;

impl Plugin for None {
    const NAME: &'static str = "none";

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
    pontoon_plugin::main(&None)
}
