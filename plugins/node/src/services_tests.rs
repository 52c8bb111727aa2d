use super::*;

/// `a` and `b` have a container each of service `web`, `b` one of `db` beside it.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let mut put = |key: &str, value: &str| {
        cluster.put(&format!("/pontoon/v1/{key}"), value.as_bytes(), 1, 1);
    };
    put(
        "net/lan",
        r#"{"subnets":[],"vni":7,"port":4789,"mode":"auto","services":["10.5.255.0/29","fd00:5:0:ffff::/64"]}"#,
    );
    let endpoint = |address: &str, v6: &str, service: &str| {
        format!(
            "{{\"container\":\"c{address}\",\"interface\":\"eth0\",\"names\":[],\"addresses\":[\"{address}\",\"{v6}\"],\
             \"domain\":\"d\",\"ttl\":5,\"service\":{service}}}"
        )
    };
    let ports = r#"{"name":"web","ports":[{"protocol":"tcp","port":80,"target":8080}]}"#;
    for (host, address, v6, service) in [
        ("a", "10.5.1.2", "fd00:5:0:1::2", ports),
        ("b", "10.5.2.2", "fd00:5:0:2::2", ports),
        ("b", "10.5.2.3", "fd00:5:0:2::3", r#"{"name":"db"}"#),
    ] {
        put(&format!("host/{host}/alive"), r#"{"boot":"x"}"#);
        put(
            &format!("host/{host}/ep/lan/{address}"),
            &endpoint(address, v6, service),
        );
    }
    cluster
}

fn number(cluster: &mut Cluster, name: &str, number: u32, revision: i64) {
    let (key, value) = (
        format!("/pontoon/v1/service/lan/name/{name}"),
        format!("{{\"number\":{number}}}"),
    );
    cluster.put(&key, value.as_bytes(), revision, revision);
    let key = format!("/pontoon/v1/service/lan/number/{number}");
    cluster.put(&key, name.as_bytes(), revision, revision);
}

fn entrances(cluster: &Cluster) -> Vec<String> {
    let told = |entrance: &Entrance| {
        let port = entrance.port.map_or("*".to_owned(), |(protocol, port)| {
            format!("{port}/{protocol}")
        });
        let targets = entrance.targets.iter();
        let targets: Vec<String> = targets
            .map(|it| format!("{}#{}", it.address, it.port))
            .collect();
        format!("{} {port}: {}", entrance.address, targets.join(" "))
    };
    let entrances = Services::of(cluster, "lan", None).entrances();
    entrances.iter().map(told).collect()
}

#[test]
fn connections_spread_over_the_containers_of_hosts_that_are_alive() {
    let mut cluster = cluster();
    assert_eq!(entrances(&cluster), Vec::<String>::new(), "no address yet");
    number(&mut cluster, "web", 1, 5);
    number(&mut cluster, "db", 2, 6);
    let db = [
        "10.5.255.2 *: 10.5.2.3#0",
        "fd00:5:0:ffff::2 *: fd00:5:0:2::3#0",
    ];
    let both = [
        "10.5.255.1 80/tcp: 10.5.1.2#8080 10.5.2.2#8080",
        "fd00:5:0:ffff::1 80/tcp: fd00:5:0:1::2#8080 fd00:5:0:2::2#8080",
    ];
    assert_eq!(entrances(&cluster), [db, both].concat());
    cluster.delete("/pontoon/v1/host/a/alive");
    let one = [
        "10.5.255.1 80/tcp: 10.5.2.2#8080",
        "fd00:5:0:ffff::1 80/tcp: fd00:5:0:2::2#8080",
    ];
    assert_eq!(entrances(&cluster), [db, one].concat());
}

#[test]
fn what_the_own_host_knows_counts_at_once() {
    let mut cluster = cluster();
    number(&mut cluster, "web", 1, 5);
    let (none, without_lease) = (Endpoints::new(), cluster.endpoints["a"]["lan"].clone());
    cluster.delete("/pontoon/v1/host/a/alive");
    for (own, expected) in [(&none, 1), (&without_lease, 2)] {
        let services = Services::of(&cluster, "lan", Some(("a", own)));
        let entrances = services.entrances();
        let web = entrances.iter().find(|it| it.port.is_some()).unwrap();
        assert_eq!(web.targets.len(), expected);
    }
}

#[test]
fn a_service_gets_the_first_free_number_from_a_host_that_has_a_container_of_it() {
    let mut cluster = cluster();
    let next = |cluster: &Cluster, host: &str| {
        Services::of(cluster, "lan", None).numbering(host, &Numbers::new())
    };
    let told = |found: Option<Numbering>| found.map(|it| (it.name, it.number));
    assert_eq!(told(next(&cluster, "a")), Some(("web".to_owned(), 1)));
    assert_eq!(told(next(&cluster, "b")), Some(("db".to_owned(), 1)));
    assert_eq!(told(next(&cluster, "c")), None);
    // What it had before, when etcd has lost that.
    for (had, expected) in [(3, 3), (9, 1)] {
        let before = Numbers::from([("web".to_owned(), had), ("gone".to_owned(), 4)]);
        let services = Services::of(&cluster, "lan", None);
        let found = services.numbering("a", &before).unwrap();
        assert_eq!(found.number, expected);
        assert_eq!(
            services.numbers(&before),
            Numbers::from([("web".to_owned(), had)])
        );
    }
    number(&mut cluster, "web", 1, 5);
    assert_eq!(told(next(&cluster, "a")), None);
    assert_eq!(told(next(&cluster, "b")), Some(("db".to_owned(), 2)));
    // Numbers 1 to 6 exist: then the one that was unused for longest is taken.
    for (name, taken, revision) in [
        ("old", 2, 20),
        ("older", 3, 10),
        ("x", 4, 30),
        ("y", 5, 31),
        ("z", 6, 32),
    ] {
        number(&mut cluster, name, taken, revision);
    }
    let last = next(&cluster, "b").unwrap();
    assert_eq!(
        (last.number, last.instead_of),
        (3, Some(("older".to_owned(), 10)))
    );
}

#[test]
fn the_resolver_is_told_the_address_and_the_containers() {
    let mut cluster = cluster();
    number(&mut cluster, "web", 1, 5);
    let told = |cluster: &Cluster| -> Vec<String> {
        let records = Services::of(cluster, "lan", None).records();
        let told = |it: &Record| {
            let names = it.names.iter().chain(&it.aliases).cloned();
            format!(
                "{} {}",
                names.collect::<Vec<_>>().join(","),
                it.addresses[0]
            )
        };
        records.iter().map(told).collect()
    };
    let tasks = ["tasks.web 10.5.1.2", "tasks.web 10.5.2.2"];
    assert_eq!(
        told(&cluster),
        [&["tasks.db 10.5.2.3", "web 10.5.255.1"][..], &tasks].concat()
    );
    for host in ["a", "b"] {
        let endpoints = cluster
            .endpoints
            .get_mut(host)
            .unwrap()
            .get_mut("lan")
            .unwrap();
        for service in endpoints.values_mut().filter_map(|it| it.service.as_mut()) {
            service.mode = ServiceMode::Dnsrr;
        }
    }
    let both = told(&cluster);
    assert!(both.contains(&"web 10.5.1.2".to_owned()) && both.contains(&"web 10.5.2.2".to_owned()));
    assert!(!both.contains(&"web 10.5.255.1".to_owned()), "{both:?}");
    assert_eq!(entrances(&cluster), Vec::<String>::new());
}

#[test]
fn what_cannot_be_is_told() {
    let mut cluster = cluster();
    let warnings = |cluster: &Cluster| Services::of(cluster, "lan", None).warnings();
    assert!(warnings(&cluster).is_empty());
    for (name, taken) in [("web", 1), ("db", 2)] {
        number(&mut cluster, name, taken, 5);
    }
    let key = "/pontoon/v1/service/lan/number/1";
    cluster.put(key, b"other", 9, 9);
    assert!(warnings(&cluster)["service web of network lan"].contains("contradict"));
    let value = cluster.networks.get_mut("lan").unwrap();
    value.services.clear();
    assert!(warnings(&cluster)["service web of network lan"].contains("no range"));
    let endpoints = cluster
        .endpoints
        .get_mut("b")
        .unwrap()
        .get_mut("lan")
        .unwrap();
    for service in endpoints.values_mut().filter_map(|it| it.service.as_mut()) {
        service.affinity = true;
    }
    assert!(warnings(&cluster)["service web of network lan"].contains("what the first one says"));
}
