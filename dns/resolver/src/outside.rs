//! What other plugins have noted about the networks of a container: looked at when a container asks
//! for a name of the outside.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::internal::Facts;
use pontoon_dns::zone::Zone;
use rustix::io::read;
use serde::Deserialize;

use super::door::Door;
use super::request::Watched;

/// Plugins that make an interface, and record it.
pub(crate) const KINDS: [&str; 4] = ["bridge", "ptp", "macvlan", "host-device"];
/// For how long a container that is on no open network is not looked for again.
const REST: Duration = Duration::from_millis(250);
/// Most networks and containers that are remembered.
const REMEMBERED: usize = 1024;

/// Largest note that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Room for events of changes, in bytes.
const EVENTS: usize = 4096;

/// The notes of other plugins, which the keeper opens.
pub(crate) struct Outside {
    door: Rc<Door>,
    /// Tells of changes of the policies; `None` when the kernel gives none (`max_user_instances`): then
    /// they are read each time.
    changes: Option<OwnedFd>,
    /// Whether changes are told of by now.
    watching: bool,
    policies: HashMap<String, bool>,
    /// Of a container the record that was found, or when none was.
    found: HashMap<String, Result<String, Instant>>,
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
    pub(crate) fn new(door: Rc<Door>, changes: Option<OwnedFd>) -> Self {
        Self {
            door,
            changes,
            watching: false,
            policies: HashMap::new(),
            found: HashMap::new(),
        }
    }

    /// Forgets the policies when one of them has changed. The kernel tells before the change's writer
    /// goes on, so that no change is ever missed.
    fn refresh(&mut self) {
        let mut changed = !self.watching;
        if let Some(changes) = &self.changes {
            let mut room = [MaybeUninit::<u8>::uninit(); EVENTS];
            while read(changes, &mut room).is_ok_and(|(events, _)| !events.is_empty()) {
                changed = true;
            }
        }
        if changed {
            self.policies.clear();
            // The directory goes with the last policy, and comes again with the next one.
            let watch = |path: &str| self.door.watch(Watched::Notes, path.to_owned());
            self.watching = self.changes.is_some() && watch("").is_some();
            watch("policy");
        }
    }

    fn is_closed(&mut self, network: &str) -> bool {
        self.refresh();
        if let Some(closed) = self.policies.get(network) {
            return *closed;
        }
        let closed = self
            .note::<Held>(format!("policy/{network}"))
            .policy
            .internal;
        if self.policies.len() >= REMEMBERED {
            self.policies.clear();
        }
        self.policies.insert(network.to_owned(), closed);
        closed
    }

    /// A note; what cannot be read lets nothing out that names would not let out without it.
    fn note<T: Default + serde::de::DeserializeOwned>(&self, path: String) -> T {
        let text = self.door.read(path, LARGEST).ok().flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// A record of the container on a network that has a way out and no record of names.
    fn search(&mut self, container: &str, zone: &Zone) -> Option<String> {
        for kind in KINDS {
            for network in self.door.list(kind.to_owned()) {
                let named = zone
                    .of_container(container)
                    .any(|one| one.shared.network == network);
                if named || !self.is_open(kind, &network) {
                    continue;
                }
                let records = self.door.list(format!("{kind}/{network}"));
                let record = records.into_iter().find(|name| {
                    let rest = name.strip_prefix(container);
                    rest.is_some_and(|rest| rest.starts_with(':'))
                });
                if let Some(record) = record {
                    return Some(format!("{kind}/{network}/{record}"));
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
        let made: Made = self.note(format!("network/{network}"));
        !made.internal && !made.rules.is_empty()
    }
}

impl Facts for Look<'_> {
    fn is_closed(&mut self, network: &str) -> bool {
        self.outside.is_closed(network)
    }

    fn is_on_open_network(&mut self, container: &str) -> bool {
        match self.outside.found.get(container) {
            Some(Ok(record)) if self.outside.door.exists(record.clone()) => return true,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::keeper::Service;

    /// Notes whose keeper is in this process.
    fn outside(state: &Path) -> Outside {
        let mut service = Service::new(state, 1);
        service.renew_watches();
        let [_, notes] = service.watches();
        let changes = notes.map(|notes| notes.try_clone().unwrap());
        Outside::new(Rc::new(Door::here(service)), changes)
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_open_network_without_names_is_found_and_lost() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let mut outside = outside(state);
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
    #[test]
    fn a_change_of_policy_is_seen_by_the_next_question() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let (mut told, mut untold) = (outside(state), outside(state));
        untold.changes = None;
        let policy = state.join("policy/net");
        let mut both = || (told.is_closed("net"), untold.is_closed("net"));
        for _ in 0..2 {
            assert_eq!(both(), (false, false));
            write(&policy, r#"{"policy":{"internal":true}}"#);
            assert_eq!(both(), (true, true));
            write(&state.join("policy/:1"), r#"{"policy":{"internal":false}}"#);
            fs::rename(state.join("policy/:1"), &policy).unwrap();
            assert_eq!(both(), (false, false));
            write(&policy, r#"{"policy":{"internal":true}}"#);
            assert_eq!(both(), (true, true));
            fs::remove_file(&policy).unwrap();
            assert_eq!(both(), (false, false));
            fs::remove_dir(state.join("policy")).unwrap();
        }
    }
}
