//! Records of other plugins about the networks of a container: read when a container asks for a name
//! that no record of names has.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_dns::internal::Facts;
use pontoon_dns::zone::Zone;
use pontoon_ledger::{NetworkPolicyRecord, NetworkRecord, PerNetworkRecord};
use rustix::io::read;

use super::keeper_client::KeeperClient;
use super::request::WatchKind;

/// Plugins that make an interface, and record it.
pub(crate) const KINDS: [&str; 5] = ["bridge", "overlay", "ptp", "macvlan", "host-device"];
/// For how long a container that is on no open network is not looked for again.
const REST: Duration = Duration::from_millis(250);
/// Most networks and containers that are remembered.
const REMEMBERED: usize = 1024;

/// Largest record that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Room for events of changes, in bytes.
const EVENTS: usize = 4096;

/// The records of other plugins, which the keeper opens.
pub(crate) struct PluginRecords {
    keeper: Rc<KeeperClient>,
    /// Tells of changes of the policies; `None` when the kernel gives none (`max_user_instances`): then
    /// they are read each time.
    changes: Option<OwnedFd>,
    /// Whether changes are told of by now.
    watching: bool,
    policies: HashMap<String, bool>,
    /// Of a container the record that was found, or when none was.
    found: HashMap<String, Result<String, Instant>>,
    /// Records that could not be read, each told once.
    unread: HashSet<String>,
    warnings: Vec<String>,
}

/// The records of other plugins, and the networks with names.
pub(crate) struct PluginRecordFacts<'a> {
    pub(crate) plugin_records: &'a mut PluginRecords,
    pub(crate) zone: &'a Zone,
    pub(crate) now: Instant,
}

impl PluginRecords {
    pub(crate) fn new(keeper: Rc<KeeperClient>, changes: Option<OwnedFd>) -> Self {
        Self {
            keeper,
            changes,
            watching: false,
            policies: HashMap::new(),
            found: HashMap::new(),
            unread: HashSet::new(),
            warnings: Vec::new(),
        }
    }

    /// What could not be read since the last call, in words.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
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
            let watch = |path: &str| self.keeper.watch(WatchKind::Notes, path.to_owned());
            self.watching = self.changes.is_some() && watch("").is_some();
            watch("policy");
        }
    }

    fn is_closed(&mut self, network: &str) -> bool {
        self.refresh();
        if let Some(closed) = self.policies.get(network) {
            return *closed;
        }
        let record = self.record::<NetworkPolicyRecord>(network);
        let closed = record.is_some_and(|record| record.policy.internal);
        if self.policies.len() >= REMEMBERED {
            self.policies.clear();
        }
        self.policies.insert(network.to_owned(), closed);
        closed
    }

    /// A record about a network, if there is one. One that cannot be read is told, and counts as absent: then
    /// the records of names alone decide what a container may ask for.
    fn record<R: PerNetworkRecord>(&mut self, network: &str) -> Option<R> {
        let path = format!("{}/{network}", R::FOLDER);
        let failure = match self.keeper.read(path.clone(), LARGEST) {
            Ok(None) => return None,
            Ok(Some(text)) => match R::parse(&text, Path::new(&path)) {
                Ok(record) => return Some(record),
                Err(error) => error.to_string(),
            },
            Err(error) => format!("cannot read {path}: {error}"),
        };
        if self.unread.len() >= REMEMBERED {
            self.unread.clear();
        }
        if self.unread.insert(failure.clone()) {
            self.warnings.push(failure);
        }
        None
    }

    /// A record of the container on a network that has a way out and no record of names.
    fn search(&mut self, container: &str, zone: &Zone) -> Option<String> {
        for kind in KINDS {
            for network in self.keeper.list(kind.to_owned()) {
                let named = zone
                    .of_container(container)
                    .any(|one| one.shared.network == network);
                if named || !self.is_open(kind, &network) {
                    continue;
                }
                let records = self.keeper.list(format!("{kind}/{network}"));
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
        let record = self.record::<NetworkRecord>(network);
        record.is_some_and(|record| !record.internal && !record.rules.is_empty())
    }
}

impl Facts for PluginRecordFacts<'_> {
    fn is_closed(&mut self, network: &str) -> bool {
        self.plugin_records.is_closed(network)
    }

    fn is_on_open_network(&mut self, container: &str) -> bool {
        match self.plugin_records.found.get(container) {
            Some(Ok(record)) if self.plugin_records.keeper.exists(record.clone()) => return true,
            Some(Err(at)) if self.now.saturating_duration_since(*at) < REST => return false,
            _ => {}
        }
        let found = self
            .plugin_records
            .search(container, self.zone)
            .ok_or(self.now);
        let open = found.is_ok();
        if self.plugin_records.found.len() >= REMEMBERED {
            self.plugin_records.found.clear();
        }
        self.plugin_records
            .found
            .insert(container.to_owned(), found);
        open
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::keeper::Service;

    /// Records whose keeper is in this process.
    fn records_of(state: &Path) -> PluginRecords {
        let mut service = Service::new(state, 1);
        service.renew_watches();
        let [_, notes] = service.watches();
        let changes = notes.map(|notes| notes.try_clone().unwrap());
        PluginRecords::new(Rc::new(KeeperClient::here(service)), changes)
    }

    const MASQUERADED: &str = r#"{"rules":[["nftables",{"network":"net","bridge":"br",
        "egress":[{"subnet":"10.81.0.0/24","snat":[]}]}]]}"#;

    fn policy(internal: bool) -> String {
        format!(
            r#"{{"backend":"nftables","policy":{{"network":"net","bridge":"br","icc":true,"isolated":false,
            "closed":false,"trusted":[],"internal":{internal},"host_access":true,"ingress":"open",
            "admin_chain":"CNI-ADMIN"}}}}"#
        )
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_open_network_without_names_is_found_and_lost() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let mut plugin_records = records_of(state);
        let zone = Zone::default();
        let mut now = Instant::now();
        let mut asks = |plugin_records: &mut PluginRecords| {
            now += REST;
            let mut facts = PluginRecordFacts {
                plugin_records,
                zone: &zone,
                now,
            };
            facts.is_on_open_network("c")
        };
        assert!(!asks(&mut plugin_records));
        write(&state.join("network/net"), MASQUERADED);
        write(&state.join("bridge/net/cc:eth0"), "{}");
        assert!(!asks(&mut plugin_records), "another container's");
        write(&state.join("bridge/net/c:eth1"), "{}");
        assert!(asks(&mut plugin_records));
        fs::remove_file(state.join("bridge/net/c:eth1")).unwrap();
        assert!(!asks(&mut plugin_records));
        write(&state.join("bridge/net/c:eth1"), "{}");
        write(&state.join("policy/net"), &policy(true));
        assert!(!asks(&mut plugin_records), "a firewall keeps it to itself");
        write(&state.join("macvlan/lan/c:net1"), "{}");
        assert!(asks(&mut plugin_records));
    }

    #[test]
    fn a_change_of_policy_is_seen_by_the_next_question() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        let (mut told, mut untold) = (records_of(state), records_of(state));
        untold.changes = None;
        let path = state.join("policy/net");
        let mut both = || (told.is_closed("net"), untold.is_closed("net"));
        for _ in 0..2 {
            assert_eq!(both(), (false, false));
            write(&path, &policy(true));
            assert_eq!(both(), (true, true));
            write(&state.join("policy/:1"), &policy(false));
            fs::rename(state.join("policy/:1"), &path).unwrap();
            assert_eq!(both(), (false, false));
            write(&path, &policy(true));
            assert_eq!(both(), (true, true));
            fs::remove_file(&path).unwrap();
            assert_eq!(both(), (false, false));
            fs::remove_dir(state.join("policy")).unwrap();
        }
    }
    #[test]
    fn a_record_that_cannot_be_read_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = records_of(dir.path());
        write(&dir.path().join("policy/net"), "{");
        for _ in 0..2 {
            records.policies.clear();
            assert!(!records.is_closed("net"));
        }
        let warnings = records.take_warnings();
        let [warning] = &warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(warning.contains("policy/net"), "{warning}");
    }
}
