//! The words that tools print for numbers.

/// Protocols, by the names that both tools print.
const PROTOCOLS: [(u64, &str); 6] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (58, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
];

/// Types of ICMP, and of ICMPv6 under the names that are its own.
const ICMP: [(u64, &str); 12] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (143, "mld2-listener-report"),
];

/// The name of a protocol that may be written as a number.
pub(super) fn protocol(text: &str) -> String {
    let text = match text {
        "ipv6-icmp" => "icmpv6",
        other => other,
    };
    let known = text
        .parse()
        .ok()
        .and_then(|number: u64| PROTOCOLS.iter().find(|(known, _)| *known == number));
    known.map_or(text, |(_, name)| name).to_owned()
}

/// The number of a type of ICMP that may be written as a word.
pub(super) fn icmp(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        ICMP.iter()
            .find(|(_, name)| *name == text)
            .map(|(number, _)| *number)
    })
}
