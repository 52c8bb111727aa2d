//! What other plugins have noted about the networks of a container: looked at when a container asks
//! for a name of the outside.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pontoon_dns::internal::Facts;
use pontoon_dns::zone::Zone;
use serde::Deserialize;

/// Plugins that make an interface, and record it.
const KINDS: [&str; 4] = ["bridge", "ptp", "macvlan", "host-device"];
/// For how long a container that is on no open network is not looked for again.
const REST: Duration = Duration::from_millis(250);
/// Most networks and containers that are remembered.
const REMEMBERED: usize = 1024;

/// What tells one state of a file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

/// The notes of other plugins.
pub(crate) struct Outside {
    state: PathBuf,
    policies: HashMap<String, (Stamp, bool)>,
    /// Of a container the record that was found, or when none was.
    found: HashMap<String, Result<PathBuf, Instant>>,
}

/// The notes, and the networks with names.
pub(crate) struct Look<'a> {
    pub(crate) outside: &'a mut Outside,
    pub(crate) zone: &'a Zone,
    pub(crate) now: Instant,
}

/// What `firewall` notes of a network.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Held {
    policy: Policy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Policy {
    internal: bool,
}

/// What `bridge` and `ptp` note of a network.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Made {
    rules: Vec<serde::de::IgnoredAny>,
    internal: bool,
}

impl Outside {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            policies: HashMap::new(),
            found: HashMap::new(),
        }
    }

    fn is_closed(&mut self, network: &str) -> bool {
        let path = self.state.join("policy").join(network);
        let stamp = stamp(&path);
        match self.policies.get(network) {
            Some((known, closed)) if *known == stamp => return *closed,
            _ => {}
        }
        let closed = stamp.is_some() && read::<Held>(&path).policy.internal;
        if self.policies.len() >= REMEMBERED {
            self.policies.clear();
        }
        self.policies.insert(network.to_owned(), (stamp, closed));
        closed
    }

    /// A record of the container on a network that has a way out and no record of names.
    fn search(&mut self, container: &str, zone: &Zone) -> Option<PathBuf> {
        for kind in KINDS {
            for entry in fs::read_dir(self.state.join(kind)).into_iter().flatten() {
                let Some(network) = entry
                    .ok()
                    .and_then(|entry| entry.file_name().into_string().ok())
                else {
                    continue;
                };
                let named = zone
                    .of_container(container)
                    .any(|one| one.shared.network == network);
                if named || !self.is_open(kind, &network) {
                    continue;
                }
                let dir = self.state.join(kind).join(&network);
                let record = fs::read_dir(&dir).into_iter().flatten().find_map(|entry| {
                    let name = entry.ok()?.file_name().into_string().ok()?;
                    let own = name.strip_prefix(container)?.starts_with(':');
                    own.then(|| dir.join(&name))
                });
                if record.is_some() {
                    return record;
                }
            }
        }
        None
    }

    /// A network of the host's own links is open; one behind a bridge is when it is masqueraded.
    fn is_open(&mut self, kind: &str, network: &str) -> bool {
        if self.is_closed(network) {
            return false;
        }
        if matches!(kind, "macvlan" | "host-device") {
            return true;
        }
        let made: Made = read(&self.state.join("network").join(network));
        !made.internal && !made.rules.is_empty()
    }
}

impl Facts for Look<'_> {
    fn is_closed(&mut self, network: &str) -> bool {
        self.outside.is_closed(network)
    }

    fn is_on_open_network(&mut self, container: &str) -> bool {
        match self.outside.found.get(container) {
            Some(Ok(record)) if record.exists() => return true,
            Some(Err(at)) if self.now.saturating_duration_since(*at) < REST => return false,
            _ => {}
        }
        let found = self.outside.search(container, self.zone).ok_or(self.now);
        let open = found.is_ok();
        if self.outside.found.len() >= REMEMBERED {
            self.outside.found.clear();
        }
        self.outside.found.insert(container.to_owned(), found);
        open
    }
}

/// A note; what cannot be read lets nothing out that names would not let out without it.
fn read<T: Default + serde::de::DeserializeOwned>(path: &Path) -> T {
    fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.size(), data.mtime(), data.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_open_network_without_names_is_found_and_lost() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let mut outside = Outside::new(state);
        let zone = Zone::default();
        let mut now = Instant::now();
        let mut asks = |outside: &mut Outside| {
            now += REST;
            let mut look = Look {
                outside,
                zone: &zone,
                now,
            };
            look.is_on_open_network("c")
        };
        assert!(!asks(&mut outside));
        write(&state.join("network/net"), r#"{"rules":[1]}"#);
        write(&state.join("bridge/net/cc:eth0"), "{}");
        assert!(!asks(&mut outside), "another container's");
        write(&state.join("bridge/net/c:eth1"), "{}");
        assert!(asks(&mut outside));
        fs::remove_file(state.join("bridge/net/c:eth1")).unwrap();
        assert!(!asks(&mut outside));
        write(&state.join("bridge/net/c:eth1"), "{}");
        write(&state.join("policy/net"), r#"{"policy":{"internal":true}}"#);
        assert!(!asks(&mut outside), "a firewall keeps it to itself");
        write(&state.join("macvlan/lan/c:net1"), "{}");
        assert!(asks(&mut outside));
    }
}
