use pontoon_netfilter::{Mark, Owner, Protocol};

use super::*;

fn published(container: &str, host_ip: Option<&str>, host_port: u16) -> Published {
    Published {
        owner: Owner {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        },
        v4: Some("10.1.0.2/24".parse().unwrap()),
        v6: Some("fd00::2/64".parse().unwrap()),
        ports: vec![Port {
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
        }],
        beside: Vec::new(),
        snat: true,
        masquerade_all: false,
        mark: Mark::Bit(13),
        conditions_v4: Vec::new(),
        conditions_v6: Vec::new(),
    }
}

#[track_caller]
fn taken_by(result: Result<(), Refusal>, container: &str) {
    match result {
        Err(Refusal::Taken(_, key)) => assert_eq!(key.container, container),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Reservations::at(dir.path());
    let (a, b) = (published("a", None, 8080), published("b", None, 8080));
    ports.take(&a).unwrap();
    ports.take(&a).unwrap();
    assert!(ports.missing(&a).is_empty());
    taken_by(ports.take(&b), "a");
    ports.give_back(&b).unwrap();
    assert!(
        ports.missing(&a).is_empty(),
        "only one's own ports are given back"
    );
    ports.give_back(&a).unwrap();
    ports.take(&b).unwrap();
    ports.give_back(&b).unwrap();
    assert!(!dir.path().join("ports").exists());
}

#[test]
fn every_address_excludes_each_single_one() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Reservations::at(dir.path());
    let all = published("all", None, 80);
    let (one, two) = (
        published("one", Some("10.0.0.1"), 80),
        published("two", Some("10.0.0.2"), 80),
    );
    ports.take(&all).unwrap();
    taken_by(ports.take(&one), "all");
    ports.give_back(&all).unwrap();
    ports.take(&one).unwrap();
    ports.take(&two).unwrap();
    assert!(matches!(ports.take(&all), Err(Refusal::Taken(..))));
    taken_by(ports.take(&published("three", Some("10.0.0.1"), 80)), "one");
    // 0.0.0.0 is every IPv4 address.
    assert!(matches!(
        ports.take(&published("four", Some("0.0.0.0"), 80)),
        Err(Refusal::Taken(..))
    ));
    ports.take(&published("five", Some("::"), 80)).unwrap();
    for owner in [&all, &one, &two, &published("five", Some("::"), 80)] {
        ports.give_back(owner).unwrap();
    }
    assert!(!dir.path().join("ports").exists());
}

#[test]
fn ports_in_a_row_and_apart() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Reservations::at(dir.path());
    let with = |container: &str, all: &[u16]| {
        let mut published = published(container, None, 0);
        published.ports = all
            .iter()
            .flat_map(|port| [(Protocol::Tcp, *port), (Protocol::Udp, *port)])
            .map(|(protocol, host_port)| Port {
                protocol,
                host_ip: None,
                host_port,
                container_port: 80,
            })
            .collect();
        published
    };
    let row: Vec<u16> = (30_000..30_050).collect();
    let (a, b) = (with("a", &row), with("b", &[30_050, 29_999, 65_535, 1]));
    ports.take(&a).unwrap();
    ports.take(&b).unwrap();
    taken_by(ports.take(&with("c", &[7, 30_049])), "a");
    taken_by(ports.check(&with("c", &[65_535])), "b");
    assert_eq!(ports.missing(&with("c", &[7])).len(), 2);
    // A refused wish has taken nothing.
    ports.take(&with("d", &[7])).unwrap();
    for owner in [&with("d", &[7]), &a] {
        ports.give_back(owner).unwrap();
    }
    assert!(ports.missing(&b).is_empty());
    ports.take(&with("c", &row)).unwrap();
    ports.give_back(&with("c", &row)).unwrap();
    ports.give_back(&b).unwrap();
    assert!(!dir.path().join("ports").exists());
}

#[test]
fn an_owner_without_a_name_file_holds_no_port() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Reservations::at(dir.path());
    let (a, b) = (published("a", None, 80), published("b", None, 80));
    ports.take(&a).unwrap();
    let names = fs::read_dir(dir.path().join("ports/owner")).unwrap();
    for name in names.flatten() {
        fs::remove_file(name.path()).unwrap();
    }
    ports.give_back(&a).unwrap();
    ports.take(&b).unwrap();
    taken_by(ports.take(&a), "b");
    ports.give_back(&b).unwrap();
    assert!(!dir.path().join("ports").exists());
}

#[test]
fn everywhere_and_at_an_address_for_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Reservations::at(dir.path());
    let mut both = published("a", None, 80);
    both.ports
        .extend(published("a", Some("10.0.0.1"), 80).ports);
    ports.take(&both).unwrap();
    ports.take(&both).unwrap();
    assert!(ports.missing(&both).is_empty());
    taken_by(ports.take(&published("b", Some("10.0.0.2"), 80)), "a");
    ports.give_back(&both).unwrap();
    assert!(!dir.path().join("ports").exists());
}
