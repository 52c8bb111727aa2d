//! `cargo xtask schemas`: the files in `conf/schemas`.

use std::fs;

use pontoon_lab::{Failure, Outcome, shipped_schemas};

use crate::build::root;

/// Writes every schema.
pub(crate) fn write() -> Outcome {
    let dir = root().join("conf/schemas");
    fs::create_dir_all(&dir).map_err(Failure::act("make conf/schemas"))?;
    for (name, text) in shipped_schemas()? {
        let file = dir.join(&name);
        fs::write(&file, text).map_err(Failure::act(format!("write {}", file.display())))?;
        println!("{name}");
    }
    Ok(())
}
