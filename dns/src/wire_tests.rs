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

/// What a query is, when its OPT record says nothing but this about options.
fn read(packet: &[u8], options: bool) -> Query<'_> {
    let edns = Edns {
        size: 4096,
        version: 0,
        dnssec: true,
        options,
    };
    Query::new(packet, Some(edns)).unwrap()
}

#[test]
fn a_query_is_read() {
    let packet = query(b"\x02Db", kind::A, OPT_4096_DO);
    let query = read(&packet, false);
    assert_eq!((query.id, query.name), (0x1234, &b"\x02Db"[..]));
    assert_eq!((query.qtype, query.qclass, query.end), (1, 1, 20));
    for spoilt in [17, 12, 3, 0] {
        assert!(Query::new(&packet[..spoilt], None).is_none());
    }
    let mut pointer = packet.clone();
    pointer[12] = 0xc0;
    assert!(Query::new(&pointer, None).is_none());
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
    assert_eq!(
        read(&cookie, false).onward(),
        query(b"\x02db", kind::A, OPT_4096_DO)
    );
    assert_eq!(read(&cookie, true).onward(), cookie);
    let plain = query(b"\x02db", kind::A, OPT_4096_DO);
    assert_eq!(read(&plain, false).onward(), plain);
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
        let _ = Query::new(&packet, None);
        let _ = entries(&packet);
        let _ = answers(&packet, 0, &packet);
    }
}
