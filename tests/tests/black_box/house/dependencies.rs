//! What the programs are linked with: licences, versions, sources and bans as `.cargo/deny.toml` says,
//! and no dependency that is not used. These tests stand for cargo-deny, which the machine that the suite
//! was written on cannot install: they do not know advisories. Where cargo-deny is installed, run
//! `cargo deny --config .cargo/deny.toml check` too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_lab::{Failure, Outcome};
use serde_json::Value;

/// Dependencies that no line of a package names: package, dependency, and what it is for.
const FOR_THEIR_FEATURES: [(&str, &str); 3] = [
    // The compiler of etcd-client's messages, which `.cargo/protoc` finds in them.
    ("pontoon-node", "protoc-bin-vendored-linux-aarch_64"),
    ("pontoon-node", "protoc-bin-vendored-linux-x86_64"),
    // Its feature `release_max_level_off` removes hickory's log messages.
    ("pontoon-resolver", "tracing"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn none(wrong: Vec<String>) -> Outcome {
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("\n"))),
    }
}

fn cargo(arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .map_err(Failure::act("run cargo"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("cargo {}: {words}", arguments[0])));
    }
    String::from_utf8(output.stdout).map_err(Failure::act("read what cargo says"))
}

/// A crate that is compiled for a Linux host of this kind, tests included.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
    /// A folder or an address, where it is not of the registry.
    from: String,
}

/// All that are compiled. `cargo metadata` would name optional ones too, that no feature asks for.
fn compiled() -> Outcome<BTreeSet<Crate>> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let text = cargo(&[
        "tree",
        "--workspace",
        "--target",
        &target,
        "--prefix",
        "none",
        "--format",
        "{p}\t{l}",
    ])?;
    let line = |line: &str| -> Option<Crate> {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('\t')?;
        let mut words = package.splitn(3, ' ');
        let (name, version) = (words.next()?, words.next()?);
        let rest = words.next().unwrap_or_default();
        let from = rest.replace("(proc-macro)", "");
        Some(Crate {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
            licence: licence.to_owned(),
            from: from.trim().to_owned(),
        })
    };
    let all: BTreeSet<Crate> = text.lines().filter_map(line).collect();
    match all.len() {
        0..100 => Err(Failure::new(format!(
            "cargo tree names {} crates",
            all.len()
        ))),
        _ => Ok(all),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The quoted words of a list in `.cargo/deny.toml`. Of a table in the list, its `crate`.
fn listed(file: &str, key: &str) -> Outcome<Vec<String>> {
    let start = format!("\n{key} = [");
    let list = file
        .split_once(&start)
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(list, _)| list)
        .ok_or_else(|| Failure::new(format!("deny.toml has no list {key}")))?;
    let tables = list.contains("crate = ");
    let words: Vec<String> = if tables {
        let crates = list.split("crate = \"").skip(1);
        crates
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect()
    } else {
        let quoted = list.split('"').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    match words.is_empty() {
        true => Err(Failure::new(format!(
            "the list {key} of deny.toml is empty"
        ))),
        false => Ok(words),
    }
}

fn deny_toml() -> Outcome<String> {
    fs::read_to_string(root().join(".cargo/deny.toml")).map_err(Failure::act("read deny.toml"))
}

/// Whether an SPDX expression can be kept with these licences: `AND` binds closer than `OR`, and an
/// old `/` is an `OR`.
fn permitted(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ")
        .replace(" WITH ", "_WITH_");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let kept = any(&words, &mut at, allowed);
    kept && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut kept = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        kept |= all(words, at, allowed);
    }
    kept
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut kept = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        kept &= one(words, at, allowed);
    }
    kept
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let word = words.get(*at).copied().unwrap_or_default();
    *at += 1;
    if word != "(" {
        let licence = word.replace("_WITH_", " WITH ");
        return allowed.contains(&licence);
    }
    let kept = any(words, at, allowed);
    let closed = words.get(*at) == Some(&")");
    *at += 1;
    kept && closed
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for good in [
        "MIT",
        "GPL-3.0-only OR MIT",
        "MIT/Apache-2.0",
        "(GPL-3.0-only OR Apache-2.0 WITH LLVM-exception) AND MIT",
    ] {
        assert!(permitted(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0-only",
        "MIT AND GPL-3.0-only",
        "(MIT",
        "MIT MIT",
    ] {
        assert!(!permitted(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed() -> Outcome {
    let allowed = listed(&deny_toml()?, "allow")?;
    let wrong = compiled()?
        .into_iter()
        .filter(|one| !permitted(&one.licence, &allowed))
        .map(|one| format!("{}: {:?}", one.name, one.licence))
        .collect();
    none(wrong)
}

#[test]
fn no_crate_has_two_versions_but_those_that_are_excused() -> Outcome {
    let excused = listed(&deny_toml()?, "skip")?;
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for found in compiled()? {
        // `syn@2` is every 2.x.
        let skipped = excused.iter().any(|one| {
            one.split_once('@').is_some_and(|(name, prefix)| {
                let rest = found.version.strip_prefix(prefix);
                name == found.name
                    && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        if !skipped {
            versions
                .entry(found.name)
                .or_default()
                .insert(found.version);
        }
    }
    let twice = versions.iter().filter(|(_, found)| found.len() > 1);
    none(
        twice
            .map(|(name, found)| format!("{name}: {found:?}; .cargo/deny.toml excuses by `skip`"))
            .collect(),
    )
}

#[test]
fn nothing_is_banned_nor_from_elsewhere() -> Outcome {
    let banned = listed(&deny_toml()?, "deny")?;
    let top = root()
        .canonicalize()
        .map_err(Failure::act("find the workspace"))?;
    let mut wrong = Vec::new();
    for found in compiled()? {
        let name = &found.name;
        if banned.contains(name) {
            wrong.push(format!("{name} is banned by .cargo/deny.toml"));
        }
        let own = found.from.contains(&top.display().to_string());
        if !found.from.is_empty() && !own {
            wrong.push(format!("{name} comes from {}", found.from));
        }
    }
    none(wrong)
}

/// The `.rs` files below a folder.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // A package within this one has its own dependencies.
        if path.is_dir() && !path.join("Cargo.toml").exists() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_dependency_is_used_and_of_one_version() -> Outcome {
    let members = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    let members: Value =
        serde_json::from_str(&members).map_err(Failure::act("read cargo metadata"))?;
    let members = members["packages"].as_array().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for package in &members {
        let dir = Path::new(text(package, "manifest_path"))
            .parent()
            .unwrap_or(Path::new("/"));
        let mut files = Vec::new();
        sources(dir, &mut files);
        let code: String = files
            .iter()
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let (name, package) = (text(dependency, "name"), text(package, "name"));
            let known_as = dependency["rename"]
                .as_str()
                .unwrap_or(name)
                .replace('-', "_");
            let used = ["::", ";", " as "]
                .iter()
                .any(|after| code.contains(&format!("{known_as}{after}")));
            let excused = FOR_THEIR_FEATURES.contains(&(package, name));
            if !used && !excused {
                wrong.push(format!("{package} does not use {name}"));
            }
            let pinned = !dependency["path"].is_null() || text(dependency, "req").starts_with('=');
            if !pinned {
                wrong.push(format!(
                    "{package} takes any {name} of {}",
                    dependency["req"]
                ));
            }
        }
    }
    if members.len() < 20 {
        wrong.push(format!("only {} packages are known", members.len()));
    }
    none(wrong)
}
