//! The files that each release wrote are read by the types of this one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

use pontoon_ledger::links::LinksIndex;
use pontoon_ledger::{
    AttachmentRecord, BandwidthRecord, BridgeRecord, ContainerRecord, DnsRecord, FirewallRecord,
    HostDeviceRecord, HostRecord, Key, MacvlanRecord, NetworkPolicyRecord, NetworkRecord,
    NoneRecord, OpeningsRecord, PerNetworkRecord, PortmapRecord, PtpRecord, ResolverRecord,
    SbrRecord, State, THIRD_PARTY, TuningRecord, kinds,
};
use pontoon_netfilter::BackendKind;

fn releases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn first() -> State {
    State::at(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/0.1.0"))
}

/// Reads every record of a type, and writes and reads each again. Tells how many there are.
#[track_caller]
fn check<R: AttachmentRecord + PartialEq + std::fmt::Debug>(state: &State) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let copy = State::at(dir.path());
    let keys = state.records_of::<R>().all().unwrap();
    for key in &keys {
        let record: R = state.read(key).unwrap().unwrap();
        assert!(record.sandbox().path.starts_with("/run/netns/"), "{key:?}");
        copy.write(key, &record).unwrap();
        assert_eq!(copy.read(key).unwrap(), Some(record));
        let path = dir.path().join(R::FOLDER).join(key.path());
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("{\"version\":1,"), "{text}");
    }
    keys.len()
}

#[track_caller]
fn check_networks<R: PerNetworkRecord + PartialEq + std::fmt::Debug>(state: &State) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let copy = State::at(dir.path());
    let networks = state.networks::<R>().unwrap();
    for network in &networks {
        let record: R = state.read_network(network).unwrap().unwrap();
        copy.write_network(network, &record).unwrap();
        assert_eq!(copy.read_network(network).unwrap(), Some(record));
        let text = fs::read_to_string(dir.path().join(R::FOLDER).join(network)).unwrap();
        assert!(text.starts_with("{\"version\":1,"), "{text}");
    }
    networks.len()
}

#[test]
fn every_file_of_every_release_is_read_by_its_type() {
    for release in releases() {
        let state = State::at(&release);
        let counts = [
            check::<BandwidthRecord>(&state),
            check::<BridgeRecord>(&state),
            check::<ContainerRecord>(&state),
            check::<DnsRecord>(&state),
            check::<FirewallRecord>(&state),
            check::<HostDeviceRecord>(&state),
            check::<HostRecord>(&state),
            check::<MacvlanRecord>(&state),
            check::<NoneRecord>(&state),
            check::<PortmapRecord>(&state),
            check::<PtpRecord>(&state),
            check::<SbrRecord>(&state),
            check::<TuningRecord>(&state),
            check_networks::<NetworkRecord>(&state),
            check_networks::<NetworkPolicyRecord>(&state),
            check_networks::<ResolverRecord>(&state),
            check_networks::<OpeningsRecord>(&state),
        ];
        let read: usize = counts.iter().sum();
        assert!(
            counts.iter().all(|count| *count > 0),
            "{}: {counts:?}",
            release.display()
        );
        assert_eq!(read, files(&release).len(), "{}", release.display());
    }
}

/// The files with text: the marks of the index of links are empty.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn attachments_of_the_first_release_are_known_with_their_plugin() {
    let state = first();
    let attachments = state.attachments().unwrap();
    let mut plugins: Vec<&str> = attachments.iter().map(|one| one.mode).collect();
    plugins.dedup();
    let attaching = kinds::attaching().map(|kind| kind.name);
    // Not in what was recorded then. Its record is bridge's under another name.
    let attaching: Vec<&str> = attaching.filter(|name| *name != "overlay").collect();
    assert_eq!(plugins, attaching);
    assert!(!plugins.contains(&THIRD_PARTY));
    for attachment in &attachments {
        let about = state.about(attachment).unwrap().unwrap();
        assert!(!about.sandbox.path.is_empty(), "{attachment:?}");
    }
}

#[test]
fn what_the_first_release_meant_is_what_is_read() {
    let state = first();
    let key = |text: &str| Key::parse(text).unwrap();
    let web = key("shop/web-id:eth0");
    let bridge: BridgeRecord = state.read(&web).unwrap().unwrap();
    let settings = bridge.settings.unwrap();
    assert_eq!(settings.addresses[0].to_string(), "10.81.0.2/24");
    assert!(settings.by_host && bridge.spoof_guard.is_some() && bridge.reference_chains.is_none());
    let old: BridgeRecord = state.read(&key("old/web-id:eth1")).unwrap().unwrap();
    let chains = old.reference_chains.unwrap();
    assert_eq!(
        (chains.backend, chains.v4, chains.v6),
        (BackendKind::IptablesNft, true, false)
    );
    let waiting: PortmapRecord = state.read(&key("old/web-id:eth1")).unwrap().unwrap();
    assert!(!waiting.published.has_address() && waiting.full().has_address());
    let holder: PortmapRecord = state.read(&web).unwrap().unwrap();
    assert_eq!(Key::parse(&holder.waiters[0]), Some(key("old/web-id:eth1")));
    let firewall: FirewallRecord = state.read(&web).unwrap().unwrap();
    let request = &firewall.links[0];
    let named = LinksIndex::of(&state, "shop").named(&request.container);
    assert_eq!(named.unwrap(), [key("shop/db-id:eth0")]);
    let openings: OpeningsRecord = state.read_network("shut").unwrap().unwrap();
    assert_eq!(openings.openings[0].0, BackendKind::IptablesNft);
    let resolver: ResolverRecord = state.read_network("shop").unwrap().unwrap();
    assert_eq!(resolver.resolvers[0].1.gateways.len(), 1);
    let policy: NetworkPolicyRecord = state.read_network("shut").unwrap().unwrap();
    assert!(policy.companion.is_some());
    let device: HostDeviceRecord = state.read(&key("hd/device-id:eth0")).unwrap().unwrap();
    assert_eq!(device.device.unwrap().name, "dev0");
    let joined: ContainerRecord = state.read(&key("join/joined-id:eth0")).unwrap().unwrap();
    assert_eq!(joined.container.as_deref(), Some("web-id"));
}
