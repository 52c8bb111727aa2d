//! The `loopback` plugin: brings the loopback interface of the container up. Takes no keys and
//! ignores `CNI_IFNAME` and `CNI_ARGS`, as the reference plugin does.

mod error;
mod lo;

use std::process::ExitCode;

pontoon_plugin::plugin! {
    struct Loopback = "loopback";
    add: lo::add,
    del: lo::del,
    check: lo::check,
}

fn main() -> ExitCode {
    pontoon_plugin::main(&Loopback)
}
