//! The directory of records, read and followed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use pontoon_dns::record::Record;
use pontoon_dns::zone::{Key, Zone};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::watch::watch;

/// Records, as files below `dir`: NETWORK/CONTAINER:IFNAME.
pub(crate) struct Store {
    dir: PathBuf,
    /// `None` when the kernel gives us none (`max_user_instances`): then everything is looked
    /// through once a second.
    watch: Option<Inotify>,
    networks: HashMap<WatchDescriptor, String>,
}

/// What a look at the records found wrong, in words.
pub(crate) type Warnings = Vec<String>;

impl Store {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            watch: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            networks: HashMap::new(),
        }
    }

    /// What becomes ready when the records change; `None` when the kernel does not tell.
    pub(crate) fn watch(&self) -> Option<AsyncFd<OwnedFd>> {
        let descriptor = self.watch.as_ref()?.as_fd().try_clone_to_owned().ok()?;
        watch(descriptor, Interest::READABLE).ok()
    }

    /// Brings the zone up to what is on disk now, in full.
    pub(crate) fn read_all(&mut self, zone: &mut Zone) -> Warnings {
        let mut warnings = Vec::new();
        let mut there = HashSet::new();
        self.watch_root();
        for network in entries(&self.dir) {
            self.watch_network(&network);
            for file in entries(&self.dir.join(&network)) {
                if let Some(key) = Key::parse(&format!("{network}/{file}")) {
                    there.insert(key);
                }
            }
        }
        let gone: Vec<Key> = zone.keys().filter(|key| !there.contains(key)).collect();
        for key in &gone {
            zone.remove(key);
        }
        for key in &there {
            warnings.extend(self.read_one(zone, key));
        }
        warnings
    }

    /// Brings one record up to what is on disk now.
    pub(crate) fn read_one(&mut self, zone: &mut Zone, key: &Key) -> Warnings {
        let path = self.dir.join(key.path());
        match Record::read(&path) {
            Ok(None) => {
                zone.remove(key);
                Vec::new()
            }
            Ok(Some(record)) => {
                let named = (&record.network, &record.container, &record.interface);
                if named != (&key.network, &key.container, &key.interface) {
                    return vec![format!("{} is the record of another", path.display())];
                }
                zone.insert(record)
                    .into_iter()
                    .map(|name| format!("{}: {name:?} can be no domain name", path.display()))
                    .collect()
            }
            // An older good record stays until the file is good again or gone.
            Err(error) => vec![error.to_string()],
        }
    }

    /// Handles what has changed since the last call.
    pub(crate) fn follow(&mut self, zone: &mut Zone) -> Warnings {
        let mut warnings = Vec::new();
        loop {
            let events = match self.watch.as_ref().map(Inotify::read_events) {
                Some(Ok(events)) if !events.is_empty() => events,
                _ => return warnings,
            };
            let mut all = false;
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    all = true;
                    continue;
                }
                let name = event.name.as_deref().and_then(|name| name.to_str());
                match self.networks.get(&event.wd) {
                    Some(network) => {
                        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                            self.networks.remove(&event.wd);
                        } else if let Some(key) =
                            name.and_then(|name| Key::parse(&format!("{network}/{name}")))
                        {
                            warnings.extend(self.read_one(zone, &key));
                        }
                    }
                    // A network came or went, or the directory itself.
                    None => all = true,
                }
            }
            if all {
                warnings.extend(self.read_all(zone));
            }
        }
    }

    fn watch_root(&self) {
        if let Some(watch) = &self.watch {
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
            let _ = watch.add_watch(&self.dir, flags);
            // The directory goes with the last record, and comes again with the next one.
            if let Some(parent) = self.dir.parent() {
                let _ = watch.add_watch(parent, AddWatchFlags::IN_CREATE);
            }
        }
    }

    fn watch_network(&mut self, network: &str) {
        let Some(watch) = &self.watch else { return };
        let flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE;
        // Watching a directory again is the same watch.
        if let Ok(descriptor) = watch.add_watch(&self.dir.join(network), flags) {
            self.networks.insert(descriptor, network.to_owned());
        }
    }
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn text(container: &str, address: &str) -> String {
        format!(
            "{{\"version\":1,\"network\":\"net\",\"container\":\"{container}\",\"interface\":\"eth0\",\
             \"names\":[\"{container}\"],\"addresses\":[\"{address}\"],\"domain\":\"d\",\"ttl\":5,\
             \"resolvConf\":\"/x\"}}"
        )
    }

    fn has(zone: &Zone, address: &str) -> bool {
        zone.at(address.parse::<IpAddr>().unwrap()).is_some()
    }

    #[test]
    fn files_that_come_and_go_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("records");
        fs::create_dir_all(root.join("net")).unwrap();
        fs::write(root.join("net/a:eth0"), text("a", "10.0.0.1")).unwrap();
        let (mut store, mut zone) = (Store::new(&root), Zone::default());
        assert_eq!(store.read_all(&mut zone), Warnings::new());
        assert!(has(&zone, "10.0.0.1"));

        fs::write(root.join("net/:1"), text("b", "10.0.0.2")).unwrap();
        fs::rename(root.join("net/:1"), root.join("net/b:eth0")).unwrap();
        fs::remove_file(root.join("net/a:eth0")).unwrap();
        assert_eq!(store.follow(&mut zone), Warnings::new());
        assert!(has(&zone, "10.0.0.2") && !has(&zone, "10.0.0.1"));

        // A network that goes and comes again.
        fs::remove_file(root.join("net/b:eth0")).unwrap();
        fs::remove_dir(root.join("net")).unwrap();
        fs::create_dir(root.join("net")).unwrap();
        fs::write(root.join("net/c:eth0"), text("c", "10.0.0.3")).unwrap();
        assert_eq!(store.follow(&mut zone), Warnings::new());
        assert!(has(&zone, "10.0.0.3"));
        fs::write(root.join("net/d:eth0"), text("d", "10.0.0.4")).unwrap();
        store.follow(&mut zone);
        assert!(has(&zone, "10.0.0.4"));
    }

    #[test]
    fn a_bad_file_is_told_and_the_good_one_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("net")).unwrap();
        let file = dir.path().join("net/a:eth0");
        fs::write(&file, text("a", "10.0.0.1")).unwrap();
        let (mut store, mut zone) = (Store::new(dir.path()), Zone::default());
        store.read_all(&mut zone);
        fs::write(&file, "{").unwrap();
        assert!(!store.follow(&mut zone).is_empty());
        assert!(has(&zone, "10.0.0.1"));
        fs::write(&file, text("other", "10.0.0.9")).unwrap();
        assert!(!store.follow(&mut zone).is_empty());
        assert!(!has(&zone, "10.0.0.9"), "a record speaks for its own file");
    }
}
