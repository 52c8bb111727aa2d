//! The lints are the same everywhere, and their configuration is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pontoon_lab::{Failure, Outcome};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> Outcome<String> {
    fs::read_to_string(root().join(file)).map_err(Failure::act(format!("read {file}")))
}

/// The lints of a manifest below these headings: name and level.
fn lints(file: &str, headings: [&str; 2]) -> Outcome<BTreeMap<String, String>> {
    let text = read(file)?;
    let mut found = BTreeMap::new();
    let mut within = false;
    for line in text.lines() {
        if line.starts_with('[') {
            within = headings.contains(&line);
        } else if let (true, Some((name, level))) = (within, line.split_once(" = ")) {
            found.insert(name.to_owned(), level.to_owned());
        }
    }
    match found.is_empty() {
        true => Err(Failure::new(format!("{file} has no lints"))),
        false => Ok(found),
    }
}

/// The crate that may hold unsafe code has a list of its own, since Cargo inherits all or nothing.
#[test]
fn netlink_has_the_lints_of_the_workspace() -> Outcome {
    let mut all = lints(
        "Cargo.toml",
        ["[workspace.lints.rust]", "[workspace.lints.clippy]"],
    )?;
    all.insert("unsafe_code".to_owned(), "\"allow\"".to_owned());
    let own = lints(
        "plugins/netlink/Cargo.toml",
        ["[lints.rust]", "[lints.clippy]"],
    )?;
    match own == all {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "plugins/netlink/Cargo.toml has {own:?}, the workspace {all:?}"
        ))),
    }
}

/// clippy reads nothing by itself from a folder that it is not told of, and says nothing then.
#[test]
fn clippy_is_told_where_its_configuration_is() -> Outcome {
    let told = read(".cargo/config.toml")?;
    let file = read(".cargo/clippy.toml")?;
    let found = told.contains("CLIPPY_CONF_DIR = { value = \".cargo\", relative = true }")
        && file.contains("std::process::Command::new");
    match found {
        true => Ok(()),
        false => Err(Failure::new("clippy.toml is not found, or bans nothing")),
    }
}
