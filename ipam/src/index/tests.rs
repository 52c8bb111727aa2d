use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;

const STAMP: Stamp = Stamp {
    seconds: 7,
    nanoseconds: 9,
};

fn identity() -> Identity {
    Identity {
        device: 1,
        inode: 2,
        boot: 3,
    }
}

fn v4(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn span(first: &str, last: &str) -> Span {
    Span::new(ip(first), ip(last)).expect("span")
}

#[test]
fn finds_all_addresses_of_an_owner() {
    let mut index = Index::empty(identity(), 0);
    index.insert(5, ip("10.0.0.2")).expect("insert");
    index.insert(5, ip("fd00::2")).expect("insert");
    index.insert(6, ip("10.0.0.3")).expect("insert");
    assert_eq!(
        index.owned_by(5).expect("find"),
        [ip("10.0.0.2"), ip("fd00::2")]
    );
    index.remove(5, ip("10.0.0.2")).expect("remove");
    assert_eq!(index.owned_by(5).expect("find"), [ip("fd00::2")]);
    assert_eq!(index.leases(), 2);
    index.remove(5, ip("10.0.0.2")).expect("again");
    assert_eq!(index.leases(), 2);
}

#[track_caller]
fn free(index: &Index, first: &str, last: &str, expected: Option<&str>) {
    let found = index.first_free(&span(first, last)).expect("search");
    assert_eq!(
        found.map(|address| address.to_string()).as_deref(),
        expected
    );
}

#[test]
fn free_addresses_over_block_borders() {
    let mut index = Index::empty(identity(), 0);
    let base = u32::from_be_bytes([10, 0, 0, 0]);
    for number in 0..9000 {
        index
            .insert(u64::from(number), v4(base + number))
            .expect("insert");
    }
    free(&index, "10.0.0.0", "10.0.255.255", Some("10.0.35.40"));
    free(&index, "10.0.0.0", "10.0.35.39", None);
    free(&index, "10.1.0.0", "10.1.0.0", Some("10.1.0.0"));
    free(&index, "::a00:0", "::a00:0", Some("::a00:0"));
    index.remove(5000, v4(base + 5000)).expect("remove");
    free(&index, "10.0.0.9", "10.0.35.39", Some("10.0.19.136"));
    free(&index, "10.0.19.137", "10.0.35.39", None);
}

#[test]
fn survives_growing_and_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("deep/er/index");
    let mut index = Index::empty(identity(), 0);
    for number in 0..20_000_u32 {
        index
            .insert(u64::from(number % 17_000), v4(number * 97))
            .expect("insert");
        if number % 6000 == 0 {
            index.commit(&path, STAMP).expect("commit");
            index = Index::open(&path, &identity(), STAMP).expect("open");
        }
    }
    index.commit(&path, STAMP).expect("commit");
    let index = Index::open(&path, &identity(), STAMP).expect("open");
    assert_eq!(index.leases(), 20_000);
    assert_eq!(index.entries().expect("entries").len(), 20_000);
    assert_eq!(
        index.owned_by(3).expect("find"),
        [v4(3 * 97), v4(17_003 * 97)]
    );
    free(&index, "0.0.0.97", "0.0.0.97", None);
    free(&index, "0.0.0.98", "0.0.0.98", Some("0.0.0.98"));
}

#[test]
fn churn_does_not_fill_the_table() {
    let mut index = Index::empty(identity(), 0);
    for round in 0..50_000_u64 {
        index.insert(round, v4(round as u32)).expect("insert");
        if round >= 100 {
            index
                .remove(round - 100, v4(round as u32 - 100))
                .expect("remove");
        }
    }
    assert_eq!(index.leases(), 100);
    assert_eq!(index.header.owner_slots, LEAST_OWNERS);
    assert!(index.header.block_slots <= LEAST_BLOCKS * 2);
}

#[test]
fn another_moment_directory_or_boot_is_not_opened() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("index");
    Index::empty(identity(), 0)
        .commit(&path, STAMP)
        .expect("commit");
    assert!(Index::open(&path, &identity(), STAMP).is_some());
    assert!(
        Index::open(
            &path,
            &identity(),
            Stamp {
                nanoseconds: 8,
                ..STAMP
            }
        )
        .is_none()
    );
    assert!(
        Index::open(
            &path,
            &Identity {
                boot: 4,
                ..identity()
            },
            STAMP
        )
        .is_none()
    );
    assert!(
        Index::open(
            &path,
            &Identity {
                inode: 4,
                ..identity()
            },
            STAMP
        )
        .is_none()
    );
    assert!(Index::open(&path.with_extension("none"), &identity(), STAMP).is_none());
}

#[track_caller]
fn damaged(damage: impl Fn(&File)) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("index");
    let mut index = Index::empty(identity(), 0);
    index.insert(5, ip("10.0.0.2")).expect("insert");
    index.commit(&path, STAMP).expect("commit");
    damage(&File::options().write(true).open(&path).expect("open"));
    let Some(index) = Index::open(&path, &identity(), STAMP) else {
        return;
    };
    let answers =
        index.owned_by(5).is_err() || index.first_free(&span("10.0.0.2", "10.0.0.9")).is_err();
    assert!(answers, "the damage went unseen");
}

#[test]
fn damage_is_seen() {
    let slot = HEADER_SIZE + (spread(5) & (LEAST_OWNERS - 1)) * SLOT;
    damaged(|file| file.set_len(0).expect("cut"));
    damaged(|file| file.set_len(HEADER_SIZE).expect("cut"));
    damaged(|file| file.write_all_at(&[0xff], 60).expect("write"));
    damaged(|file| file.write_all_at(&[0xff; 8], slot).expect("write"));
    damaged(|file| file.write_all_at(&[9], slot + 24).expect("write"));
    damaged(|file| {
        let blocks = HEADER_SIZE + LEAST_OWNERS * SLOT;
        file.write_all_at(&[0x55; (LEAST_BLOCKS * SLOT) as usize], blocks)
            .expect("write");
    });
}

proptest! {
    /// The index answers as a plain map and set do, whatever is done to it.
    #[test]
    fn as_a_plain_map(steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u32..300), 1..400)) {
        let mut index = Index::empty(identity(), 0);
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for (add, hash, offset) in steps {
            // Spread over blocks: every 100 addresses a new one.
            let number = offset % 100 + (offset / 100) * 5000;
            if add && !model.contains_key(&number) {
                index.insert(hash, v4(number)).expect("insert");
                model.insert(number, hash);
            } else if let Some(hash) = model.remove(&number) {
                index.remove(hash, v4(number)).expect("remove");
            }
            let expected: BTreeSet<_> = model.iter().filter(|(_, owner)| **owner == hash).map(|(at, _)| v4(*at)).collect();
            let found: BTreeSet<_> = index.owned_by(hash).expect("find").into_iter().collect();
            prop_assert_eq!(found, expected);
            let free = (number..=10_500).find(|at| !model.contains_key(at)).map(v4);
            let all = Span::new(v4(number), v4(10_500)).expect("span");
            prop_assert_eq!(index.first_free(&all).expect("search"), free);
        }
        prop_assert_eq!(index.leases(), model.len() as u64);
    }
}
