use super::*;
use crate::record::{Link, Record};
use crate::sample::record;
use crate::wire::{Query, entries, flag, flags};

/// Networks `front` and `back`; `web` on front, `db` on back, `app` on both, and two containers
/// that share the alias `pool` on front.
fn zone() -> Zone {
    let mut zone = Zone::default();
    let mut add = |record: Record| assert_eq!(zone.insert(record), Vec::<String>::new());
    let front = |id: &str, address: &str| Record {
        gateways: vec!["10.1.0.1".parse().unwrap(), "fd01::1".parse().unwrap()],
        ..record("front", id, address)
    };
    let back = |id: &str, address: &str| Record {
        gateways: vec!["10.2.0.1".parse().unwrap()],
        ..record("back", id, address)
    };
    add(front("web", "10.1.0.2"));
    let mut app = front("app", "10.1.0.3");
    app.addresses.push("fd01::3".parse().unwrap());
    app.links.push(Link {
        target: "db".into(),
        alias: "database".into(),
    });
    add(app);
    add(back("app", "10.2.0.3"));
    add(back("db", "10.2.0.4"));
    for (id, address) in [("p1", "10.1.0.11"), ("p2", "10.1.0.12")] {
        let mut one = front(id, address);
        one.aliases = vec!["Pool".into()];
        add(one);
    }
    zone
}

fn packet(name: &str, qtype: u16) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

/// The verdict in words.
fn ask(zone: &Zone, source: &str, name: &str, qtype: u16) -> String {
    let packet = packet(name, qtype);
    let query = Query::new(&packet, None).unwrap();
    match decide(zone, source.parse().unwrap(), &query) {
        Verdict::Addresses { addresses, .. } => {
            let mut texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.join(" ")
        }
        Verdict::Pointer { name, .. } => name.to_string(),
        Verdict::Authority { .. } => "authority".into(),
        Verdict::NoData { apex, .. } => format!("nodata@{apex}"),
        Verdict::NoName { apex, .. } => format!("noname@{apex}"),
        Verdict::Refused(why) => format!("{why:?}"),
        Verdict::BadVersion => "version".into(),
        Verdict::Forward => "forward".into(),
    }
}

const WEB: &str = "10.1.0.2";
const APP: &str = "10.1.0.3";
const DB: &str = "10.2.0.4";
const HOST: &str = "10.1.0.1";

#[track_caller]
fn check(source: &str, name: &str, expected: &str) {
    assert_eq!(
        ask(&zone(), source, name, kind::A),
        expected,
        "{name} from {source}"
    );
}

#[test]
fn every_form_of_a_name() {
    for name in [
        "app",
        "APP",
        "app.dns.pontoon",
        "app.front.dns.pontoon",
        "app.front",
    ] {
        check(WEB, name, "10.1.0.3");
    }
    check(DB, "app", "10.2.0.3");
    check(DB, "app.back.DNS.pontoon", "10.2.0.3");
    check(APP, "app", "10.1.0.3 10.2.0.3");
    check(APP, "app.back.dns.pontoon", "10.2.0.3");
    check(HOST, "app", "10.1.0.3 10.2.0.3");
    check(HOST, "db", "10.2.0.4");
    check("127.0.0.1", "db", "10.2.0.4");
}

#[test]
fn no_name_of_another_network_is_told() {
    check(WEB, "db", "forward");
    check(WEB, "db.back", "forward");
    check(WEB, "db.dns.pontoon", "noname@3");
    check(WEB, "db.back.dns.pontoon", "noname@8");
    check(WEB, "back.dns.pontoon", "noname@5");
    check(DB, "web", "forward");
    check(DB, "web.front.dns.pontoon", "noname@10");
    assert_eq!(
        ask(&zone(), WEB, "4.0.2.10.in-addr.arpa", kind::PTR),
        "forward"
    );
    assert_eq!(
        ask(&zone(), APP, "4.0.2.10.in-addr.arpa", kind::PTR),
        "db.back.dns.pontoon"
    );
}

#[test]
fn strangers_are_refused() {
    check("10.9.9.9", "web", "Stranger");
    check("10.9.9.9", "example.com", "Stranger");
}

#[test]
fn links_are_for_the_linking_container() {
    check(APP, "database", "10.2.0.4");
    check(APP, "database.dns.pontoon", "10.2.0.4");
    check(DB, "database", "forward");
    check(WEB, "database.dns.pontoon", "noname@9");
}

#[test]
fn other_types_of_known_names_stay_here() {
    let zone = zone();
    for qtype in [15, 16, 33, 65, kind::SOA, kind::PTR] {
        assert_eq!(ask(&zone, WEB, "app", qtype), "nodata@0");
        assert_eq!(ask(&zone, WEB, "app.dns.pontoon", qtype), "nodata@4");
    }
    assert_eq!(ask(&zone, WEB, "web", kind::AAAA), "nodata@0");
    assert_eq!(ask(&zone, WEB, "app", kind::AAAA), "fd01::3");
    assert_eq!(
        ask(&zone, WEB, "2.0.1.10.in-addr.arpa", kind::A),
        "nodata@0"
    );
    for qtype in [kind::ANY, kind::AXFR, kind::IXFR] {
        assert_eq!(ask(&zone, WEB, "app", qtype), "Kind");
        assert_eq!(ask(&zone, WEB, "example.com", qtype), "Kind");
    }
}

#[test]
fn the_domain_itself() {
    let zone = zone();
    assert_eq!(ask(&zone, WEB, "dns.pontoon", kind::SOA), "authority");
    assert_eq!(ask(&zone, WEB, "dns.pontoon", kind::A), "nodata@0");
    assert_eq!(ask(&zone, WEB, "front.dns.pontoon", kind::A), "nodata@6");
    assert_eq!(ask(&zone, WEB, "no.dns.pontoon", kind::A), "noname@3");
    assert_eq!(ask(&zone, WEB, "xdns.pontoon", kind::A), "forward");
    assert_eq!(ask(&zone, WEB, "pontoon", kind::A), "forward");
    assert_eq!(ask(&zone, WEB, "", kind::A), "forward");
}

#[test]
fn one_alias_of_several_containers_rotates() {
    let zone = zone();
    assert_eq!(ask(&zone, WEB, "pool", kind::A), "10.1.0.11 10.1.0.12");
}

/// The prepared answer, as code and the last byte of each address; `None` when it is not prepared.
fn prepared(name: &str, qtype: u16, tail: &[u8], rotation: usize) -> Option<Vec<u8>> {
    let mut packet = packet(name, qtype);
    packet.extend_from_slice(tail);
    packet[11] = u8::from(!tail.is_empty());
    let mut out = Vec::new();
    let source = WEB.parse().unwrap();
    ready(&zone(), source, &packet, true, rotation, &mut out).then_some(())?;
    assert_eq!(out[..2], packet[..2]);
    assert_eq!(flags(&out), flag::QR | flag::AA | flag::RD | flag::RA);
    let records = entries(&out).unwrap();
    let addresses = records.iter().filter(|record| record.section == 1);
    Some(addresses.map(|record| out[record.data.1 - 1]).collect())
}

const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

#[test]
fn answers_for_known_names_are_prepared() {
    for name in [
        "web",
        "web.front",
        "web.dns.pontoon",
        "web.front.dns.pontoon",
    ] {
        for tail in [&[][..], &OPT] {
            assert_eq!(prepared(name, kind::A, tail, 7), Some(vec![2]), "{name}");
        }
    }
    assert_eq!(prepared("app", kind::AAAA, &OPT, 0), Some(vec![3]));
    let cookie = [&OPT[..10], &[4, 0, 10, 0, 0]].concat();
    let signed = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
    for (name, qtype, tail) in [
        ("Web", kind::A, &OPT[..]),
        ("web", kind::AAAA, &[]),
        ("web", 15, &[]),
        ("pool", kind::A, &[]),
        ("db", kind::A, &[]),
        ("localhost", kind::A, &[]),
        ("example.com", kind::A, &[]),
        ("web", kind::A, &cookie),
        ("web", kind::A, &signed),
    ] {
        assert_eq!(prepared(name, qtype, tail, 0), None, "{name} {qtype}");
    }
}

#[test]
fn the_host_has_names_at_the_gateways() {
    for name in ["host.containers.internal", "HOST.docker.internal"] {
        check(WEB, name, "10.1.0.1");
        check(APP, name, "10.1.0.1");
        check(DB, name, "10.2.0.1");
        check(HOST, name, "127.0.0.1");
        check("192.0.2.1", name, "Stranger");
        assert_eq!(ask(&zone(), WEB, name, kind::AAAA), "fd01::1");
        assert_eq!(ask(&zone(), DB, name, kind::AAAA), "nodata@0");
    }
    check(WEB, "other.containers.internal", "forward");
    // A container that is called so is meant, as everywhere.
    let mut zone = zone();
    let mut own = record("front", "x", "10.1.0.99");
    own.aliases = vec!["host.docker.internal".into()];
    zone.insert(own);
    assert_eq!(
        ask(&zone, WEB, "host.docker.internal", kind::A),
        "10.1.0.99"
    );
}

#[test]
fn localhost_is_answered_here() {
    for name in ["localhost", "LocalHost", "a.b.localhost"] {
        for source in [WEB, DB, HOST] {
            check(source, name, "127.0.0.1");
            assert_eq!(ask(&zone(), source, name, kind::AAAA), "::1");
        }
        check("192.0.2.1", name, "Stranger");
    }
    assert_eq!(ask(&zone(), WEB, "localhost", 15), "nodata@0");
    assert_eq!(ask(&zone(), WEB, "x.localhost", 15), "nodata@2");
    check(WEB, "notlocalhost", "forward");
    assert_eq!(ask(&zone(), WEB, "1.0.0.127.in-addr.arpa", 12), "localhost");
    let mut zone = zone();
    let mut liar = record("front", "x", "10.1.0.99");
    liar.aliases = vec!["localhost".into()];
    assert_eq!(zone.insert(liar), ["localhost"]);
}
