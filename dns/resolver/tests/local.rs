//! The fast answer and the slow one are the same bytes, and hickory's decoder is the judge of every
//! reply of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails"
)]

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use pontoon_dns::answer::{Verdict, decide, ready};
use pontoon_dns::record::Record;
use pontoon_dns::zone::Zone;
use pontoon_resolver::local::{self, InvalidQuery, Local};
use proptest::prelude::*;
use serde_json::json;

fn record(network: &str, container: &str, v4: u8, more: &[String]) -> Record {
    let number = if network == "front" { 1 } else { 2 };
    let mut addresses: Vec<String> = (0..1 + more.len() % 3)
        .map(|extra| format!("10.{number}.{extra}.{v4}"))
        .collect();
    if v4.is_multiple_of(2) {
        addresses.push(format!("fd0{number}::{v4:x}"));
        addresses.push(format!("fd0{number}::1:{v4:x}"));
    }
    serde_json::from_value(json!({
        "version": 1, "network": network, "container": container, "interface": "eth0",
        "names": [container], "aliases": more, "addresses": addresses,
        "gateways": [format!("10.{number}.0.254")], "domain": "dns.pontoon",
        "ttl": u32::from(v4) % 7, "resolvConf": "/etc/resolv.conf",
        "links": [{ "target": "c3", "alias": "linked" }],
    }))
    .expect("a record")
}

fn packet(name: &str, qtype: u16, flags: u16, tail: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xab, 0xcd];
    packet.extend_from_slice(&flags.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(!tail.is_empty())]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(tail);
    packet
}

fn opt(size: u16, flags: u16, options: &[u8]) -> Vec<u8> {
    let mut opt = vec![0, 0, 41];
    opt.extend_from_slice(&size.to_be_bytes());
    opt.extend_from_slice(&[0, 0]);
    opt.extend_from_slice(&flags.to_be_bytes());
    opt.extend_from_slice(&(options.len() as u16).to_be_bytes());
    opt.extend_from_slice(options);
    opt
}

/// The answer by hickory; `None` when a server has to be asked.
fn slow(
    zone: &Zone,
    from: SocketAddr,
    packet: &[u8],
    udp: bool,
    rotation: usize,
) -> Option<Vec<u8>> {
    let request = local::read(packet, from, udp).expect("a query");
    let query = local::query(&request, packet).expect("a query");
    let limit = if udp { query.udp_limit() } else { 65_535 };
    let verdict = decide(zone, from.ip(), &query);
    let mut out = Vec::new();
    Local::of(&request, &verdict, rotation, limit)?.write(&request, limit, &mut out);
    assert!(out.len() <= limit);
    Some(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_fast_answer_and_the_slow_one_are_the_same_bytes(
        aliases in prop::collection::vec(prop::collection::vec("[a-c]{1,2}", 0..4), 6),
        name in prop_oneof![
            "c[0-5]", "[a-c]{1,2}", "linked", "unknown",
            "c[0-5]\\.dns\\.pontoon", "c[0-5]\\.(front|back)",
            "c[0-5]\\.(front|back)\\.dns\\.pontoon", "C[0-5]", "localhost",
        ],
        qtype in prop_oneof![Just(1u16), Just(28), Just(12), Just(15), Just(255)],
        flags in prop_oneof![Just(0x0100u16), Just(0), Just(0x0110), Just(0x0120), Just(0x0130)],
        tail in prop_oneof![
            Just(Vec::new()), Just(opt(1232, 0, &[])), Just(opt(4096, 0, &[])), Just(opt(0, 0, &[])),
            Just(opt(1232, 0x8000, &[])), Just(opt(1232, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])),
        ],
        querier in 0u8..8,
        udp in any::<bool>(),
        rotation in 0usize..5,
    ) {
        let mut zone = Zone::default();
        for (number, more) in aliases.iter().enumerate() {
            let network = if number % 3 == 2 { "back" } else { "front" };
            zone.insert(record(network, &format!("c{number}"), 2 + number as u8, more));
        }
        let source: IpAddr = match querier {
            6 => "10.1.0.254".parse().expect("an address"),
            7 => "192.0.2.1".parse().expect("an address"),
            number => {
                let network = if number % 3 == 2 { 2 } else { 1 };
                IpAddr::from([10, network, 0, 2 + number])
            }
        };
        let from = SocketAddr::new(source, 4000);
        let packet = packet(&name, qtype, flags, &tail);
        let answer = slow(&zone, from, &packet, udp, rotation);
        let mut out = Vec::new();
        if ready(&zone, source, &packet, udp, rotation, &mut out) {
            prop_assert_eq!(Some(&out), answer.as_ref());
        }
        if let Some(answer) = answer {
            let message = Message::from_vec(&answer).expect("hickory reads it");
            prop_assert_eq!(message.metadata.id, 0xabcd);
            prop_assert!(message.metadata.recursion_available);
            prop_assert_eq!(message.metadata.recursion_desired, flags & 0x0100 != 0);
            prop_assert_eq!(message.metadata.checking_disabled, flags & 0x0010 != 0);
            prop_assert!(!message.metadata.authentic_data);
            prop_assert_eq!(message.edns.is_some(), !tail.is_empty());
        }
    }
}

thread_local! {
    /// A hundred records are dearer than all that is done with them.
    static ZONE: Rc<Zone> = Rc::new(zone());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Packets that no resolver would write: mutations of good ones.
    #[test]
    fn no_bytes_make_it_panic_and_what_is_said_can_be_read(
        name in prop_oneof!["web", "p1[0-9]", "no\\.dns\\.pontoon", "a\\.b\\.example", "[a-z.]{0,80}"],
        qtype in any::<u16>(),
        tail in prop_oneof![
            Just(Vec::new()), Just(opt(1232, 0x8000, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])),
            Just(opt(4096, 0, &[0, 8, 0, 7, 0, 1, 24, 0, 10, 1, 0])),
        ],
        changes in prop::collection::vec((0usize..80, any::<u8>()), 0..5),
        length in 0usize..120,
        rotation in 0usize..5,
    ) {
        let zone = ZONE.with(Rc::clone);
        let from: SocketAddr = "10.1.0.2:4000".parse().expect("an address");
        let mut packet = packet(&name, qtype, 0x0100, &tail);
        packet.truncate(length.max(11));
        for (at, byte) in changes {
            if let Some(place) = packet.get_mut(at) {
                *place = byte;
            }
        }
        let mut fast = Vec::new();
        let prepared = ready(&zone, from.ip(), &packet, true, rotation, &mut fast);
        let Ok(request) = local::read(&packet, from, true) else {
            prop_assert!(!prepared, "prepared for what is no query");
            return Ok(());
        };
        let query = local::query(&request, &packet).expect("a query that was read");
        let limit = query.udp_limit();
        let verdict = decide(&zone, from.ip(), &query);
        let mut out = Vec::new();
        if let Some(answer) = Local::of(&request, &verdict, rotation, limit) {
            answer.write(&request, limit, &mut out);
            prop_assert!(out.len() <= limit && Message::from_vec(&out).is_ok(), "{:02x?}", out);
        }
        if prepared {
            prop_assert_eq!(fast, out);
        }
        let onward = query.onward();
        prop_assert!(local::read(&onward, from, true).is_ok(), "{:02x?}", onward);
    }
}

fn zone() -> Zone {
    let mut zone = Zone::default();
    zone.insert(record("front", "web", 2, &[]));
    for number in 10..110 {
        zone.insert(record(
            "front",
            &format!("p{number}"),
            number,
            &["pool".to_owned()],
        ));
    }
    zone
}

fn ask(name: &str, qtype: u16, tail: &[u8], rotation: usize) -> Message {
    let from = "10.1.0.2:4000".parse().expect("an address");
    let packet = packet(name, qtype, 0x0100, tail);
    let answer = slow(&zone(), from, &packet, true, rotation).expect("an answer of ours");
    Message::from_vec(&answer).expect("hickory reads it")
}

#[test]
fn codes_and_sections_are_what_they_were() {
    for (name, qtype, code, aa, answers, authority) in [
        ("web", 1, ResponseCode::NoError, true, 1, 0),
        ("web", 28, ResponseCode::NoError, true, 2, 0),
        ("web", 15, ResponseCode::NoError, true, 0, 1),
        ("no.dns.pontoon", 1, ResponseCode::NXDomain, true, 0, 1),
        ("dns.pontoon", 6, ResponseCode::NoError, true, 1, 0),
        (
            "2.0.1.10.in-addr.arpa",
            12,
            ResponseCode::NoError,
            true,
            1,
            0,
        ),
        ("localhost", 28, ResponseCode::NoError, true, 1, 0),
        ("web", 255, ResponseCode::Refused, false, 0, 0),
    ] {
        let message = ask(name, qtype, &[], 0);
        assert_eq!(message.metadata.response_code, code, "{name}");
        assert_eq!(message.metadata.authoritative, aa, "{name}");
        assert_eq!(message.answers.len(), answers, "{name}");
        assert_eq!(message.authorities.len(), authority, "{name}");
        let soa = message
            .authorities
            .iter()
            .all(|one| one.record_type() == RecordType::SOA);
        assert!(soa, "{name}");
    }
    let nothing = ask("no.dns.pontoon", 1, &[], 0);
    assert_eq!(nothing.authorities[0].name.to_string(), "dns.pontoon.");
    let pointer = ask("2.0.1.10.in-addr.arpa", 12, &[], 0);
    assert_eq!(
        pointer.answers[0].data.to_string(),
        "web.front.dns.pontoon."
    );
}

#[test]
fn what_does_not_fit_truncates_and_keeps_its_opt_record() {
    for (tail, room) in [
        (vec![], 512),
        (opt(800, 0, &[]), 800),
        (opt(9000, 0, &[]), 1232),
    ] {
        let message = ask("pool", 1, &tail, 3);
        assert!(message.metadata.truncation);
        assert_eq!(message.edns.is_some(), !tail.is_empty());
        let used = 12 + 10 + if tail.is_empty() { 0 } else { 11 };
        assert_eq!(message.answers.len(), (room - used) / 16);
    }
    let last = |rotation| match &ask("pool", 1, &[], rotation).answers[0].data {
        RData::A(address) => address.octets(),
        _ => [0; 4],
    };
    assert_ne!(last(0), last(1));
}

#[test]
fn what_is_no_query_is_dropped_or_refused() {
    use pontoon_dns::wire::Rcode;
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: InvalidQuery| {
        let mut packet = packet("db", 1, 0x0100, &opt(4096, 0x8000, &[]));
        change(&mut packet);
        let from = "10.1.0.2:4000".parse().expect("an address");
        assert_eq!(local::read(&packet, from, true).err(), Some(expected));
    };
    check(&|packet| packet.truncate(11), InvalidQuery::Drop);
    check(&|packet| packet.truncate(17), InvalidQuery::Drop);
    check(&|packet| packet[2] |= 0x80, InvalidQuery::Drop);
    check(&|packet| packet[12] = 0xc0, InvalidQuery::Drop);
    check(&|packet| packet[12] = 63, InvalidQuery::Drop);
    check(
        &|packet| packet[2] |= 0x28,
        InvalidQuery::Reply(Rcode::NotImp),
    );
    check(&|packet| packet[5] = 0, InvalidQuery::Reply(Rcode::FormErr));
    check(&|packet| packet[5] = 2, InvalidQuery::Reply(Rcode::FormErr));
    check(
        &|packet| packet[11] = 2,
        InvalidQuery::Reply(Rcode::FormErr),
    );
    check(
        &|packet| {
            packet[11] = 2;
            packet.extend_from_slice(&opt(4096, 0, &[]));
        },
        InvalidQuery::Reply(Rcode::FormErr),
    );
}

/// Options are between the client and the server that is asked: a client subnet of family 0, an
/// overlong one, a key tag of odd length, bytes that are no option at all.
#[test]
fn options_that_hickory_cannot_read_are_forwarded_as_they_came() {
    let from: SocketAddr = "10.1.0.2:4000".parse().expect("an address");
    for options in [
        &[0, 8, 0, 4, 0, 0, 0, 0][..],
        &[0, 8, 0, 4, 0, 7, 24, 0],
        &[0, 8, 0, 9, 0, 1, 99, 0, 1, 2, 3, 4, 5],
        &[0, 14, 0, 3, 1, 2, 3],
        &[0, 10, 0, 200, 1],
        &[0xff],
    ] {
        let packet = packet("a.example", 1, 0x0100, &opt(4096, 0x8000, options));
        let request = local::read(&packet, from, true).expect("a query");
        let query = local::query(&request, &packet).expect("a query");
        let edns = query.edns.expect("EDNS");
        assert_eq!((edns.size, edns.dnssec, edns.version), (4096, true, 0));
        assert_eq!(query.udp_limit(), 1232);
        assert_eq!(
            decide(&zone(), from.ip(), &query),
            Verdict::Forward,
            "{options:?}"
        );
        assert_eq!(query.onward(), packet, "{options:?}");
        let message = ask("web", 1, &opt(4096, 0, options), 0);
        assert_eq!(message.answers.len(), 1, "{options:?}");
        assert!(message.edns.is_some(), "{options:?}");
    }
}

#[test]
fn a_version_of_edns_to_come_is_refused() {
    let mut tail = opt(1232, 0, &[]);
    tail[6] = 1;
    let message = ask("web", 1, &tail, 0);
    // 16 is BADVERS without a signature, and BADSIG with one.
    assert_eq!(u16::from(message.metadata.response_code), 16);
    assert!(message.answers.is_empty());
}
