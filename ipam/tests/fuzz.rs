//! Lease directories as no program leaves them: mutated leases, notes, cursors and indexes. Whatever
//! stands there, an address that a container holds is not given out, and what is damaged is an error or
//! read anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pontoon_conf::{ContainerId, IfName};
use pontoon_ipam::{Boot, Note, Owner, Span, Store};
use pontoon_lab::fuzz;

fn owner(container: &str) -> Owner {
    let container: ContainerId = container.parse().unwrap();
    let interface: IfName = "eth0".parse().unwrap();
    Owner::new(&container, &interface)
}

fn boot() -> Boot {
    Boot::new("boot-1", SystemTime::now() - Duration::from_secs(3600))
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 9, 0, last])
}

#[test]
fn a_held_address_is_not_given_out_whatever_stands_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, state) = (dir.path().join("net"), dir.path().join("state"));
    let span = Span::network(ip(0), 28);
    // What each kind of file looks like when it is whole.
    let holder = owner("holder");
    let mut store = Store::open(&folder, &state, boot()).unwrap();
    assert!(store.reserve(ip(2), &holder).unwrap());
    store.set_last_reserved(0, ip(2)).unwrap();
    let mut note = Note::default();
    note.set_auto("10.9.0.0/28");
    note.set_subnets(vec!["10.9.0.0/28".to_owned()]);
    store.set_note(&note).unwrap();
    store.commit();
    let mut files: Vec<(std::path::PathBuf, Vec<u8>)> = Vec::new();
    for path in [folder.clone(), state.join("ipam")] {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    let good: Vec<Vec<u8>> = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert!(files.len() >= 4, "{files:?}");
    let lease = folder.join("10.9.0.2");
    fuzz("lease directories", &good, |bytes, dice| {
        for (path, whole) in &files {
            fs::write(path, whole).unwrap();
        }
        let (victim, _) = &files[dice.below(files.len())];
        // The lease of the holder is whole, but for its other neighbours.
        let other = folder.join(ip(3 + dice.below(8) as u8).to_string());
        let path = if *victim == lease { &other } else { victim };
        fs::write(path, bytes).unwrap();
        let guest = owner("guest");
        let outcome = Store::open(&folder, &state, boot()).and_then(|mut store| {
            let _ = store.note();
            let _ = store.last_reserved(0);
            assert!(!store.reserve(ip(2), &guest)?, "a held address is taken");
            let free = store.first_free(&span)?;
            if let Some(address) = free {
                assert_ne!(address, ip(2), "a held address is free");
                assert!(store.reserve(address, &guest)?);
                assert!(store.owned_by(&guest)?.contains(&address));
            }
            store.release_all(&guest)?;
            // A neighbour that was mutated may name the holder too.
            assert!(store.owned_by(&holder)?.contains(&ip(2)));
            store.commit();
            Ok(())
        });
        if let Err(error) = outcome {
            let text = error.to_string();
            assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        }
        let text = fs::read_to_string(&lease).unwrap();
        assert_eq!(text, "holder\r\neth0", "the lease of the holder");
        if path == &other {
            let _ = fs::remove_file(&other);
        }
    });
}
