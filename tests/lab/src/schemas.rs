//! Schemas as files.

use pontoon_conf::keys;
use serde_json::Value;

use super::failure::{Failure, Outcome};

/// The files of `conf/schemas`: name and content, made from the types of the keys.
pub fn shipped_schemas() -> Outcome<Vec<(String, String)>> {
    let mut all = keys::schemas();
    all.push(("conflist", keys::conflist()));
    let print = |(name, schema): (&str, Value)| {
        let text = serde_json::to_string_pretty(&schema).map_err(Failure::act("print JSON"))?;
        Ok((format!("{name}.schema.json"), text + "\n"))
    };
    all.into_iter().map(print).collect()
}
