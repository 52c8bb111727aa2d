//! The configured networks: whether each can be read, what `pontoon lint` says of it, and whether the plugins that they name are
//! there, can be run, and know the keys that they are given.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CheckInput, Finding};
use crate::install::is_ours;
use crate::lint::{self, Level};
use crate::report::Failure;

/// Where runtimes look for plugins beside /opt/cni/bin, unless they are told otherwise: podman's and
/// CRI-O's defaults, and the folders of distributions' packages.
const USUAL: [&str; 5] = [
    "/usr/local/libexec/cni",
    "/usr/libexec/cni",
    "/usr/local/lib/cni",
    "/usr/lib/cni",
    "/opt/cni/bin",
];

/// IPAM plugins that Pontoon's plugins do not run as programs.
const IN_PROCESS: [&str; 2] = ["host-local", "static"];

/// Keys that only Pontoon's plugins of these names know. Another vendor's plugin of the name ignores
/// them: what they ask for is not there.
const OURS_ALONE: [(&str, &[&str]); 3] = [
    ("bridge", &["snat", "snatUnchecked", "internal"]),
    (
        "firewall",
        &[
            "profile",
            "icc",
            "isolation",
            "directAccess",
            "trustedInterfaces",
            "internal",
            "hostAccess",
            "links",
        ],
    ),
    ("host-local", &["exclude"]),
];

#[allow(clippy::disallowed_methods, reason = "the variables of cnitool")]
pub(crate) fn check(ground: &mut CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let places = &ground.places;
    let dir = places.conf_dir();
    let told = places.conf_dir.is_some() || std::env::var_os("NETCONFPATH").is_some();
    let listed = fs::read_dir(&dir).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<PathBuf>>>()
    });
    let mut files = match listed {
        Ok(files) => files,
        // Without any network configured by files there may be none of the usual name.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !told => return Ok(()),
        Err(error) => {
            findings.push(
                Finding::new("conf-dir-missing", dir.display().to_string())
                    .means("a runtime that is told this folder finds no network")
                    .seen(format!("cannot list {}: {error}", dir.display()))
                    .advice("name the folder of the network configurations: --conf-dir, or NETCONFPATH; pontoon install makes one"),
            );
            return Ok(());
        }
    };
    files.retain(|file| {
        let kind = file.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("conf" | "conflist" | "json"))
    });
    files.sort();
    linted(ground, findings)?;
    for path in files {
        let file = &path.display().to_string();
        let text = fs::read(&path)
            .map_err(|error| Failure::Failed(format!("cannot read {}: {error}", path.display())))?;
        let value = match serde_json::from_slice::<Value>(&text) {
            Ok(value) => value,
            Err(error) => {
                findings.push(unreadable(file, &error.to_string()));
                continue;
            }
        };
        plugins(ground, file, &value, findings);
    }
    Ok(())
}

/// What `pontoon lint` calls an error. What it says of plugins that are not there, of files that are no
/// JSON and of routes in a network's subnet is told by the checks of their own, with what to do.
fn linted(ground: &CheckInput, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for judged in lint::configured(&ground.places)? {
        let Some(network) = &judged.network else {
            continue;
        };
        let overlaps = findings
            .iter()
            .any(|one| one.id == "subnet-overlaps-route" && one.object == *network);
        let errors = judged.findings.iter().filter(|one| {
            let elsewhere = one.text.starts_with("plugin ")
                || (overlaps && one.text.contains(" clashes with "));
            one.level == Level::Error && !elsewhere
        });
        for wrong in errors {
            let (file, line) = (&judged.file, wrong.place.line);
            findings.push(
                Finding::new("configuration-wrong", format!("{file}:{line}"))
                    .means(format!(
                        "network {network} is refused, or does not do what its configuration asks for"
                    ))
                    .seen(wrong.text.clone())
                    .advice(format!("edit {file}: pontoon lint {file} tells each place")),
            );
        }
    }
    Ok(())
}

/// A file that is no JSON.
fn unreadable(file: &str, error: &str) -> Finding {
    Finding::new("configuration-unreadable", file)
        .means("runtimes read each file of the folder to find a network by its name (libcni, thus cnitool, podman and containerd): at this one they stop, and each network that comes after it is refused")
        .seen(format!("it is no JSON: {error}"))
        .mend(format!("mv {file} {file}.broken"))
}

/// The folders where plugins are looked for, and whether a flag or a variable has named them.
#[allow(clippy::disallowed_methods, reason = "the variables of cnitool")]
fn folders(ground: &CheckInput) -> (Vec<PathBuf>, bool) {
    let path = ground.places.cni_path();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let named = ground.places.bin_dir.is_some()
        || std::env::var_os("CNI_PATH").is_some_and(|path| !path.is_empty());
    if !named {
        dirs.extend(USUAL.map(PathBuf::from));
    }
    (dirs, named)
}

fn plugins(ground: &CheckInput, file: &str, network: &Value, findings: &mut Vec<Finding>) {
    let (dirs, named) = folders(ground);
    if named && !dirs.iter().any(|dir| dir.is_dir()) {
        let path = ground.places.cni_path();
        let same = |one: &Finding| one.id == "bin-dir-missing";
        if !findings.iter().any(same) {
            findings.push(
                Finding::new("bin-dir-missing", path.clone())
                    .means("a runtime that is told this folder finds no plugin: no container joins any network")
                    .seen(format!("there is no folder {path}"))
                    .advice("name the folder of the plugins: --bin-dir, or CNI_PATH; pontoon install --bin-dir puts ours into one"),
            );
        }
        return;
    }
    let listed = network["plugins"].as_array().cloned();
    let name = network["name"].as_str().unwrap_or("without a name");
    let mut seen = BTreeSet::new();
    for plugin in listed.unwrap_or_else(|| vec![network.clone()]) {
        let ipam = plugin["ipam"]["type"].as_str();
        let kinds = plugin["type"].as_str().into_iter();
        for kind in kinds.chain(ipam.filter(|kind| !IN_PROCESS.contains(kind))) {
            if !seen.insert(kind.to_owned()) || kind.is_empty() || kind.contains('/') {
                continue;
            }
            let there: Vec<PathBuf> = dirs
                .iter()
                .map(|dir| dir.join(kind))
                .filter(|path| path.is_file())
                .collect();
            findings.extend(program(kind, name, file, &dirs, &there));
        }
        findings.extend(foreign(&plugin, name, file, &dirs));
    }
}

/// A plugin that cannot be run.
fn program(
    kind: &str,
    network: &str,
    file: &str,
    dirs: &[PathBuf],
    there: &[PathBuf],
) -> Option<Finding> {
    let runs = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
    };
    if there.iter().any(runs) {
        return None;
    }
    let means = format!("no container joins or leaves network {network}");
    let Some(path) = there.first() else {
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        return Some(
            Finding::new("plugin-missing", kind)
                .means(means)
                .seen(format!("{file} names it, and it is not in {}", dirs.join(":")))
                .advice(format!(
                    "put {kind} there (pontoon install brings Pontoon's own), name the folder that has it by --bin-dir, or correct the name in {file}"
                )),
        );
    };
    Some(
        Finding::new("plugin-not-executable", path.display().to_string())
            .means(means)
            .seen(format!(
                "{file} names it, and no user may execute {}",
                path.display()
            ))
            .mend(format!("chmod +x {}", path.display())),
    )
}

/// Another vendor's plugin that is given Pontoon's keys: it ignores them without a word.
fn foreign(plugin: &Value, network: &str, file: &str, dirs: &[PathBuf]) -> Option<Finding> {
    let ipam = &plugin["ipam"];
    let (kind, key) = [plugin, ipam].into_iter().find_map(|part| {
        let kind = part["type"].as_str()?;
        let (_, keys) = OURS_ALONE.into_iter().find(|(name, _)| *name == kind)?;
        let object = part.as_object()?;
        // Plugins forgive the case of keys.
        let key = keys.iter().find(|key| {
            let mut given = object.iter().filter(|(_, value)| !value.is_null());
            given.any(|(given, _)| given.eq_ignore_ascii_case(key))
        })?;
        Some((kind, *key))
    })?;
    // The main plugin runs IPAM: ours does that in its own process.
    let run = match IN_PROCESS.contains(&kind) {
        true => plugin["type"].as_str()?,
        false => kind,
    };
    let found: Vec<PathBuf> = dirs
        .iter()
        .map(|dir| dir.join(run))
        .filter(|path| path.is_file())
        .collect();
    // Which of several a runtime takes is not known here: that is told as plugin-shadowed.
    if found.is_empty() || found.iter().any(|path: &PathBuf| is_ours(Path::new(path))) {
        return None;
    }
    Some(
        Finding::new("plugin-of-another-vendor", found[0].display().to_string())
            .means(format!(
                "what key \"{key}\" asks of network {network} is not there: this {run} ignores the key without a word"
            ))
            .seen(format!("{file} has key \"{key}\" of Pontoon's {kind}, and {} is another vendor's", found[0].display()))
            .advice(format!(
                "put Pontoon's {run} into a folder of its own, and name that folder first where the runtime reads its folders of plugins; or leave the key out of {file}"
            )),
    )
}
