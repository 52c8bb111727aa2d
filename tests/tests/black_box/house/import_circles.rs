//! Files of one crate that import each other in a circle. A circle has to be read as a whole, so that each one that
//! stays has a reason here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pontoon_lab::{Failure, Outcome};

use super::layout::{entries, files, root, wrong};

/// The circles that stay: one file of each, and why.
const ALLOWED: [(&str, &str); 2] = [
    (
        "netlink/src/route",
        "the methods of the route socket lie in a file for each kernel object",
    ),
    (
        "resolver/src/tls",
        "the resolver holds the connections, and a connection reports to the resolver",
    ),
];

/// The modules of a crate by their path in it (`store::lease`), with the text of their file without tests.
fn modules(src: &Path) -> Outcome<BTreeMap<Vec<String>, String>> {
    let mut found = BTreeMap::new();
    for path in files(src)? {
        let name = path.to_string_lossy();
        if !name.ends_with(".rs") || name.ends_with("tests.rs") || name.contains("/bin/") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))?;
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or_default();
        let code: Vec<&str> = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let inside = path.strip_prefix(src).unwrap_or(&path).with_extension("");
        let module: Vec<String> = inside
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .filter(|part| part != "lib" && part != "main")
            .collect();
        found.insert(module, code.join("\n"));
    }
    Ok(found)
}

/// The paths that the text after `crate::` or `super::` names: `a::{b, c::D}` names `a::b` and `a::c::D`.
fn named(text: &str, paths: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut groups: Vec<usize> = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        if !word.is_empty() {
            path.push(std::mem::take(&mut word));
        }
        match c {
            ':' => {}
            '{' => groups.push(path.len()),
            ',' | '}' if !groups.is_empty() => {
                paths.push(path.clone());
                path.truncate(groups.last().copied().unwrap_or_default());
                if c == '}' {
                    groups.pop();
                }
            }
            c if c.is_whitespace() && !groups.is_empty() => {}
            _ => break,
        }
    }
    path.extend((!word.is_empty()).then_some(word));
    paths.push(path);
}

/// The modules that a module imports from, by `crate::` and `super::`.
fn imports(
    module: &[String],
    text: &str,
    modules: &BTreeMap<Vec<String>, String>,
) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let parent = module.split_last().map_or(module, |(_, parent)| parent);
    for (prefix, base) in [("crate::", &[][..]), ("super::", parent)] {
        for (at, _) in text.match_indices(prefix) {
            // `super::super::` and `pub(in crate::…)` are rare, and name nothing here.
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == ':' || c == '_') {
                continue;
            }
            let mut paths = Vec::new();
            named(&text[at + prefix.len()..], &mut paths);
            for path in paths {
                let whole: Vec<String> = base.iter().cloned().chain(path).collect();
                let owner = (1..=whole.len())
                    .rev()
                    .map(|length| &whole[..length])
                    .find(|part| modules.contains_key(*part));
                if let Some(owner) = owner.filter(|owner| *owner != module) {
                    found.insert(owner.to_vec());
                }
            }
        }
    }
    found
}

/// The sets of modules of which each reaches each other by imports.
fn circles(modules: &BTreeMap<Vec<String>, String>) -> Vec<BTreeSet<Vec<String>>> {
    let direct: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> = modules
        .iter()
        .map(|(module, text)| (module, imports(module, text, modules)))
        .collect();
    let reached = |from: &Vec<String>| {
        let mut all: BTreeSet<Vec<String>> = BTreeSet::new();
        let mut rest: Vec<Vec<String>> = direct[from].iter().cloned().collect();
        while let Some(next) = rest.pop() {
            if all.insert(next.clone()) {
                rest.extend(direct.get(&next).into_iter().flatten().cloned());
            }
        }
        all
    };
    let reach: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> = modules
        .keys()
        .map(|module| (module, reached(module)))
        .collect();
    let mut found = BTreeSet::new();
    for (module, all) in &reach {
        let mut circle: BTreeSet<Vec<String>> = all
            .iter()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(*module)))
            .cloned()
            .collect();
        if circle.len() > 1 {
            circle.insert((*module).clone());
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// The `src` folders of the crates.
fn crates() -> Outcome<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = entries(&root().join("plugins"))?;
    found.extend(["conf", "ipam", "dns", "dns/resolver"].map(|name| root().join(name)));
    found.retain(|folder| folder.join("Cargo.toml").is_file());
    Ok(found.into_iter().map(|folder| folder.join("src")).collect())
}

#[test]
fn files_of_a_crate_import_each_other_in_no_circle() -> Outcome {
    let mut lines = Vec::new();
    let mut kept = BTreeSet::new();
    let mut arrows = 0;
    for src in crates()? {
        let modules = modules(&src)?;
        arrows += modules
            .iter()
            .map(|(module, text)| imports(module, text, &modules).len())
            .sum::<usize>();
        for circle in circles(&modules) {
            let names: Vec<String> = circle
                .iter()
                .map(|module| format!("{}/{}", src.display(), module.join("/")))
                .collect();
            let allowed = ALLOWED
                .into_iter()
                .find(|(file, _)| names.iter().any(|name| name.ends_with(file)));
            match allowed {
                Some((file, _)) => drop(kept.insert(file)),
                None => lines.push(format!("a circle of imports: {}", names.join(", "))),
            }
        }
    }
    for (file, reason) in ALLOWED.into_iter().filter(|(file, _)| !kept.contains(file)) {
        lines.push(format!("{file} is in no circle any more ({reason})"));
    }
    if arrows < 500 {
        lines.push(format!("only {arrows} imports were found"));
    }
    wrong(lines)
}
