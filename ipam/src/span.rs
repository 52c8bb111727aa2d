//! Runs of consecutive addresses of one family, and the arithmetic on them.
//!
//! Addresses are compared and counted as `u128`, IPv4 in the low 32 bits, so
//! that one algorithm serves both families and a /64 costs what a /24 costs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address family of a [`Span`] or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Address length in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The highest number an address of this family can have.
    fn highest(self) -> u128 {
        match self {
            Family::V4 => u128::from(u32::MAX),
            Family::V6 => u128::MAX,
        }
    }

    /// The address with this number; bits beyond the family's length are cut.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            // The mask makes the narrowing exact.
            Family::V4 => IpAddr::V4(Ipv4Addr::from((number & self.highest()) as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

/// The address as a number, IPv4 in the low 32 bits.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Consecutive addresses, both ends included; never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    family: Family,
    first: u128,
    last: u128,
}

impl Span {
    /// From the first to the last address; `None` when the families differ or
    /// the order is wrong.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Span> {
        let family = Family::of(first);
        if family != Family::of(last) || number(first) > number(last) {
            return None;
        }
        Some(Span {
            family,
            first: number(first),
            last: number(last),
        })
    }

    /// Just this address.
    #[must_use]
    pub fn one(address: IpAddr) -> Span {
        Span {
            family: Family::of(address),
            first: number(address),
            last: number(address),
        }
    }

    /// All addresses of a network, its own and its broadcast address included.
    #[must_use]
    pub fn network(address: IpAddr, prefix: u8) -> Span {
        let family = Family::of(address);
        let host_bits = u32::from(family.bits().saturating_sub(prefix));
        // A shift by 128 is not defined: ::/0 has every bit as a host bit.
        let hosts = 1_u128
            .checked_shl(host_bits)
            .map_or(u128::MAX, |size| size - 1);
        let first = number(address) & !hosts;
        Span {
            family,
            first,
            last: first | hosts,
        }
    }

    /// The family of the addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The lowest address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.family.address(self.first)
    }

    /// The highest address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.family.address(self.last)
    }

    /// How many addresses it has; one fewer than it has for all of IPv6.
    #[must_use]
    pub fn size(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The lowest of its addresses that `taken` does not name.
    pub fn lowest_but(&self, taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let mut addresses = (self.first..=self.last).map(|number| self.family.address(number));
        addresses.find(|address| !taken(*address))
    }

    pub(crate) fn numbers(&self) -> (u128, u128) {
        (self.first, self.last)
    }

    /// Whether the address lies inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family == Family::of(address) && (self.first..=self.last).contains(&number(address))
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Span) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// What is left above an address of this span; `None` when nothing is.
    pub(crate) fn above(&self, address: IpAddr) -> Option<Span> {
        let first = number(address).checked_add(1)?;
        (first <= self.last).then_some(Span { first, ..*self })
    }

    /// The part up to and with an address of this span.
    pub(crate) fn up_to(&self, address: IpAddr) -> Span {
        Span {
            last: number(address).min(self.last),
            ..*self
        }
    }

    /// What is left below and above when `hole` is cut out.
    pub(crate) fn without(&self, hole: &Span) -> [Option<Span>; 2] {
        if !self.overlaps(hole) {
            return [Some(*self), None];
        }
        let below = (hole.first > self.first).then(|| Span {
            last: hole.first - 1,
            ..*self
        });
        let above = (hole.last < self.last).then(|| Span {
            first: hole.last + 1,
            ..*self
        });
        [below, above]
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The spans in order, those that overlap or touch as one.
pub(crate) fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(before)
                if before.family == span.family && before.last >= span.first.saturating_sub(1) =>
            {
                before.last = before.last.max(span.last);
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// Cuts holes, merged ones, out of every span, keeping the order of the spans.
pub(crate) fn cut(spans: Vec<Span>, holes: &[Span]) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len());
    for span in spans {
        let before = |hole: &Span| (hole.family, hole.last) < (span.family, span.first);
        let from = holes.partition_point(before);
        let mut rest = Some(span);
        for hole in &holes[from..] {
            let Some(span) = rest.filter(|span| span.overlaps(hole)) else {
                break;
            };
            let [below, above] = span.without(hole);
            left.extend(below);
            rest = above;
        }
        left.extend(rest);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        let (first, last) = text.split_once('-').expect("a-b");
        Span::new(first.parse().expect("first"), last.parse().expect("last")).expect("span")
    }

    #[track_caller]
    fn cuts(start: &str, holes: &[&str], expected: &[&str]) {
        let holes = merge(holes.iter().map(|hole| span(hole)).collect());
        let left = cut(vec![span(start)], &holes);
        assert_eq!(
            left.iter().map(Span::to_string).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn holes() {
        cuts(
            "10.0.0.0-10.0.0.9",
            &["10.0.0.3-10.0.0.4"],
            &["10.0.0.0-10.0.0.2", "10.0.0.5-10.0.0.9"],
        );
        cuts(
            "10.0.0.0-10.0.0.9",
            &["10.0.0.0-10.0.0.0"],
            &["10.0.0.1-10.0.0.9"],
        );
        cuts(
            "10.0.0.0-10.0.0.9",
            &["10.0.0.8-10.0.1.0"],
            &["10.0.0.0-10.0.0.7"],
        );
        cuts("10.0.0.0-10.0.0.9", &["9.0.0.0-11.0.0.0"], &[]);
        cuts("10.0.0.0-10.0.0.9", &["::1-::2"], &["10.0.0.0-10.0.0.9"]);
        cuts("::-::9", &["::3-::3", "::5-::9"], &["::-::2", "::4-::4"]);
        // In any order, and overlapping each other.
        cuts(
            "10.0.0.0-10.0.0.9",
            &[
                "10.0.0.7-10.0.0.7",
                "10.0.0.2-10.0.0.5",
                "10.0.0.3-10.0.0.3",
                "::-::9",
            ],
            &[
                "10.0.0.0-10.0.0.1",
                "10.0.0.6-10.0.0.6",
                "10.0.0.8-10.0.0.9",
            ],
        );
    }

    #[track_caller]
    fn network(address: &str, prefix: u8, expected: &str) {
        assert_eq!(
            Span::network(address.parse().expect("address"), prefix).to_string(),
            expected
        );
    }

    #[test]
    fn networks() {
        network("10.1.2.3", 16, "10.1.0.0-10.1.255.255");
        network("10.1.2.3", 32, "10.1.2.3-10.1.2.3");
        network("0.0.0.0", 0, "0.0.0.0-255.255.255.255");
        network("fd00::5", 64, "fd00::-fd00::ffff:ffff:ffff:ffff");
        network("::", 0, "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }

    #[test]
    fn ends_of_the_address_space() {
        let all = Span::network("::".parse().expect("address"), 0);
        assert_eq!(all.above(all.last()), None);
        assert_eq!(
            Span::new(
                "10.0.0.2".parse().expect("a"),
                "10.0.0.1".parse().expect("b")
            ),
            None
        );
        assert_eq!(
            Span::new("10.0.0.2".parse().expect("a"), "::1".parse().expect("b")),
            None
        );
    }
}
