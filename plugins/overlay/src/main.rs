//! The `overlay` plugin: see README for the keys.

use std::process::ExitCode;

fn main() -> ExitCode {
    pontoon_plugin::main(&pontoon_overlay::Overlay)
}
