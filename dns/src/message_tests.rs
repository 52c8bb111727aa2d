use super::*;

/// A query as a stub resolver sends it.
fn query(name: &[u8], qtype: u16, tail: &[u8]) -> Vec<u8> {
    let extra = u8::from(!tail.is_empty());
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, extra];
    packet.extend_from_slice(name);
    packet.push(0);
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(tail);
    packet
}

const OPT_4096_DO: &[u8] = &[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];

#[test]
fn a_query_is_read() {
    let packet = query(b"\x02Db", kind::A, OPT_4096_DO);
    let query = Query::parse(&packet).unwrap();
    assert_eq!((query.id, query.name), (0x1234, &b"\x02Db"[..]));
    assert_eq!((query.qtype, query.qclass, query.end), (1, 1, 20));
    let edns = query.edns.unwrap();
    assert_eq!((edns.size, edns.version, edns.dnssec), (4096, 0, true));
    assert_eq!(query.udp_limit(), UDP_MOST);
}

#[test]
fn a_cookie_is_for_us_and_other_options_are_not() {
    let with = |options: &[u8]| {
        let mut opt = OPT_4096_DO.to_vec();
        opt[10] = options.len() as u8;
        opt.extend_from_slice(options);
        query(b"\x02db", kind::A, &opt)
    };
    let cookie = with(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let read = Query::parse(&cookie).unwrap();
    assert!(!read.edns.unwrap().options);
    assert_eq!(read.onward(), query(b"\x02db", kind::A, OPT_4096_DO));
    let plain = query(b"\x02db", kind::A, OPT_4096_DO);
    assert_eq!(Query::parse(&plain).unwrap().onward(), plain);
    for other in [
        &[0, 8, 0, 0][..],
        &[0, 10, 0, 0, 0, 8, 0, 0],
        &[0, 10, 0, 9, 1],
        &[0],
    ] {
        let packet = with(other);
        let read = Query::parse(&packet).unwrap();
        assert!(read.edns.unwrap().options, "{other:?}");
        assert_eq!(read.onward(), packet, "{other:?}");
    }
}

#[track_caller]
fn check_unfit(change: impl FnOnce(&mut Vec<u8>), expected: Unfit) {
    let mut packet = query(b"\x02db", kind::A, OPT_4096_DO);
    change(&mut packet);
    assert_eq!(Query::parse(&packet).unwrap_err(), expected);
}

#[test]
fn what_is_no_query_is_dropped_or_refused() {
    check_unfit(|packet| packet.truncate(11), Unfit::Drop);
    check_unfit(|packet| packet.truncate(17), Unfit::Drop);
    check_unfit(|packet| packet[2] |= 0x80, Unfit::Drop);
    check_unfit(|packet| packet[12] = 0xc0, Unfit::Drop);
    check_unfit(|packet| packet[12] = 63, Unfit::Drop);
    check_unfit(|packet| packet[2] |= 0x28, Unfit::Reply(Rcode::NotImp));
    check_unfit(|packet| packet[5] = 0, Unfit::Reply(Rcode::FormErr));
    check_unfit(|packet| packet[5] = 2, Unfit::Reply(Rcode::FormErr));
    check_unfit(|packet| packet[11] = 2, Unfit::Reply(Rcode::FormErr));
    check_unfit(
        |packet| {
            packet[11] = 2;
            packet.extend_from_slice(OPT_4096_DO);
        },
        Unfit::Reply(Rcode::FormErr),
    );
}

#[test]
fn a_reply_keeps_the_question_and_its_case() {
    let packet = query(b"\x02Db", kind::A, &[]);
    let query = Query::parse(&packet).unwrap();
    let mut out = Vec::new();
    let mut reply = Reply::new(&query, Rcode::NoError, true, UDP_LEAST, &mut out);
    reply.record(1, 0, kind::A, 5, &[10, 0, 0, 2]);
    reply.finish();
    assert_eq!(&out[..2], &[0x12, 0x34]);
    assert_eq!(flags(&out), flag::QR | flag::AA | flag::RD | flag::RA);
    assert_eq!(&out[12..16], b"\x02Db\0");
    assert_eq!(
        &out[20..],
        &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, 2]
    );
    assert!(answers(&packet, 0x1234, &out));
    assert!(!answers(&packet, 0x1235, &out));
    let entries = entries(&out).unwrap();
    assert_eq!((entries.len(), entries[0].ttl), (1, 5));
}

#[test]
fn what_does_not_fit_truncates() {
    let packet = query(b"\x02db", kind::A, &[]);
    let query = Query::parse(&packet).unwrap();
    let mut out = Vec::new();
    let mut reply = Reply::new(&query, Rcode::NoError, true, query.udp_limit(), &mut out);
    for _ in 0..100 {
        reply.record(1, 0, kind::A, 5, &[10, 0, 0, 2]);
    }
    reply.finish();
    assert!(out.len() <= UDP_LEAST);
    assert_ne!(flags(&out) & flag::TC, 0);
    assert_eq!(entries(&out).unwrap().len(), (512 - 20) / 16);
}

#[test]
fn another_question_is_no_answer() {
    let packet = query(b"\x02db", kind::A, &[]);
    for other in [
        query(b"\x02dc", kind::A, &[]),
        query(b"\x02db", kind::AAAA, &[]),
        query(b"\x01d", kind::A, &[]),
    ] {
        let mut other = other;
        other[2] |= 0x80;
        assert!(!answers(&packet, 0x1234, &other));
    }
    let mut same = query(b"\x02DB", kind::A, &[]);
    assert!(!answers(&packet, 0x1234, &same), "a query is no response");
    same[2] |= 0x80;
    assert!(answers(&packet, 0x1234, &same));
}

#[test]
fn no_bytes_make_the_parser_panic() {
    // A small generator of its own: every length, bytes that look like DNS more often than not.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..200_000u32 {
        let mut packet = query(b"\x03www\x07example\x03com", kind::A, OPT_4096_DO);
        packet.truncate(round as usize % (packet.len() + 1));
        for _ in 0..round % 5 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if let Some(byte) = packet.get_mut(state as usize % 64) {
                *byte = (state >> 32) as u8;
            }
        }
        let _ = Query::parse(&packet);
        let _ = entries(&packet);
        let _ = answers(&packet, 0, &packet);
    }
}
