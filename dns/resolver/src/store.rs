//! The directory of records, and the files of other hosts' names beside it, read and followed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use pontoon_dns::record::{LARGEST, Record, RemoteNames};
use pontoon_dns::zone::{Key, Zone};
use rustix::fs::inotify::{ReadFlags, Reader};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::keeper_client::{KeeperClient, read};
use super::request::{FILES, WatchKind};
use super::watch::watch;

/// Where the records are, below the state directory.
const DIR: &str = "dns/records";
/// Where the names of other hosts' containers are: a file for each network.
const REMOTE: &str = "dns/remote";
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
    /// The watch of [`REMOTE`].
    remote_watch: Option<i32>,
    /// The keys of other hosts' containers in the zone, by network.
    remote: HashMap<String, HashSet<Key>>,
}

/// What a look at the records found wrong, in words.
pub(crate) type Warnings = Vec<String>;

impl Store {
    pub(crate) fn new(keeper: Rc<KeeperClient>, watch: Option<OwnedFd>) -> Self {
        Self {
            keeper,
            watch,
            networks: HashMap::new(),
            remote_watch: None,
            remote: HashMap::new(),
        }
    }

    /// How many records of the zone are of other hosts' containers: no resolver is needed for them alone.
    pub(crate) fn remote_count(&self) -> usize {
        self.remote.values().map(HashSet::len).sum()
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
        let is_remote = |key: &Key| self.remote.values().any(|keys| keys.contains(key));
        let gone = zone.keys().filter(|key| !there.contains(key));
        let gone: Vec<Key> = gone.filter(|key| !is_remote(key)).collect();
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
        let mut networks: HashSet<String> =
            self.keeper.list(REMOTE.to_owned()).into_iter().collect();
        networks.extend(self.remote.keys().cloned());
        for network in networks {
            warnings.extend(self.read_remote(zone, &network));
        }
        warnings
    }

    /// Brings the names of other hosts' containers on a network up to what is on disk now.
    fn read_remote(&mut self, zone: &mut Zone, network: &str) -> Warnings {
        let name = format!("{REMOTE}/{network}");
        let file = self.keeper.open(std::slice::from_ref(&name)).pop();
        let file = file.unwrap_or(Ok(None));
        let text = file.and_then(|file| file.map(|file| read(file, REMOTE_LARGEST)).transpose());
        let names = match text {
            Ok(None) => RemoteNames::default(),
            Ok(Some(text)) => match RemoteNames::parse(&text, Path::new(&name)) {
                Ok(names) => names,
                // The older good names stay until the file is good again or gone.
                Err(error) => return vec![error.to_string()],
            },
            Err(error) => return vec![format!("cannot read {name}: {error}")],
        };
        let mut warnings = Vec::new();
        let mut there = HashSet::new();
        for record in names.records {
            let key = Key {
                network: record.network.clone(),
                container: record.container.clone(),
                interface: record.interface.clone(),
            };
            if record.network != network || !RemoteNames::is_remote(&record.container) {
                warnings.push(format!("{name}: {} is the record of another", key.path()));
                continue;
            }
            there.insert(key);
            let unfit = zone.insert(record).into_iter();
            warnings.extend(unfit.map(|unfit| format!("{name}: {unfit:?} can be no domain name")));
        }
        let before = match there.is_empty() {
            true => self.remote.remove(network),
            false => self.remote.insert(network.to_owned(), there.clone()),
        };
        for key in before.iter().flatten().filter(|key| !there.contains(key)) {
            zone.remove(key);
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
                if self.remote_watch == Some(watch) && !what.contains(ReadFlags::IGNORED) {
                    warnings.extend(self.read_remote(zone, &name));
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

    fn watch_root(&mut self) {
        if self.watch.is_some() {
            self.remote_watch = self.keeper.watch(WatchKind::Records, REMOTE.to_owned());
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

/// Largest file of other hosts' names that is read, in bytes.
const REMOTE_LARGEST: u64 = RemoteNames::LARGEST_FILE;

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

    #[test]
    fn names_of_other_hosts_come_and_go_with_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(REMOTE);
        fs::create_dir_all(dir.path().join(DIR).join("net")).unwrap();
        fs::write(
            dir.path().join(DIR).join("net/a:eth0"),
            text("a", "10.0.0.1"),
        )
        .unwrap();
        let (mut store, mut zone) = (store(dir.path()), Zone::default());
        assert_eq!(store.read_all(&mut zone), Warnings::new());
        assert_eq!(store.remote_count(), 0);
        fs::create_dir_all(&folder).unwrap();
        let write = |records: &[String]| {
            let text = format!("{{\"version\":1,\"records\":[{}]}}", records.join(","));
            fs::write(folder.join(":draft"), text).unwrap();
            fs::rename(folder.join(":draft"), folder.join("net")).unwrap();
        };
        write(&[text("h2/b", "10.0.1.1"), text("h3/c", "10.0.2.1")]);
        store.follow(&mut zone);
        assert!(has(&zone, "10.0.1.1") && has(&zone, "10.0.2.1"));
        assert_eq!((zone.len(), store.remote_count()), (3, 2));
        // A change is followed by itself, and what all records are read for keeps the rest.
        write(&[text("h2/b", "10.0.1.1")]);
        store.follow(&mut zone);
        assert!(has(&zone, "10.0.1.1") && !has(&zone, "10.0.2.1"));
        store.read_all(&mut zone);
        assert!(has(&zone, "10.0.1.1") && has(&zone, "10.0.0.1"));
        // What is no other host's is refused, and a broken file changes nothing.
        write(&[text("h2/b", "10.0.1.1"), text("a", "10.0.9.9")]);
        assert_eq!(store.follow(&mut zone).len(), 1);
        assert!(!has(&zone, "10.0.9.9"));
        fs::write(folder.join("net"), "{").unwrap();
        assert!(!store.follow(&mut zone).is_empty());
        assert!(has(&zone, "10.0.1.1"));
        fs::remove_file(folder.join("net")).unwrap();
        store.follow(&mut zone);
        assert!(!has(&zone, "10.0.1.1") && has(&zone, "10.0.0.1"));
        assert_eq!(store.remote_count(), 0);
    }
}
