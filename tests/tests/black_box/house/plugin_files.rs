//! The files of a plugin: every plugin has the same ones, and `plugins/README.md` names them.

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_lab::{Failure, Outcome};

use super::layout::{entries, root, wrong};

/// The files that every plugin has.
const ALWAYS: [&str; 6] = [
    "main.rs", "lib.rs", "add.rs", "del.rs", "check.rs", "error.rs",
];

/// The files that a plugin has when it has keys, something to decide, or something to take back.
const WHERE_NEEDED: [&str; 3] = ["config.rs", "plan.rs", "undo.rs"];

/// The plugins without one of these, and why.
const WITHOUT: [(&str, &str, &str); 4] = [
    ("loopback", "config.rs", "it has no keys"),
    ("overlay", "del.rs", "its DEL is bridge's"),
    (
        "overlay",
        "plan.rs",
        "what it decides is what bridge decides",
    ),
    ("overlay", "undo.rs", "bridge takes back what bridge made"),
];

/// The folders of the plugins: those of `plugins` that make a binary, without the admin's command and the agent.
fn plugins() -> Outcome<Vec<PathBuf>> {
    let mut found = entries(&root().join("plugins"))?;
    let other = ["pontoon", "node"];
    found.retain(|folder| {
        folder.join("src/main.rs").is_file() && !other.iter().any(|name| folder.ends_with(name))
    });
    if found.len() < 14 {
        return Err(Failure::new(format!("only {found:?} are plugins")));
    }
    Ok(found)
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[test]
fn every_plugin_has_the_same_files() -> Outcome {
    let mut lines = Vec::new();
    for folder in plugins()? {
        let plugin = name(&folder);
        for file in ALWAYS.into_iter().chain(WHERE_NEEDED) {
            let path = folder.join("src").join(file);
            let reason = WITHOUT
                .into_iter()
                .find(|(who, what, _)| (*who, *what) == (plugin.as_str(), file));
            let text = fs::read_to_string(&path).ok();
            let code = text.iter().flat_map(|text| text.lines());
            let code = code.filter(|line| !line.is_empty() && !line.starts_with("//"));
            match (reason, code.count()) {
                (None, 0) => lines.push(format!("{plugin} has no {file}, or an empty one")),
                (Some((.., why)), 1..) => {
                    lines.push(format!(
                        "{plugin} has {file}, and this test says that {why}"
                    ));
                }
                _ => {}
            }
        }
    }
    wrong(lines)
}

#[test]
fn main_runs_the_plugin_and_lib_is_its_table_of_verbs() -> Outcome {
    let mut lines = Vec::new();
    for folder in plugins()? {
        let plugin = name(&folder);
        let source = |file: &str| {
            let path = folder.join("src").join(file);
            fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))
        };
        let main = source("main.rs")?;
        if main.lines().count() > 7 || !main.contains("    pontoon_plugin::main(&pontoon_") {
            lines.push(format!("main.rs of {plugin} does more than run the plugin"));
        }
        let lib = source("lib.rs")?;
        if !lib.contains("pontoon_plugin::plugin! {") || lib.contains("fn ") {
            lines.push(format!("lib.rs of {plugin} is not the table of its verbs"));
        }
    }
    wrong(lines)
}

/// The table of the files stands in the book as well.
#[test]
fn the_readme_names_the_files_of_a_plugin() -> Outcome {
    let path = root().join("plugins/README.md");
    let text = fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))?;
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let mut lines = Vec::new();
    for file in ALWAYS.into_iter().chain(WHERE_NEEDED) {
        let word = if ALWAYS.contains(&file) {
            "always"
        } else {
            "where"
        };
        let named = |row: &&&str| row.contains(&format!("`{file}`"));
        match rows.iter().find(named) {
            None => lines.push(format!("plugins/README.md has no row for {file}")),
            Some(row) if !row.contains(&format!("| {word}")) => {
                lines.push(format!(
                    "plugins/README.md: the row of {file} must say {word:?}"
                ));
            }
            Some(_) => {}
        }
    }
    wrong(lines)
}

/// Whether a module uses another one of its crate.
fn imports(text: &str, module: &str) -> bool {
    let mut imports = text
        .split(';')
        .filter_map(|statement| statement.split_once("use crate::"));
    imports.any(|(_, path)| {
        let mut words = path.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        match path.trim_start().starts_with('{') {
            true => words.any(|word| word == module),
            false => words.next() == Some(module),
        }
    }) || text.contains(&format!("crate::{module}::"))
}

#[test]
fn add_and_del_do_not_import_each_other() -> Outcome {
    let mut lines = Vec::new();
    let mut plugins = 0;
    for folder in entries(&root().join("plugins"))? {
        let source = |name: &str| fs::read_to_string(folder.join("src").join(name));
        let (Ok(add), Ok(del)) = (source("add.rs"), source("del.rs")) else {
            continue;
        };
        plugins += 1;
        let undo = source("undo.rs").map_err(Failure::act(format!(
            "read undo.rs of {}",
            folder.display()
        )))?;
        for (file, text, others) in [
            ("add.rs", &add, &["del"][..]),
            ("del.rs", &del, &["add"]),
            ("undo.rs", &undo, &["add", "del"]),
        ] {
            for other in others.iter().filter(|other| imports(text, other)) {
                lines.push(format!("{}/{file} uses {other}.rs", folder.display()));
            }
        }
    }
    if plugins < 13 {
        lines.push(format!("only {plugins} plugins have add.rs and del.rs"));
    }
    wrong(lines)
}
