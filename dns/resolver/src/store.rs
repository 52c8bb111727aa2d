//! The directory of records, read and followed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use pontoon_dns::record::{LARGEST, Record};
use pontoon_dns::zone::{Key, Zone};
use rustix::fs::inotify::{ReadFlags, Reader};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::keeper_client::{KeeperClient, read};
use super::request::{FILES, WatchKind};
use super::watch::watch;

/// Where the records are, below the state directory.
const DIR: &str = "dns/records";
/// Room for events of changes, in bytes: several, with the longest names.
const EVENTS: usize = 4096;

/// Records, as files NETWORK/CONTAINER:IFNAME, which the keeper opens.
pub(crate) struct Store {
    keeper: Rc<KeeperClient>,
    /// `None` when the kernel gives none (`max_user_instances`): then everything is looked
    /// through once a second.
    watch: Option<OwnedFd>,
    /// Networks by the number of their watch.
    networks: HashMap<i32, String>,
}

/// What a look at the records found wrong, in words.
pub(crate) type Warnings = Vec<String>;

impl Store {
    pub(crate) fn new(keeper: Rc<KeeperClient>, watch: Option<OwnedFd>) -> Self {
        Self {
            keeper,
            watch,
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
        for network in self.keeper.list(DIR.to_owned()) {
            self.watch_network(&network);
            for file in self.keeper.list(format!("{DIR}/{network}")) {
                if let Some(key) = Key::parse(&format!("{network}/{file}")) {
                    there.insert(key);
                }
            }
        }
        let gone: Vec<Key> = zone.keys().filter(|key| !there.contains(key)).collect();
        for key in &gone {
            zone.remove(key);
        }
        let there: Vec<Key> = there.into_iter().collect();
        // Not all at once: each open file takes a descriptor.
        for some in there.chunks(FILES) {
            let paths: Vec<String> = some.iter().map(path).collect();
            for (key, file) in some.iter().zip(self.keeper.open(&paths)) {
                warnings.extend(take_in(zone, key, file));
            }
        }
        warnings
    }

    /// Brings one record up to what is on disk now.
    pub(crate) fn read_one(&mut self, zone: &mut Zone, key: &Key) -> Warnings {
        let file = self.keeper.open(&[path(key)]).pop().unwrap_or(Ok(None));
        take_in(zone, key, file)
    }

    /// Handles what has changed since the last call.
    pub(crate) fn follow(&mut self, zone: &mut Zone) -> Warnings {
        let mut warnings = Vec::new();
        while let Some(events) = self.events() {
            let mut all = false;
            for (watch, what, name) in events {
                if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                    all = true;
                    continue;
                }
                match self.networks.get(&watch) {
                    Some(network) => {
                        if what.contains(ReadFlags::IGNORED) {
                            self.networks.remove(&watch);
                        } else if let Some(key) = Key::parse(&format!("{network}/{name}")) {
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
        warnings
    }

    /// Some of the events that wait; `None` when there are none.
    fn events(&self) -> Option<Vec<(i32, ReadFlags, String)>> {
        let mut room = [MaybeUninit::uninit(); EVENTS];
        let mut reader = Reader::new(self.watch.as_ref()?, &mut room);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().and_then(|name| name.to_str().ok());
            let name = name.unwrap_or_default().to_owned();
            events.push((event.wd(), event.events(), name));
            if reader.is_buffer_empty() {
                break;
            }
        }
        (!events.is_empty()).then_some(events)
    }

    fn watch_root(&self) {
        if self.watch.is_some() {
            self.keeper.watch(WatchKind::Records, DIR.to_owned());
            // The directory goes with the last record, and comes again with the next one.
            self.keeper.watch(WatchKind::Records, "dns".to_owned());
        }
    }

    fn watch_network(&mut self, network: &str) {
        if self.watch.is_none() {
            return;
        }
        // Watching a directory again is the same watch.
        let path = format!("{DIR}/{network}");
        if let Some(number) = self.keeper.watch(WatchKind::Records, path) {
            self.networks.insert(number, network.to_owned());
        }
    }
}

fn path(key: &Key) -> String {
    format!("{DIR}/{}", key.path())
}

/// Takes a record in that the keeper has opened, or has not found.
fn take_in(zone: &mut Zone, key: &Key, file: io::Result<Option<File>>) -> Warnings {
    let name = path(key);
    let record = match file.and_then(|file| file.map(|file| read(file, LARGEST)).transpose()) {
        Ok(None) => {
            zone.remove(key);
            return Vec::new();
        }
        Ok(Some(text)) => Record::parse(&text, Path::new(&name)),
        // An older good record stays until the file is good again or gone.
        Err(error) => return vec![format!("cannot read {name}: {error}")],
    };
    match record {
        Ok(record) => {
            let named = (&record.network, &record.container, &record.interface);
            if named != (&key.network, &key.container, &key.interface) {
                return vec![format!("{name} is the record of another")];
            }
            zone.insert(record)
                .into_iter()
                .map(|unfit| format!("{name}: {unfit:?} can be no domain name"))
                .collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;

    use super::*;
    use crate::keeper::Service;

    /// A store whose keeper is in this process.
    fn store(state: &Path) -> Store {
        let mut service = Service::new(state, 1);
        service.renew_watches();
        let [records, _] = service.watches();
        let watch = records.map(|records| records.try_clone().unwrap());
        Store::new(Rc::new(KeeperClient::here(service)), watch)
    }

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
        let root = dir.path().join(DIR);
        fs::create_dir_all(root.join("net")).unwrap();
        fs::write(root.join("net/a:eth0"), text("a", "10.0.0.1")).unwrap();
        let (mut store, mut zone) = (store(dir.path()), Zone::default());
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
        let root = dir.path().join(DIR);
        fs::create_dir_all(root.join("net")).unwrap();
        let file = root.join("net/a:eth0");
        fs::write(&file, text("a", "10.0.0.1")).unwrap();
        let (mut store, mut zone) = (store(dir.path()), Zone::default());
        store.read_all(&mut zone);
        fs::write(&file, "{").unwrap();
        assert!(!store.follow(&mut zone).is_empty());
        assert!(has(&zone, "10.0.0.1"));
        fs::write(&file, text("other", "10.0.0.9")).unwrap();
        assert!(!store.follow(&mut zone).is_empty());
        assert!(!has(&zone, "10.0.0.9"), "a record speaks for its own file");
    }
}
