//! What the READMEs must have: the top one fits, every plugin has one, no link leads nowhere, and
//! every key of a schema has a line in the README of its plugin.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pontoon_lab::{Failure, Outcome};
use serde_json::Value;

/// Lines of the README at the top: three screens.
const MOST_LINES: usize = 180;

/// Plugins whose README is not in `plugins/NAME`.
const ELSEWHERE: [(&str, &str); 2] = [
    ("host-local", "ipam/README.md"),
    ("static", "ipam/README.md"),
];

pub(super) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(super) fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(top().join(path)).map_err(Failure::act(format!("read {path}")))
}

/// Every README of the repository, by its path from the top.
pub(super) fn all() -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    walk(&top(), &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(dir: &Path, found: &mut Vec<String>) -> Outcome {
    let act = || format!("list {}", dir.display());
    for entry in fs::read_dir(dir).map_err(Failure::act(act()))? {
        let path = entry.map_err(Failure::act(act()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            walk(&path, found)?;
        } else if name == "README.md" {
            let below = path.strip_prefix(top()).unwrap_or(&path);
            found.push(below.display().to_string());
        }
    }
    Ok(())
}

pub(super) fn wrong(lines: &[String]) -> Outcome {
    if lines.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(lines.join("\n")))
    }
}

#[test]
fn the_top_readme_fits() -> Outcome {
    let count = read("README.md")?.lines().count();
    if count <= MOST_LINES {
        return Ok(());
    }
    Err(Failure::new(format!(
        "README.md has {count} lines, and {MOST_LINES} are allowed: move details to the README of their folder"
    )))
}

#[test]
fn every_plugin_has_a_readme() -> Outcome {
    let mut lines = Vec::new();
    let entries = fs::read_dir(top().join("plugins")).map_err(Failure::act("list plugins"))?;
    for entry in entries.flatten() {
        let folder = entry.path();
        if folder.join("src/main.rs").is_file() && !folder.join("README.md").is_file() {
            lines.push(format!("{} has no README.md", folder.display()));
        }
    }
    wrong(&lines)
}

/// The lines of a text that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        if line.starts_with("```") {
            code = !code;
            return false;
        }
        !code
    })
}

/// The anchors of a text's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

/// Where the links of a line lead.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

/// `folder/../file` without the dots.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn no_link_leads_nowhere() -> Outcome {
    let mut lines = Vec::new();
    let mut count = 0;
    for name in all()? {
        let text = read(&name)?;
        let folder = Path::new(&name).parent().unwrap_or(Path::new(""));
        for target in prose(&text).flat_map(targets) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                PathBuf::from(&name)
            } else {
                plain(&folder.join(file))
            };
            if !top().join(&file).exists() {
                lines.push(format!("{name}: {target} is not there"));
            } else if !anchor.is_empty() {
                let there = read(&file.display().to_string())?;
                if !anchors(&there).contains(anchor) {
                    lines.push(format!("{name}: {target}: no heading is called so"));
                }
            }
        }
    }
    if count < 50 {
        lines.push(format!("only {count} links were found"));
    }
    wrong(&lines)
}

/// The names of all properties in a schema, of the inner objects too.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                found.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| keys(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| keys(inner, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_a_schema_has_a_line() -> Outcome {
    let every = read("conf/README.md")?;
    let mut lines = Vec::new();
    let schemas = fs::read_dir(top().join("conf/schemas")).map_err(Failure::act("list schemas"))?;
    for entry in schemas.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let plugin = file.trim_end_matches(".schema.json");
        let readme = match ELSEWHERE.iter().find(|(name, _)| *name == plugin) {
            Some((_, path)) => (*path).to_owned(),
            None if plugin == "conflist" => "conf/README.md".to_owned(),
            None => format!("plugins/{plugin}/README.md"),
        };
        let own = read(&readme)?;
        let told = |key: &str| {
            let word = format!("`{key}`");
            let mut rows = prose(&own).chain(prose(&every));
            rows.any(|line| line.starts_with('|') && line.contains(&word))
        };
        let text = read(&format!("conf/schemas/{file}"))?;
        let schema = serde_json::from_str(&text).map_err(Failure::act(format!("read {file}")))?;
        let mut found = BTreeSet::new();
        keys(&schema, &mut found);
        let untold = found.iter().filter(|key| !told(key));
        lines.extend(untold.map(|key| format!("{readme} has no line for key `{key}` of {plugin}")));
    }
    wrong(&lines)
}

/// The sources below a folder as one text, in which a string that goes over lines is one again.
fn sources(dir: &Path, text: &mut String) -> Outcome {
    let act = || format!("list {}", dir.display());
    for entry in fs::read_dir(dir).map_err(Failure::act(act()))? {
        let path = entry.map_err(Failure::act(act()))?.path();
        if path.is_dir() {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|found| found == "rs") {
            let source = fs::read_to_string(&path).map_err(Failure::act("read a source"))?;
            for line in source.replace("\\\"", "\"").lines() {
                match line.strip_suffix('\\') {
                    Some(begun) => text.push_str(begun.trim_start()),
                    None => {
                        text.push_str(line.trim_start());
                        text.push('\n');
                    }
                }
            }
        }
    }
    Ok(())
}

/// The words that `ConfigError` puts around those of a plugin, a line for each call that names its key.
fn words_about_keys(text: &str) -> String {
    let mut words = String::new();
    for call in text.split("ConfigError::").skip(1) {
        let Some((kind, rest)) = call.split_once('(') else {
            continue;
        };
        let key = rest.trim_start().strip_prefix('"');
        let Some((key, rest)) = key.and_then(|rest| rest.split_once('"')) else {
            continue;
        };
        let rest = rest.trim_start_matches([',', ' ', '\n']);
        let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
        let why = rest.strip_prefix('"').and_then(|why| why.lines().next());
        words += &match (kind, why) {
            ("unsupported", _) => format!("key \"{key}\" cannot be \"\n"),
            ("value", _) => format!("key \"{key}\" cannot be\n"),
            ("missing", _) => format!("key \"{key}\" is missing\n"),
            ("key", Some(why)) => format!("key \"{key}\": {why}\n"),
            _ => continue,
        };
    }
    words
}

#[test]
fn the_words_of_every_error_are_those_of_the_source() -> Outcome {
    let mut text = String::new();
    for folder in ["conf/src", "ipam/src", "plugins"] {
        sources(&top().join(folder), &mut text)?;
    }
    text += &words_about_keys(&text);
    let (mut lines, mut count) = (Vec::new(), 0);
    for name in all()? {
        let readme = read(&name)?;
        // | 7 | `words … more` (CHECK) | next step |
        for row in prose(&readme).filter(|line| line.starts_with('|')) {
            let mut cells = row.trim_matches('|').split(" | ");
            let code = cells.next().map(str::trim).unwrap_or_default();
            if code.parse::<u32>().is_err() {
                continue;
            }
            let words = cells.next().unwrap_or_default();
            for said in words.split('`').skip(1).step_by(2) {
                count += 1;
                let parts = said.split('…').map(str::trim);
                for part in parts.filter(|part| part.len() > 2 && !text.contains(part)) {
                    lines.push(format!("{name}: code {code}: nothing says {part:?}"));
                }
            }
        }
    }
    if count < 80 {
        lines.push(format!("only {count} errors were found"));
    }
    wrong(&lines)
}

#[test]
fn anchors_are_those_of_github() {
    let found = anchors("# A key, `b`\n```sh\n# no heading\n```\n## What's there\n");
    let expected = ["a-key-b", "whats-there"].map(str::to_owned);
    assert_eq!(found, expected.into());
    let line = "[a](b.md#c) and ![d](e.svg)";
    assert_eq!(targets(line).collect::<Vec<_>>(), ["b.md#c", "e.svg"]);
    assert_eq!(plain(Path::new("a/../b/c")), Path::new("b/c"));
}
