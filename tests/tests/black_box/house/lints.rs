//! The configuration of the lints is found.

use std::fs;
use std::path::Path;

use pontoon_lab::{Failure, Outcome};

fn read(file: &str) -> Outcome<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(file)).map_err(Failure::act(format!("read {file}")))
}

/// Clippy does not look for its configuration below `.cargo`, and does not report that it has none.
#[test]
fn clippy_is_told_where_its_configuration_is() -> Outcome {
    let told = read(".cargo/config.toml")?;
    let file = read(".cargo/clippy.toml")?;
    let found = told.contains("CLIPPY_CONF_DIR = { value = \".cargo\", relative = true }")
        && file.contains("std::process::Command::new");
    match found {
        true => Ok(()),
        false => Err(Failure::new(
            ".cargo/config.toml does not set CLIPPY_CONF_DIR to .cargo, or .cargo/clippy.toml \
             does not ban std::process::Command::new",
        )),
    }
}
