//! Records as no release writes them: mutations of those that one wrote. One is read as it stands, or
//! is an error; it is never another one, and never none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use pontoon_lab::fuzz;
use pontoon_ledger::{
    BandwidthRecord, BridgeRecord, ContainerRecord, DnsRecord, FirewallRecord, HostDeviceRecord,
    HostRecord, Key, MacvlanRecord, NetworkPolicyRecord, NetworkRecord, NoneRecord, OpeningsRecord,
    PortmapRecord, PtpRecord, Record, RecordError, ResolverRecord, SbrRecord, State, TuningRecord,
};

/// Every file below the recorded state of a release.
fn recorded() -> Vec<Vec<u8>> {
    let mut rest = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/0.1.0")];
    let mut found = Vec::new();
    while let Some(path) = rest.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            rest.extend(entries.map(|entry| entry.unwrap().path()));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(fs::read(&path).unwrap());
        }
    }
    assert!(found.len() > 10, "{} records", found.len());
    found
}

fn check<R: Record + PartialEq + Debug>(text: &[u8]) {
    match R::parse(text, Path::new("/record")) {
        Ok(record) => {
            let again = record.encode().expect("what was read is written");
            let again = R::parse(&again, Path::new("/record")).expect("our own words");
            assert_eq!(again, record);
        }
        Err(RecordError::Version { version, known, .. }) => assert_ne!(version, known),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("/record"), "{text}");
        }
    }
}

#[test]
fn records_are_read_or_refused() {
    fuzz("records", &recorded(), |text, dice| match dice.below(16) {
        0 => check::<BridgeRecord>(text),
        1 => check::<PortmapRecord>(text),
        2 => check::<FirewallRecord>(text),
        3 => check::<PtpRecord>(text),
        4 => check::<DnsRecord>(text),
        5 => check::<MacvlanRecord>(text),
        6 => check::<HostDeviceRecord>(text),
        7 => check::<TuningRecord>(text),
        8 => check::<BandwidthRecord>(text),
        9 => check::<SbrRecord>(text),
        10 => check::<ContainerRecord>(text),
        11 => check::<HostRecord>(text),
        12 => check::<NoneRecord>(text),
        13 => check::<NetworkRecord>(text),
        14 => check::<NetworkPolicyRecord>(text),
        _ => {
            check::<ResolverRecord>(text);
            check::<OpeningsRecord>(text);
        }
    });
}

/// What stands below a state directory under a name that is no attachment's is not taken for one, and a
/// name that is one's leads back to it.
#[test]
fn names_of_files_are_keys_or_not() {
    let good = [
        "front/c1:eth0",
        "a-b.c/0123abc:eth0.7",
        "n/:PID",
        "n/..:eth0",
        "x/c1:a:b",
    ];
    let good: Vec<Vec<u8>> = good.map(|text| text.as_bytes().to_vec()).into();
    fuzz("keys", &good, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let Some(key) = Key::parse(&text) else {
            return;
        };
        assert_eq!(Key::parse(&key.path()), Some(key.clone()));
        let below = PathBuf::from("/state").join(key.path());
        let inside = below
            .components()
            .all(|part| !matches!(part, std::path::Component::ParentDir));
        assert!(inside && below.starts_with("/state"), "{text}");
    });
}

/// A record of another shape is an error of every door to it, and stays as it is.
#[test]
fn a_broken_record_is_neither_absent_nor_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::at(dir.path());
    let key = Key::parse("front/c1:eth0").unwrap();
    let path = dir.path().join("portmap").join(key.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fuzz("broken records", &recorded(), |text, _| {
        if PortmapRecord::parse(text, &path).is_ok() {
            return;
        }
        fs::write(&path, text).unwrap();
        assert!(state.read::<PortmapRecord>(&key).is_err());
        assert_eq!(fs::read(&path).unwrap(), text);
    });
}
