use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use pontoon_conf::keys::AddressRange;

fn set(ranges: &[(&str, &str, &str)]) -> RangeSet {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let texts: Vec<_> = ranges
        .iter()
        .map(|(subnet, start, end)| AddressRange {
            subnet: some(subnet),
            range_start: some(start),
            range_end: some(end),
            gateway: None,
        })
        .collect();
    RangeSet::parse(&texts).expect("a good set")
}

fn pool(ranges: &[(&str, &str, &str)], exclude: &[&str]) -> Pool {
    Pool::new(
        vec![set(ranges)],
        Exclusions::parse(exclude).expect("exclude"),
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// Lowest address of the span that is not in `taken`, one by one.
fn free(taken: &BTreeSet<IpAddr>, span: &Span) -> Option<IpAddr> {
    let (first, last) = span.numbers();
    (first..=last)
        .map(|number| span.family().address(number))
        .find(|address| !taken.contains(address))
}

fn next(pool: &Pool, taken: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
    pool.next(&pool.sets()[0], last, |span| Ok::<_, ()>(free(taken, span)))
        .expect("cannot fail")
        .map(|grant| grant.address)
}

#[track_caller]
fn order(pool: &Pool, last: &str, expected: &[&str]) {
    let last = (!last.is_empty()).then(|| ip(last));
    let spans = pool.candidates(&pool.sets()[0], last);
    assert_eq!(
        spans.iter().map(Span::to_string).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn round_robin() {
    let small = pool(&[("10.0.0.0/29", "", "")], &[]);
    order(&small, "", &["10.0.0.2-10.0.0.6"]);
    order(
        &small,
        "10.0.0.3",
        &["10.0.0.4-10.0.0.6", "10.0.0.2-10.0.0.3"],
    );
    order(&small, "10.0.0.6", &["10.0.0.2-10.0.0.6"]);
    order(&small, "10.9.9.9", &["10.0.0.2-10.0.0.6"]);
    order(&small, "fd00::1", &["10.0.0.2-10.0.0.6"]);
    let two = pool(
        &[
            ("10.0.0.0/24", "10.0.0.5", "10.0.0.9"),
            ("10.1.0.0/29", "", ""),
        ],
        &["10.0.0.7"],
    );
    order(
        &two,
        "10.0.0.6",
        &[
            "10.0.0.8-10.0.0.9",
            "10.1.0.2-10.1.0.6",
            "10.0.0.5-10.0.0.6",
        ],
    );
    order(
        &two,
        "10.1.0.6",
        &[
            "10.0.0.5-10.0.0.6",
            "10.0.0.8-10.0.0.9",
            "10.1.0.2-10.1.0.6",
        ],
    );
}

#[test]
fn a_range_over_the_whole_subnet_spares_network_and_broadcast() {
    let whole = pool(&[("10.0.0.0/29", "10.0.0.0", "10.0.0.7")], &[]);
    order(&whole, "", &["10.0.0.2-10.0.0.6"]);
    let whole = pool(&[("fd00::/125", "fd00::", "fd00::7")], &[]);
    order(&whole, "", &["fd00::2-fd00::7"]);
}

#[test]
fn a_gateway_named_by_another_set_is_kept_back() {
    let sets = vec![
        set(&[("10.0.0.0/24", "10.0.0.1", "10.0.0.9")]),
        RangeSet::parse(&[AddressRange {
            subnet: Some("10.0.0.0/24".to_owned()),
            range_start: Some("10.0.0.20".to_owned()),
            gateway: Some("10.0.0.5".to_owned()),
            ..AddressRange::default()
        }])
        .expect("set"),
    ];
    let pool = Pool::new(sets, Exclusions::default());
    order(&pool, "", &["10.0.0.2-10.0.0.4", "10.0.0.6-10.0.0.9"]);
}

#[track_caller]
fn request(pool: &Pool, address: &str, expected: &str) {
    let shown = match pool.requested(&pool.sets()[0], ip(address)) {
        Ok(grant) => format!("{}/{} via {}", grant.address, grant.prefix, grant.gateway),
        Err(error) => error.to_string(),
    };
    assert_eq!(shown, expected);
}

#[test]
fn requests() {
    let pool = pool(
        &[("10.0.0.0/24", "10.0.0.0", "10.0.0.99")],
        &["10.0.0.64/28"],
    );
    request(&pool, "10.0.0.9", "10.0.0.9/24 via 10.0.0.1");
    request(
        &pool,
        "10.0.0.1",
        "requested ip 10.0.0.1 is subnet's gateway",
    );
    request(
        &pool,
        "10.0.0.200",
        "10.0.0.200 not in range set 10.0.0.0-10.0.0.99",
    );
    request(
        &pool,
        "10.0.0.0",
        "requested ip 10.0.0.0 is the network or broadcast address of its subnet",
    );
    request(
        &pool,
        "10.0.0.70",
        "requested ip 10.0.0.70 is excluded: the network's configuration lists it under \"exclude\"",
    );
}

#[test]
fn a_v6_range_is_not_walked() {
    let huge = pool(&[("fd00::/16", "", "")], &[]);
    assert_eq!(
        next(&huge, &BTreeSet::new(), Some(ip("fd00::5"))),
        Some(ip("fd00::6"))
    );
    assert_eq!(
        next(&huge, &[ip("fd00::2")].into(), None),
        Some(ip("fd00::3"))
    );
}

proptest! {
    /// Any small pool, any exclusions, any cursor: draining it gives every
    /// usable address once, in cyclic order, and nothing else.
    #[test]
    fn drained(
        prefix in 22_u8..=30,
        start in 0_u32..40,
        length in 1_u32..200,
        holes in prop::collection::vec((0_u32..1024, 0_u32..8), 0..6),
        last in prop::option::of(0_u32..1024),
    ) {
        let size = 1_u32 << (32 - prefix);
        let base = u32::from_be_bytes([10, 7, 0, 0]);
        let at = |offset: u32| IpAddr::from(std::net::Ipv4Addr::from(base + offset));
        let (start, end) = (start.min(size - 1), (start + length).min(size - 1));
        let start = start.min(end);
        let holes: Vec<String> = holes.iter().map(|(from, width)| format!("{}-{}", at(*from), at(from + width))).collect();
        let exclude = Exclusions::parse(&holes).expect("exclude");
        let range = AddressRange {
            subnet: Some(format!("10.7.0.0/{prefix}")),
            range_start: Some(at(start).to_string()),
            range_end: Some(at(end).to_string()),
            gateway: None,
        };
        let pool = Pool::new(vec![RangeSet::parse(&[range]).expect("set")], exclude.clone());

        let expected: BTreeSet<IpAddr> = (start..=end)
            .filter(|offset| ![0, 1, size - 1].contains(offset))
            .map(at)
            .filter(|address| !exclude.contains(*address))
            .collect();
        let mut taken = BTreeSet::new();
        let mut last = last.map(at);
        let first_cursor = last;
        let mut wrapped = false;
        while let Some(address) = next(&pool, &taken, last) {
            prop_assert!(expected.contains(&address), "{address} must not be given");
            prop_assert!(taken.insert(address), "{address} given twice");
            if let Some(last) = last.filter(|last| address <= *last) {
                prop_assert!(!wrapped || Some(last) == first_cursor, "wrapped twice at {address}");
                wrapped = true;
            }
            last = Some(address);
        }
        prop_assert_eq!(taken, expected);
    }
}
