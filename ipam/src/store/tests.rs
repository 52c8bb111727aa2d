use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let root = tempfile::tempdir().expect("folder");
        Place { root }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("networks/n")
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn open(&self) -> Store {
        self.open_in(Boot::new("this", SystemTime::UNIX_EPOCH))
    }

    fn open_in(&self, boot: Boot) -> Store {
        Store::open(&self.folder(), &self.state(), boot).expect("open")
    }

    fn put(&self, name: &str, content: &str) {
        fs::create_dir_all(self.folder()).expect("folder");
        fs::write(self.folder().join(name), content).expect("write");
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder()).expect("list");
        entries
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| lease::address_of(name).is_some())
            .collect()
    }

    #[track_caller]
    fn has(&self, expected: &[&str]) {
        assert_eq!(
            self.names().iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }

    /// The index as it is believed at the next opening, without a rebuild.
    fn index(&self) -> Option<Index> {
        self.open().index.take()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn owner(name: &str) -> Owner {
    Owner::of(name, "eth0")
}

fn take(place: &Place, address: &str, name: &str) -> bool {
    let mut store = place.open();
    let taken = store.reserve(ip(address), &owner(name)).expect("reserve");
    store.commit();
    taken
}

fn free(place: &Place, name: &str) -> usize {
    let mut store = place.open();
    let released = store.release_all(&owner(name)).expect("release");
    store.commit();
    released.len()
}

#[test]
fn written_as_the_reference_writes() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "abc"));
    assert!(take(&place, "fd00:0:0:1::5", "abc"));
    let mut store = place.open();
    store
        .set_last_reserved(0, ip("10.0.0.200"))
        .expect("cursor");
    store.set_last_reserved(0, ip("10.0.0.2")).expect("cursor");
    store.commit();
    let read = |name: &str| fs::read_to_string(place.folder().join(name)).expect(name);
    assert_eq!(read("10.0.0.2"), "abc\r\neth0");
    assert_eq!(read("fd00:0:0:1::5"), "abc\r\neth0");
    assert_eq!(read("last_reserved_ip.0"), "10.0.0.2");
    let mode = |name: &str| {
        fs::metadata(place.folder().join(name))
            .expect(name)
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("10.0.0.2"), mode("lock"), mode("last_reserved_ip.0")),
        (0o600, 0o750, 0o600)
    );
}

#[test]
fn reads_what_the_reference_left() {
    let place = Place::new();
    place.put("lock", "");
    place.put("10.0.0.2", "abc\r\neth0");
    place.put("10.0.0.3", "abc\r\neth1\n");
    place.put("10.0.0.4", "old");
    place.put("fd00::5", "abc\r\neth0");
    place.put("last_reserved_ip.0", "10.0.0.3");
    let mut store = place.open();
    assert_eq!(
        store.last_reserved(0).expect("cursor"),
        Some(ip("10.0.0.3"))
    );
    assert_eq!(
        store.owned_by(&owner("abc")).expect("owned"),
        [ip("10.0.0.2"), ip("fd00::5")]
    );
    assert_eq!(
        store.owned_by(&owner("old")).expect("owned"),
        [ip("10.0.0.4")]
    );
    assert!(
        !store
            .reserve(ip("10.0.0.3"), &owner("new"))
            .expect("reserve")
    );
    store.commit();
    assert_eq!(free(&place, "unknown"), 0);
    assert_eq!(free(&place, "old"), 1);
    assert_eq!(free(&place, "abc"), 2);
    place.has(&["10.0.0.3"]);
}

#[test]
fn a_legacy_lease_stays_while_the_interface_has_its_own() {
    let place = Place::new();
    place.put("10.0.0.4", "abc");
    assert!(take(&place, "10.0.0.5", "abc"));
    assert_eq!(free(&place, "abc"), 1);
    place.has(&["10.0.0.4"]);
    assert_eq!(free(&place, "abc"), 1);
    place.has(&[]);
}

#[test]
fn own_changes_keep_the_index_and_foreign_ones_do_not() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    assert_eq!(place.index().expect("valid").leases(), 1);
    assert!(take(&place, "10.0.0.3", "b"));
    assert_eq!(place.index().expect("valid").leases(), 2);
    assert_eq!(free(&place, "a"), 1);
    assert_eq!(place.index().expect("valid").leases(), 1);
    // The reference comes by.
    place.put("10.0.0.9", "c\r\neth0");
    assert!(place.index().is_none());
    assert!(!take(&place, "10.0.0.9", "d"));
    assert_eq!(place.index().expect("valid").leases(), 2);
    fs::remove_file(place.folder().join("10.0.0.9")).expect("remove");
    assert!(place.index().is_none());
    assert!(take(&place, "10.0.0.9", "d"));
}

#[test]
fn a_lying_index_gives_nothing_out_twice_and_loses_nothing() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    let valid = stamp_of(&fs::metadata(place.folder()).expect("metadata"));
    // Changes that the index is told nothing of: the old mtime is put back.
    place.put("10.0.0.3", "b\r\neth0");
    place.put("10.0.0.4", "c\r\neth0");
    fs::remove_file(place.folder().join("10.0.0.2")).expect("remove");
    let moment =
        SystemTime::UNIX_EPOCH + Duration::new(valid.seconds as u64, valid.nanoseconds as u32);
    let folder = fs::File::open(place.folder()).expect("open");
    folder
        .set_times(fs::FileTimes::new().set_modified(moment))
        .expect("mtime");
    assert_eq!(place.index().expect("believed").leases(), 1);

    let mut store = place.open();
    assert_eq!(
        store.owned_by(&owner("a")).expect("owned"),
        [] as [IpAddr; 0]
    );
    assert!(store.rebuilt(), "the missing lease gives it away");
    drop(store);
    let mut store = place.open();
    let span = Span::new(ip("10.0.0.3"), ip("10.0.0.9")).expect("span");
    assert_eq!(
        store.first_free(&span).expect("search"),
        Some(ip("10.0.0.3"))
    );
    assert!(!store.reserve(ip("10.0.0.3"), &owner("d")).expect("reserve"));
    assert_eq!(
        store.first_free(&span).expect("search"),
        Some(ip("10.0.0.5"))
    );
    store.commit();
    assert_eq!(free(&place, "b") + free(&place, "c"), 2);
}

#[test]
fn damaged_and_lost_indexes_are_rebuilt() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    let path = place.open().index_path.clone();
    let good = fs::read(&path).expect("index");
    for damage in [
        &good[..0],
        &good[..4096],
        &good[..good.len() - 1],
        &[0xff; 5000],
    ] {
        fs::write(&path, damage).expect("damage");
        assert!(!take(&place, "10.0.0.2", "b"));
        assert_eq!(
            place.open().owned_by(&owner("a")).expect("owned"),
            [ip("10.0.0.2")]
        );
    }
    fs::remove_dir_all(place.state()).expect("remove");
    assert!(!take(&place, "10.0.0.2", "b"));
    assert!(place.index().is_some());
}

#[test]
fn the_last_lease_takes_the_index_along() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    assert_eq!(free(&place, "a"), 1);
    assert!(!place.state().join("ipam").exists());
    assert!(take(&place, "10.0.0.2", "b"));
    assert!(place.index().is_some());
}

#[test]
fn works_without_a_place_for_the_index() {
    let place = Place::new();
    fs::write(place.state(), "in the way").expect("write");
    assert!(take(&place, "10.0.0.2", "a"));
    assert!(!take(&place, "10.0.0.2", "b"));
    assert_eq!(free(&place, "a"), 1);
    place.has(&[]);
}

#[test]
fn empty_leases_are_reclaimed_and_odd_names_respected() {
    let place = Place::new();
    place.put("10.0.0.2", "");
    place.put("10.0.0.3", "\n");
    place.put("10.0.0.4", "no key of an attachment");
    fs::create_dir_all(place.folder().join("10.0.0.5")).expect("folder");
    place.put("010.0.0.6", "x\r\neth0");
    assert!(take(&place, "10.0.0.2", "a"));
    assert!(take(&place, "10.0.0.3", "a"));
    assert!(!take(&place, "10.0.0.4", "a"));
    assert!(!take(&place, "10.0.0.5", "a"));
    assert!(take(&place, "10.0.0.6", "a"));
}

#[test]
fn leases_of_an_earlier_boot_are_released() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    let later = SystemTime::now() + Duration::from_secs(60);
    // Made by the reference after the next boot.
    place.put("10.0.0.3", "b\r\neth0");
    let file = fs::File::options()
        .write(true)
        .open(place.folder().join("10.0.0.3"))
        .expect("open");
    file.set_modified(later + Duration::from_secs(5))
        .expect("mtime");
    let mut store = place.open_in(Boot::new("next", later));
    assert_eq!(
        store.owned_by(&owner("a")).expect("owned"),
        [] as [IpAddr; 0]
    );
    store.commit();
    place.has(&["10.0.0.3"]);
    assert_eq!(
        Note::read(&place.folder()).expect("note").boot(),
        Some("next")
    );
    // From now on age alone releases nothing.
    place.put("10.0.0.4", "c\r\neth0");
    let mut store = place.open_in(Boot::new("next", later));
    assert_eq!(store.leases().expect("leases"), 2);
    assert!(store.rebuilt());
}

#[test]
fn gc_keeps_the_valid_ones() {
    let place = Place::new();
    for (address, name) in [("10.0.0.2", "a"), ("10.0.0.3", "b")] {
        assert!(take(&place, address, name));
    }
    place.put("10.0.0.4", "a");
    place.put("10.0.0.5", "c");
    place.put("10.0.0.6", "rubbish rubbish");
    let valid = pontoon_conf::Attachment {
        container_id: "a".parse().expect("id"),
        ifname: "eth0".parse().expect("name"),
    };
    let mut store = place.open();
    assert_eq!(store.retain(&Owners::new(&[valid])).expect("gc").len(), 3);
    store.commit();
    place.has(&["10.0.0.2", "10.0.0.4"]);
}

#[test]
fn filesystems_without_unnamed_files() {
    let place = Place::new();
    fs::create_dir_all(place.folder()).expect("folder");
    let path = place.folder().join("10.0.0.2");
    assert!(lease::link_named(&place.folder(), &path, b"a\r\neth0").expect("link"));
    // Killed before the second name was taken away.
    fs::hard_link(&path, place.folder().join(".pontoon-lease")).expect("link");
    let other = place.folder().join("10.0.0.3");
    assert!(lease::link_named(&place.folder(), &other, b"b\r\neth0").expect("link"));
    assert!(!lease::link_named(&place.folder(), &other, b"c\r\neth0").expect("link"));
    assert_eq!(fs::read(&path).expect("read"), b"a\r\neth0");
    assert_eq!(fs::read(&other).expect("read"), b"b\r\neth0");
    assert!(!place.folder().join(".pontoon-lease").exists());
}

/// Contents of the spare files.
fn spares(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.folder()).expect("list");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.to_string_lossy().contains(".pontoon-spare."));
    let read = |path: &PathBuf| fs::read_to_string(path).expect("read");
    paths.iter().map(read).collect()
}

#[test]
fn a_released_lease_is_the_next_one() {
    let place = Place::new();
    let inode = |address: &str| fs::metadata(place.folder().join(address)).map(|seen| seen.ino());
    let content = |address: &str| fs::read_to_string(place.folder().join(address)).expect("read");
    assert!(take(&place, "10.0.0.2", "a-long-name"));
    let first = inode("10.0.0.2").expect("lease");
    assert_eq!(free(&place, "a-long-name"), 1);
    place.has(&[]);
    let [spare] = &spares(&place)[..] else {
        panic!("one spare");
    };
    // The reference compares the owner: a spare file belongs to no attachment.
    assert_eq!(spare.trim(), "");
    assert!(take(&place, "10.0.0.3", "b"));
    assert_eq!(inode("10.0.0.3").expect("lease"), first);
    assert_eq!(content("10.0.0.3"), "b\r\neth0");
    assert!(spares(&place).is_empty());
    for number in 10..20 {
        assert!(take(&place, &format!("10.0.0.{number}"), "c"));
    }
    assert_eq!(free(&place, "c"), 10);
    assert_eq!(spares(&place).len(), 4, "no more are kept");
    assert!(!take(&place, "10.0.0.3", "d"), "b has it");
    assert_eq!(content("10.0.0.3"), "b\r\neth0");
}

#[test]
fn a_spare_that_is_more_than_that_is_not_used() {
    let place = Place::new();
    assert!(take(&place, "10.0.0.2", "a"));
    let spare = |number: u8| place.folder().join(format!(".pontoon-spare.{number}"));
    // Killed before the lease lost its other name, or before it lost its owner.
    fs::hard_link(place.folder().join("10.0.0.2"), spare(0)).expect("link");
    place.put(".pontoon-spare.1", "container-with-a-long-name\r\neth0");
    std::os::unix::fs::symlink("10.0.0.2", spare(2)).expect("link");
    fs::create_dir(spare(3)).expect("folder");
    for (address, owner) in [("10.0.0.3", "b"), ("10.0.0.4", "c"), ("10.0.0.5", "d")] {
        assert!(take(&place, address, owner));
        let content = fs::read_to_string(place.folder().join(address)).expect("read");
        assert_eq!(content, format!("{owner}\r\neth0"));
    }
    let content = fs::read_to_string(place.folder().join("10.0.0.2")).expect("read");
    assert_eq!(content, "a\r\neth0");
    assert_eq!(free(&place, "a"), 1);
    place.has(&["10.0.0.3", "10.0.0.4", "10.0.0.5"]);
}
