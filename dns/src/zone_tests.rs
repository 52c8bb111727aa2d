use super::*;
use crate::sample::record;

#[test]
fn what_comes_goes_without_a_trace() {
    let mut zone = Zone::default();
    for number in 2..100u8 {
        let mut one = record("net", &format!("c{number}"), &format!("10.0.0.{number}"));
        one.aliases = vec!["shared".into(), "Shared".into()];
        one.gateways = vec!["10.0.0.1".parse().unwrap()];
        assert!(zone.insert(one.clone()).is_empty());
        assert!(zone.insert(one).is_empty(), "again is the same");
    }
    assert_eq!(zone.len(), 98);
    assert_eq!(zone.named(Querier::Host, b"\x06shared").count(), 98);
    let keys: Vec<Key> = zone.keys().collect();
    for key in keys {
        assert!(zone.remove(&key));
        assert!(!zone.remove(&key));
    }
    assert!(zone.is_empty());
    let Zone {
        shared,
        names,
        addresses,
        containers,
        gateways,
        networks,
        domains,
        ..
    } = &zone;
    assert!(shared.is_empty() && names.is_empty() && addresses.is_empty());
    assert!(containers.is_empty() && gateways.is_empty());
    assert!(networks.is_empty() && domains.is_empty());
    assert_eq!(zone.free.len(), zone.slots.len());
}

#[test]
fn names_that_cannot_be_are_told_and_left_out() {
    let mut zone = Zone::default();
    let mut one = record("net", "c", "10.0.0.2");
    one.aliases = vec!["fine".into(), "not fine".into()];
    assert_eq!(zone.insert(one), ["not fine"]);
    assert_eq!(zone.named(Querier::Host, b"\x04fine").count(), 1);
}

#[test]
fn the_last_owner_of_an_address_counts() {
    let mut zone = Zone::default();
    zone.insert(record("net", "old", "10.0.0.2"));
    zone.insert(record("net", "new", "10.0.0.2"));
    let source = "10.0.0.2".parse().unwrap();
    assert_eq!(zone.querier(source), Querier::Container("new"));
    zone.remove(&Key::parse("net/new:eth0").unwrap());
    assert_eq!(zone.querier(source), Querier::Container("old"));
}

#[test]
fn keys_are_paths_that_stay_inside() {
    for bad in [
        "net",
        "net/c",
        "/c:e",
        "net/:e",
        "net/../c:e",
        "../c:e",
        "n/c:",
    ] {
        assert_eq!(Key::parse(bad), None, "{bad}");
    }
    let key = Key::parse("net/c:eth0").unwrap();
    assert_eq!(key.path(), "net/c:eth0");
}

#[test]
fn the_name_of_a_service_is_its_own_address_and_nothing_of_its_containers() {
    let mut zone = Zone::default();
    let mut one = record("net", "c1", "10.0.0.2");
    one.aliases = vec!["web".into()];
    zone.insert(one);
    zone.insert(record("net", "c2", "10.0.0.3"));
    let asker = Querier::Container("c2");
    let addresses = |zone: &Zone| -> Vec<String> {
        let named = zone.named(asker, b"\x03web");
        let addresses = named.flat_map(|one| &one.addresses);
        addresses.map(ToString::to_string).collect()
    };
    assert_eq!(addresses(&zone), ["10.0.0.2"]);
    let mut service = record("net", &RemoteNames::service("web"), "10.0.255.1");
    service.names = vec!["web".into()];
    zone.insert(service.clone());
    assert_eq!(addresses(&zone), ["10.0.255.1"]);
    let vip = "10.0.255.1".parse().unwrap();
    assert!(zone.at(vip).unwrap().own.is_some(), "PTR");
    // A list of its containers does not hide who they are.
    service.names.clear();
    service.aliases = vec!["web".into()];
    for address in ["10.0.0.2", "10.0.0.3"] {
        service.interface = address.to_owned();
        service.addresses = vec![address.parse().unwrap()];
        zone.insert(service.clone());
        let source = zone.querier(service.addresses[0]);
        assert_ne!(source, Querier::Container("/web"));
    }
    assert_eq!(addresses(&zone).len(), 3);
    for interface in ["10.0.0.2", "10.0.0.3"] {
        let key = Key {
            network: "net".into(),
            container: "/web".into(),
            interface: interface.into(),
        };
        assert!(zone.remove(&key));
    }
    assert_eq!(addresses(&zone), ["10.0.255.1"]);
    assert!(zone.at("10.0.0.2".parse().unwrap()).is_some());
}
