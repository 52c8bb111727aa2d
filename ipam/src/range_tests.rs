use super::*;

fn text(subnet: &str, start: &str, end: &str, gateway: &str) -> AddressRange {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    AddressRange {
        subnet: some(subnet),
        range_start: some(start),
        range_end: some(end),
        gateway: some(gateway),
    }
}

#[track_caller]
fn good(subnet: &str, start: &str, end: &str, gateway: &str, expected: &str) {
    let range = Range::parse(&text(subnet, start, end, gateway)).expect("a good range");
    assert_eq!(format!("{range} via {}", range.gateway()), expected);
}

#[track_caller]
fn bad(subnet: &str, start: &str, end: &str, gateway: &str, expected: &str) {
    let error = Range::parse(&text(subnet, start, end, gateway)).expect_err("a bad range");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn completed() {
    good(
        "10.0.0.0/24",
        "",
        "",
        "",
        "10.0.0.1-10.0.0.254 via 10.0.0.1",
    );
    good("10.0.0.0/30", "", "", "", "10.0.0.1-10.0.0.2 via 10.0.0.1");
    good(
        "10.0.0.0/24",
        "10.0.0.9",
        "10.0.0.9",
        "10.9.9.9",
        "10.0.0.9-10.0.0.9 via 10.9.9.9",
    );
    good(
        "fd00::/64",
        "",
        "",
        "",
        "fd00::1-fd00::ffff:ffff:ffff:ffff via fd00::1",
    );
    good(
        "fd00::/126",
        "fd00::2",
        "",
        "",
        "fd00::2-fd00::3 via fd00::1",
    );
    good(
        "10.0.0.0/24",
        "::ffff:10.0.0.9",
        "",
        "",
        "10.0.0.9-10.0.0.254 via 10.0.0.1",
    );
}

#[test]
fn refused() {
    bad("", "", "", "", "range without a subnet");
    bad("10.0.0.0", "", "", "", "invalid CIDR address: 10.0.0.0");
    bad(
        "10.0.0.0/255.255.0.0",
        "",
        "",
        "",
        "invalid CIDR address: 10.0.0.0/255.255.0.0",
    );
    bad(
        "10.0.0.0/33",
        "",
        "",
        "",
        "invalid CIDR address: 10.0.0.0/33",
    );
    bad(
        "10.0.0.0/+8",
        "",
        "",
        "",
        "invalid CIDR address: 10.0.0.0/+8",
    );
    bad("10.0.0.0/", "", "", "", "invalid CIDR address: 10.0.0.0/");
    bad(
        "10.0.0.0/31",
        "",
        "",
        "",
        "Network 10.0.0.0/31 too small to allocate from",
    );
    bad(
        "fd00::/127",
        "",
        "",
        "",
        "Network fd00::/127 too small to allocate from",
    );
    bad(
        "::ffff:10.0.0.0/120",
        "",
        "",
        "",
        "IPNet IP and Mask version mismatch",
    );
    bad(
        "10.0.0.7/24",
        "",
        "",
        "",
        "Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
    );
    bad(
        "10.0.0.0/24",
        "10.0.1.1",
        "",
        "",
        "RangeStart 10.0.1.1 not in network 10.0.0.0/24",
    );
    bad(
        "10.0.0.0/24",
        "10.0.0.9",
        "10.0.0.8",
        "",
        "RangeStart 10.0.0.9 comes after RangeEnd 10.0.0.8",
    );
    bad(
        "10.0.0.0/24",
        "10.0.0.255",
        "",
        "",
        "RangeStart 10.0.0.255 is the broadcast address of 10.0.0.0/24, which no host can have",
    );
    bad(
        "10.0.0.0/24",
        "",
        "10.0.1.1",
        "",
        "RangeEnd 10.0.1.1 not in network 10.0.0.0/24",
    );
    bad(
        "10.0.0.0/24",
        "",
        "10.0.0.0",
        "",
        "RangeEnd 10.0.0.0 is the first address of 10.0.0.0/24, which no host can have",
    );
    bad(
        "10.0.0.0/24",
        "",
        "",
        "router",
        "invalid IP address: router",
    );
}

#[track_caller]
fn set(subnets: &[(&str, &str, &str)], expected: &str) {
    let texts: Vec<_> = subnets
        .iter()
        .map(|(subnet, start, end)| text(subnet, start, end, ""))
        .collect();
    let shown = match RangeSet::parse(&texts) {
        Ok(set) => set.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(shown, expected);
}

#[test]
fn sets() {
    set(&[], "empty range set");
    set(
        &[("10.0.0.0/24", "", ""), ("fd00::/64", "", "")],
        "mixed address families",
    );
    set(
        &[
            ("10.0.0.0/24", "10.0.0.5", "10.0.0.9"),
            ("10.0.0.0/24", "10.0.0.20", "10.0.0.29"),
        ],
        "10.0.0.5-10.0.0.9,10.0.0.20-10.0.0.29",
    );
    set(
        &[("10.0.0.0/16", "", ""), ("10.0.5.0/24", "", "")],
        "subnets 10.0.0.1-10.0.255.254 and 10.0.5.1-10.0.5.254 overlap",
    );
}
