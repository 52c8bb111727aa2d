//! The table of plugin kinds: what each plugin of this workspace attaches, keeps and shares. Every
//! list of plugins is a question to this table, so that a new plugin is one row; a test compares
//! the rows with the folders of the workspace.

/// What a plugin does for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Gives the container an interface.
    Interface,
    /// Puts the container into a network namespace that is there already, or into none: Docker's
    /// other modes.
    Mode,
    /// Sets up the loopback interface, which every namespace has.
    Loopback,
    /// Adds to what a plugin before it in the list has made.
    Chained,
    /// Gives out addresses.
    Addresses,
}

/// One plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The name of its binary, and its `type` in a configuration.
    pub name: &'static str,
    /// What it does.
    pub role: Role,
    /// The directory of its records of attachments, below the state directory.
    pub records: Option<&'static str>,
    /// While it has records, the rules that all networks of the host share are in use.
    pub shares_rules: bool,
    /// The container's interface has an end on the host, and the network has rules of its own.
    pub host_end: bool,
    /// That end is a port of a bridge, which the network has.
    pub bridged: bool,
    /// It implements GC: it leaves something outside the container's namespace.
    pub collects: bool,
}

const fn kind(name: &'static str, role: Role) -> Kind {
    Kind {
        name,
        role,
        records: Some(name),
        shares_rules: false,
        host_end: false,
        bridged: false,
        collects: true,
    }
}

const fn stateless(name: &'static str, role: Role, collects: bool) -> Kind {
    Kind {
        records: None,
        collects,
        ..kind(name, role)
    }
}

const fn rules(kind: Kind) -> Kind {
    Kind {
        shares_rules: true,
        ..kind
    }
}

const fn hosted(kind: Kind) -> Kind {
    Kind {
        host_end: true,
        ..rules(kind)
    }
}

const fn bridged(kind: Kind) -> Kind {
    Kind {
        bridged: true,
        ..hosted(kind)
    }
}

/// All plugins, by name.
pub const KINDS: [Kind; 17] = [
    kind("bandwidth", Role::Chained),
    bridged(kind("bridge", Role::Interface)),
    kind("container", Role::Mode),
    Kind {
        records: Some("dns/records"),
        ..rules(kind("dns", Role::Chained))
    },
    rules(kind("firewall", Role::Chained)),
    kind("host", Role::Mode),
    kind("host-device", Role::Interface),
    // Its leases lie in a directory of their own, as the reference plugin's do.
    stateless("host-local", Role::Addresses, true),
    stateless("loopback", Role::Loopback, false),
    kind("macvlan", Role::Interface),
    kind("none", Role::Mode),
    bridged(kind("overlay", Role::Interface)),
    rules(kind("portmap", Role::Chained)),
    hosted(kind("ptp", Role::Interface)),
    kind("sbr", Role::Chained),
    stateless("static", Role::Addresses, false),
    kind("tuning", Role::Chained),
];

/// Other names of plugins: `dns` stands in for podman's plugin.
pub const ALIASES: [(&str, &str); 1] = [("dnsname", "dns")];

/// The row of a plugin, by its name or another name of it.
#[must_use]
pub fn of(name: &str) -> Option<&'static Kind> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    KINDS.iter().find(|kind| kind.name == name)
}

impl Kind {
    /// Whether a list of plugins begins with it: it gives a container its network.
    #[must_use]
    pub fn attaches(&self) -> bool {
        matches!(self.role, Role::Interface | Role::Mode)
    }
}

/// The plugins that give a container its network and record that they did.
pub fn attaching() -> impl Iterator<Item = &'static Kind> {
    recording().filter(|kind| kind.attaches())
}

/// The plugins of a role.
pub fn with_role(role: Role) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(move |kind| kind.role == role)
}

/// Whether a plugin, by its name, puts containers on a bridge.
#[must_use]
pub fn is_bridged(name: &str) -> bool {
    of(name).is_some_and(|kind| kind.bridged)
}

/// The plugins that put containers on a bridge.
pub fn with_bridge() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.bridged)
}

/// The plugins that keep records of attachments.
pub fn recording() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.records.is_some())
}

/// The plugins whose records keep shared rules in place.
pub fn sharing_rules() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.shares_rules)
}

/// The plugins whose interface has an end on the host.
pub fn with_host_end() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.host_end)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The sources of each plugin of the workspace, by its name.
    fn workspace() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut folders: Vec<(String, PathBuf)> = Vec::new();
        for entry in fs::read_dir(root.join("plugins")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            // Libraries have no main.rs; the admin's command and the agent are no plugins.
            let is_plugin = !["pontoon", "node"].contains(&name.as_str());
            if is_plugin && entry.path().join("src/main.rs").exists() {
                folders.push((name, entry.path().join("src")));
            }
        }
        for (binary, file) in [
            ("host-local", "bin/host-local.rs"),
            ("static", "bin/static.rs"),
        ] {
            folders.push((binary.to_owned(), root.join("ipam/src").join(file)));
        }
        let text = |path: &Path| -> String {
            if path.is_file() {
                return fs::read_to_string(path).unwrap();
            }
            let files = fs::read_dir(path).into_iter().flatten().flatten();
            files
                .filter_map(|entry| fs::read_to_string(entry.path()).ok())
                .collect()
        };
        let read = |(name, path): (String, PathBuf)| (name, text(&path));
        folders.into_iter().map(read).collect()
    }

    #[test]
    fn every_plugin_of_the_workspace_has_its_row() {
        let plugins = workspace();
        let mut names: Vec<&str> = plugins.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let rows: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(
            names, rows,
            "plugins of the workspace and rows of the table"
        );
        for (name, source) in &plugins {
            let kind = of(name).unwrap();
            assert!(!source.is_empty(), "{name} has no sources");
            let collects = source.contains("\n    gc: ");
            assert_eq!(collects, kind.collects, "GC of {name}");
            let words = name
                .split('-')
                .map(|word| word[..1].to_uppercase() + &word[1..]);
            let record = words.collect::<String>() + "Record";
            assert_eq!(
                source.contains(&record),
                kind.records.is_some(),
                "{record} in the sources of {name}"
            );
        }
    }

    #[test]
    fn questions() {
        let names =
            |kinds: Vec<&Kind>| -> Vec<&str> { kinds.iter().map(|kind| kind.name).collect() };
        assert_eq!(
            names(attaching().collect()),
            [
                "bridge",
                "container",
                "host",
                "host-device",
                "macvlan",
                "none",
                "overlay",
                "ptp"
            ]
        );
        assert_eq!(
            names(with_host_end().collect()),
            ["bridge", "overlay", "ptp"]
        );
        assert_eq!(names(with_bridge().collect()), ["bridge", "overlay"]);
        assert_eq!(of("dnsname").map(|kind| kind.name), Some("dns"));
        assert_eq!(of("ipvlan"), None);
    }
}
