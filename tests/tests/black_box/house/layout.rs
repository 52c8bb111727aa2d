//! The house: which crate may lean on which, what lies at the top, and how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pontoon_lab::{Failure, Outcome};
use serde_json::Value;

/// The libraries that a package may use. A package that is not here is a plugin or a command: it
/// may use any library, and no other binary package, but for [`PARSERS`].
const LIBRARIES: [(&str, &[&str]); 10] = [
    ("pontoon-conf", &[]),
    ("pontoon-netlink", &[]),
    ("pontoon-netfilter", &["pontoon-netlink"]),
    ("pontoon-passage", &["pontoon-netfilter", "pontoon-netlink"]),
    (
        "pontoon-ledger",
        &["pontoon-conf", "pontoon-netfilter", "pontoon-netlink"],
    ),
    (
        "pontoon-plugin",
        &["pontoon-conf", "pontoon-ledger", "pontoon-netlink"],
    ),
    (
        "pontoon-attach",
        &[
            "pontoon-conf",
            "pontoon-ledger",
            "pontoon-netfilter",
            "pontoon-netlink",
            "pontoon-passage",
            "pontoon-plugin",
        ],
    ),
    (
        "pontoon-ipam",
        &[
            "pontoon-conf",
            "pontoon-ledger",
            "pontoon-plugin",
            "pontoon-netlink",
        ],
    ),
    ("pontoon-dns", &["pontoon-ledger", "pontoon-netlink"]),
    (LAB, &["pontoon-conf", "pontoon-netlink"]),
];

/// What only tests and the commands of xtask use.
const LAB: &str = "pontoon-lab";

/// The plugins' libraries, whose parsers `pontoon lint` asks what each of them refuses. Nothing else of
/// a plugin is used by another program.
const PARSERS: [&str; 12] = [
    "pontoon-bandwidth",
    "pontoon-bridge",
    "pontoon-container",
    "pontoon-firewall",
    "pontoon-host-device",
    "pontoon-macvlan",
    "pontoon-names",
    "pontoon-overlay",
    "pontoon-portmap",
    "pontoon-ptp",
    "pontoon-sbr",
    "pontoon-tuning",
];

/// A package that is built on the library of another plugin or command, and why: what is not here, and no parser,
/// stays out of others' programs.
const BUILT_ON: [(&str, &str); 2] = [
    // An overlay network is a bridge on each of its hosts.
    ("pontoon-overlay", "pontoon-bridge"),
    // The agent and the plugin bring the same tunnel into the kernel.
    ("pontoon-node", "pontoon-overlay"),
];

/// Longest file, in lines.
const LONGEST: usize = 600;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
pub(crate) fn wrong(lines: Vec<String>) -> Outcome {
    if lines.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(lines.join("\n")))
    }
}

pub(crate) fn entries(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let found = fs::read_dir(dir).map_err(Failure::act(format!("list {}", dir.display())))?;
    Ok(found.flatten().map(|entry| entry.path()).collect())
}

/// All files below `dir`, without dot-folders and what Cargo builds.
pub(crate) fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in entries(dir)? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            all.extend(files(&path)?)
        } else {
            all.push(path)
        }
    }
    Ok(all)
}

#[test]
fn dependencies_point_one_way() -> Outcome {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .map_err(Failure::act("run cargo metadata"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(Failure::act("read cargo metadata"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let members: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = LIBRARIES.into_iter().collect();
    let mut lines = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests_only = dependency["kind"] == "dev";
            let fine = match allowed.get(name) {
                _ if used == LAB => name == "xtask" || in_tests_only,
                Some(list) => list.contains(&used),
                None if name == "pontoon-cli" && PARSERS.contains(&used) => true,
                None if BUILT_ON.contains(&(name, used)) => true,
                None => allowed.contains_key(used),
            };
            if members.contains(used) && !fine {
                lines.push(format!("{name} must not depend on {used}"));
            }
        }
    }
    if members.len() < LIBRARIES.len() {
        lines.push(format!("cargo metadata lists only {members:?}"));
    }
    wrong(lines)
}

/// What the agent talks to etcd by is in no other program.
#[test]
fn only_the_agent_links_etcd() -> Outcome {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--invert",
            "etcd-client",
            "--edges",
            "normal",
        ])
        .args([
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--offline",
            "--locked",
        ])
        .current_dir(root())
        .output()
        .map_err(Failure::act("run cargo tree"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    match found == BTreeSet::from(["etcd-client", "pontoon-node"]) {
        true => Ok(()),
        false => wrong(vec![format!("etcd-client is linked by {found:?}")]),
    }
}

#[test]
fn the_top_holds_nothing_else() -> Outcome {
    let rooms = [
        "Cargo.toml",
        "Cargo.lock",
        "plugins",
        "ipam",
        "dns",
        "conf",
        "tests",
        "README.md",
        "LICENSE",
        "target",
    ];
    let mut lines = Vec::new();
    for path in entries(&root())? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        // In a second working tree of git, `.git` is a file.
        let dot = name.starts_with('.')
            && (path.is_dir() || [".git", ".gitignore"].contains(&name.as_str()));
        if !dot && !rooms.contains(&name.as_str()) {
            lines.push(format!("{name} has no place at the top"));
        }
    }
    lines.extend(
        rooms[..9]
            .iter()
            .filter(|name| !root().join(name).exists())
            .map(|name| format!("{name} is missing")),
    );
    wrong(lines)
}

#[test]
fn files_are_short_and_well_named() -> Outcome {
    let mut lines = Vec::new();
    for path in files(&root())? {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if [
            "mod.rs",
            "utils.rs",
            "helpers.rs",
            "common.rs",
            "misc.rs",
            "manager.rs",
        ]
        .contains(&name)
        {
            lines.push(format!(
                "{} says nothing about what it holds",
                path.display()
            ));
        }
        let source = ["rs", "sh"]
            .iter()
            .any(|extension| path.extension().is_some_and(|found| found == *extension));
        let length = if source {
            fs::read_to_string(&path)
                .unwrap_or_default()
                .lines()
                .count()
        } else {
            0
        };
        if length > LONGEST {
            lines.push(format!("{} has {length} lines", path.display()));
        }
    }
    wrong(lines)
}

/// What a plugin tells beside its result goes through `pontoon_plugin::warn`: the log has it too.
#[test]
fn plugins_warn_in_one_place() -> Outcome {
    let mut lines = Vec::new();
    let mut warned = 0;
    let own = |path: &Path| {
        // They are no plugins: the command talks to its user, the agent to the journal.
        let other = ["pontoon", "node"].map(|name| root().join("plugins").join(name));
        other.iter().any(|folder| path.starts_with(folder))
            || path.ends_with("plugin/src/warning.rs")
            || !path.iter().any(|part| part == "src")
    };
    let sources = ["plugins", "ipam"].map(|room| files(&root().join(room)));
    for room in sources {
        for path in room?.into_iter().filter(|path| !own(path)) {
            if path.extension().is_none_or(|found| found != "rs") {
                continue;
            }
            let text =
                fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))?;
            warned += text.matches("warn(format_args!(").count();
            for word in ["eprintln!", "eprint!", "dbg!", "io::stderr()"] {
                if text.contains(word) {
                    lines.push(format!("{} uses {word}", path.display()));
                }
            }
        }
    }
    if warned < 30 {
        lines.push(format!("only {warned} warnings were found"));
    }
    wrong(lines)
}

/// Every error of an operation is a type with its cause and its code; `conf` alone makes the object of the protocol of
/// it. The one object that is passed on as it came is that of a delegated plugin.
#[test]
fn errors_become_the_object_of_the_protocol_in_one_place() -> Outcome {
    let (mapping, passed_on) = ("conf/src/error.rs", "plugins/plugin/src/delegate.rs");
    let mut lines = Vec::new();
    let (mut operations, mut objects) = (0, 0);
    for room in ["conf/src", "plugins", "ipam", "dns"] {
        for path in files(&root().join(room))? {
            if path.extension().is_none_or(|found| found != "rs") {
                continue;
            }
            let text =
                fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))?;
            // Tests may make one of their own.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            operations += code.matches("impl OperationError for ").count();
            let made =
                code.matches("Error::new(").count() - code.matches("io::Error::new(").count();
            let given = code.matches("of_delegate(").count();
            objects += given;
            if path.ends_with(mapping) {
                if code.contains("pub fn new(") || code.contains("pub(crate) fn new(") {
                    lines.push(format!("{mapping}: Error::new is not private"));
                }
            } else if made > 0 {
                lines.push(format!("{} calls Error::new", path.display()));
            } else if given > 0 && !path.ends_with(passed_on) {
                lines.push(format!("{} calls Error::of_delegate", path.display()));
            }
        }
    }
    if operations < 50 || objects != 2 {
        lines.push(format!(
            "{operations} types of errors and {objects} mentions of of_delegate were found"
        ));
    }
    wrong(lines)
}

/// What is made by these calls has the mode that the caller's umask allows: with a umask of 0, every user may write it.
/// `pontoon_ledger::directory` and `draft` make directories and files with a mode of their own.
#[test]
fn no_file_is_made_with_the_mode_of_the_umask() -> Outcome {
    let mut lines = Vec::new();
    let rooms = ["plugins", "ipam/src", "dns/src", "dns/resolver/src"];
    for path in rooms.into_iter().map(|room| files(&root().join(room))) {
        for path in path? {
            let name = path.display().to_string();
            // A sysctl is written, and no file is made.
            let beside = name.contains("/tests/") || name.ends_with("tests.rs");
            if beside || !name.ends_with(".rs") || name.ends_with("netlink/src/sysctl.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(Failure::act(name.clone()))?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for call in [
                "fs::write(",
                "create_dir_all(",
                "create_dir(",
                "File::create(",
            ] {
                if code.contains(call) {
                    lines.push(format!("{name} calls {call})"));
                }
            }
        }
    }
    wrong(lines)
}

#[test]
fn only_netlink_is_unsafe() -> Outcome {
    let mut lines = Vec::new();
    let keyword = concat!("un", "safe");
    for path in files(&root())?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == "rs"))
    {
        let text = fs::read_to_string(&path).map_err(Failure::act(path.display().to_string()))?;
        let inside = path.components().any(|part| part.as_os_str() == "netlink");
        let used = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or_default();
            [" {", " fn", " impl", " extern"]
                .iter()
                .any(|next| code.contains(&format!("{keyword}{next}")))
        });
        if used && !inside {
            lines.push(format!("{} uses {keyword} code", path.display()));
        }
    }
    wrong(lines)
}

#[test]
fn samples_are_networks() -> Outcome {
    let mut lines = Vec::new();
    let samples = entries(&root().join("conf/samples"))?;
    for path in &samples {
        let network = pontoon_lab::Network::load(path)?;
        // A `.conf` is one plugin's object, a `.conflist` has a list of them.
        let single = std::slice::from_ref(network.list());
        let plugins = if path.extension().is_some_and(|found| found == "conf") {
            single
        } else {
            network.plugins()
        };
        let typed = !plugins.is_empty() && plugins.iter().all(|plugin| plugin["type"].is_string());
        if network.name().is_empty() || !typed {
            lines.push(format!(
                "{} has no name, no plugins, or a plugin without type",
                path.display()
            ));
        }
    }
    if samples.is_empty() {
        lines.push("conf/samples is empty".to_owned());
    }
    wrong(lines)
}

#[test]
fn readme_names_the_two_commands() -> Outcome {
    let readme = root().join("README.md");
    let text = fs::read_to_string(&readme).map_err(Failure::act("read README.md"))?;
    let alias = fs::read_to_string(root().join(".cargo/config.toml"))
        .map_err(Failure::act("read the cargo alias"))?;
    let mut lines = Vec::new();
    for command in ["cargo xtask demo", "cargo xtask test"] {
        if !text.contains(command) {
            lines.push(format!("README.md does not name `{command}`"));
        }
    }
    if !alias.contains("xtask = ") {
        lines.push("there is no alias for xtask".to_owned());
    }
    wrong(lines)
}
