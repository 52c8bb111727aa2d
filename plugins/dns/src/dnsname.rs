//! The `dns` plugin under the name of podman's: the same keys, and `domainName` for `domain`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pontoon_plugin::main(&pontoon_names::Names)
}
