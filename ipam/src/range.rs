//! Ranges and range sets: what the administrator wrote, checked and completed.
//!
//! The wording of the errors is the reference plugin's where tools and
//! operators match on it.

use std::fmt;
use std::net::IpAddr;

use pontoon_conf::keys::AddressRange;

use crate::span::{Family, Span};

/// Why a range or a set of ranges cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RangeError {
    #[error("range without a subnet")]
    NoSubnet,
    #[error("invalid CIDR address: {0}")]
    BadSubnet(String),
    #[error("invalid IP address: {0}")]
    BadAddress(String),
    #[error("Network {0} too small to allocate from")]
    TooSmall(String),
    #[error("IPNet IP and Mask version mismatch")]
    MixedNotation,
    #[error(
        "Network has host bits set. For a subnet mask of length {0} the network address is {1}"
    )]
    HostBits(u8, IpAddr),
    #[error("RangeStart {0} not in network {1}")]
    StartOutside(IpAddr, String),
    #[error("RangeEnd {0} not in network {1}")]
    EndOutside(IpAddr, String),
    #[error("RangeStart {0} comes after RangeEnd {1}")]
    StartAfterEnd(IpAddr, IpAddr),
    #[error("RangeStart {0} is the broadcast address of {1}, which no host can have")]
    StartAtBroadcast(IpAddr, String),
    #[error("RangeEnd {0} is the first address of {1}, which no host can have")]
    EndAtNetwork(IpAddr, String),
    #[error("empty range set")]
    EmptySet,
    #[error("mixed address families")]
    MixedFamilies,
    #[error("subnets {0} and {1} overlap")]
    Overlap(String, String),
}

/// A checked range: part of one subnet, with the subnet's gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    subnet: IpAddr,
    prefix: u8,
    gateway: IpAddr,
    span: Span,
}

impl Range {
    /// Checks what was written and fills in what was left out.
    ///
    /// # Errors
    /// With the field that is wrong: a subnet too small, or an address outside of it.
    pub fn parse(text: &AddressRange) -> Result<Range, RangeError> {
        let written = text.subnet.as_deref().ok_or(RangeError::NoSubnet)?;
        let (subnet, prefix) = parse_network(written)?;
        let family = Family::of(subnet);
        if prefix > family.bits() - 2 {
            return Err(RangeError::TooSmall(written.to_owned()));
        }
        let whole = Span::network(subnet, prefix);
        if whole.first() != subnet {
            return Err(RangeError::HostBits(prefix, whole.first()));
        }
        let (lowest, highest) = whole.numbers();
        // A v4 broadcast address is no host's; v6 has none.
        let highest = match family {
            Family::V4 => highest - 1,
            Family::V6 => highest,
        };
        let gateway = match given(&text.gateway) {
            Some(gateway) => parse_address(gateway)?,
            None => family.address(lowest + 1),
        };
        let network = || format!("{subnet}/{prefix}");
        let end = given(&text.range_end).map(parse_address).transpose()?;
        let start = given(&text.range_start).map(parse_address).transpose()?;
        if let Some(start) = start.filter(|start| !whole.contains(*start)) {
            return Err(RangeError::StartOutside(start, network()));
        }
        if let Some(end) = end.filter(|end| !whole.contains(*end)) {
            return Err(RangeError::EndOutside(end, network()));
        }
        let first = start.unwrap_or(family.address(lowest + 1));
        let last = end.unwrap_or(family.address(highest));
        let span = Span::new(first, last).ok_or_else(|| match (start, end) {
            (Some(start), None) => RangeError::StartAtBroadcast(start, network()),
            (None, Some(end)) => RangeError::EndAtNetwork(end, network()),
            _ => RangeError::StartAfterEnd(first, last),
        })?;
        Ok(Range {
            subnet,
            prefix,
            gateway,
            span,
        })
    }

    /// The subnet's own address.
    #[must_use]
    pub fn subnet(&self) -> IpAddr {
        self.subnet
    }

    /// The subnet's prefix length.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The gateway of the subnet.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// First to last address of the range.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The addresses of the subnet that no host may have.
    pub(crate) fn unusable(&self) -> Vec<Span> {
        let whole = Span::network(self.subnet, self.prefix);
        match whole.family() {
            Family::V4 => vec![Span::one(whole.first()), Span::one(whole.last())],
            // The first address is the subnet-router anycast (RFC 4291, 2.6.1).
            Family::V6 => vec![Span::one(whole.first())],
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.span.fmt(f)
    }
}

/// Ranges of one family that serve one address of an attachment; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// In the order written.
    ranges: Vec<Range>,
    /// Their numbers, in the order of addresses.
    sorted: Vec<usize>,
}

impl RangeSet {
    /// Checks every range, and that they fit together.
    ///
    /// # Errors
    /// With the field that is wrong: a subnet too small, or an address outside of it.
    pub fn parse(texts: &[AddressRange]) -> Result<RangeSet, RangeError> {
        let ranges = texts
            .iter()
            .map(Range::parse)
            .collect::<Result<Vec<_>, _>>()?;
        let family = ranges.first().ok_or(RangeError::EmptySet)?.span.family();
        if ranges.iter().any(|range| range.span.family() != family) {
            return Err(RangeError::MixedFamilies);
        }
        let mut sorted: Vec<usize> = (0..ranges.len()).collect();
        sorted.sort_by_key(|number| ranges[*number].span);
        // In the order of addresses, ranges that overlap stand beside each other.
        for pair in sorted.windows(2) {
            let (one, other) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            if ranges[one].span.overlaps(&ranges[other].span) {
                let (one, other) = (&ranges[one], &ranges[other]);
                return Err(RangeError::Overlap(one.to_string(), other.to_string()));
            }
        }
        Ok(RangeSet { ranges, sorted })
    }

    /// The ranges, in the order written.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The family of all its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.ranges
            .first()
            .map_or(Family::V4, |range| range.span.family())
    }

    /// The number of the range that has this address.
    fn position(&self, address: IpAddr) -> Option<usize> {
        let one = Span::one(address);
        let after = |number: &usize| self.ranges[*number].span <= one;
        let at = self.sorted.partition_point(after);
        // A span of one address sorts among those that begin with it by its end.
        let near = self.sorted[at.saturating_sub(1)..].iter().take(2);
        near.copied()
            .find(|number| self.ranges[*number].span.contains(address))
    }

    /// The range that has this address.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.position(address).map(|number| &self.ranges[number])
    }

    /// Whether two sets could hand out the same address.
    #[must_use]
    pub fn overlaps(&self, other: &RangeSet) -> bool {
        first_overlap(&[self, other]).is_some()
    }
}

/// Every range with the number of its set, in the order of addresses.
pub(crate) fn places(sets: &[&RangeSet]) -> Vec<(Span, usize)> {
    let numbered = |(number, set): (usize, &&RangeSet)| -> Vec<(Span, usize)> {
        let spans = set.ranges.iter().map(|range| range.span);
        spans.map(|span| (span, number)).collect()
    };
    let mut places: Vec<(Span, usize)> = sets.iter().enumerate().flat_map(numbered).collect();
    places.sort_unstable();
    places
}

/// The numbers of two sets that could hand out the same address.
pub(crate) fn first_overlap(sets: &[&RangeSet]) -> Option<(usize, usize)> {
    if sets.len() < 2 {
        return None;
    }
    let places = places(sets);
    let overlapping = |pair: &&[(Span, usize)]| pair[0].0.overlaps(&pair[1].0);
    let pair = places.windows(2).find(overlapping)?;
    Some((pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1)))
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message has room for the beginning.
        const SHOWN: usize = 8;
        for (i, range) in self.ranges.iter().take(SHOWN).enumerate() {
            write!(f, "{}{range}", if i == 0 { "" } else { "," })?;
        }
        match self.ranges.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// An empty string where an address may stand means that none is given.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// `address/length`, host bits allowed; a bare address or a dotted mask is not
/// a network.
pub(crate) fn parse_network(text: &str) -> Result<(IpAddr, u8), RangeError> {
    let bad = || RangeError::BadSubnet(text.to_owned());
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let written: IpAddr = address.parse().map_err(|_| bad())?;
    // `parse` alone would take "+8".
    if !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let prefix: u8 = length.parse().map_err(|_| bad())?;
    let address = written.to_canonical();
    if prefix > Family::of(written).bits() {
        return Err(bad());
    }
    if Family::of(address) != Family::of(written) {
        return Err(RangeError::MixedNotation);
    }
    Ok((address, prefix))
}

/// As [`parse_network`]; in IPv4-mapped notation the length counts from bit 96 on. The subnet of a
/// range is refused in that notation, as by the reference plugin.
pub(crate) fn parse_mapped_network(text: &str) -> Result<(IpAddr, u8), RangeError> {
    match parse_network(text) {
        Err(RangeError::MixedNotation) => text
            .parse::<pontoon_conf::Cidr>()
            .map(|cidr| (cidr.addr(), cidr.prefix()))
            .map_err(|_| RangeError::MixedNotation),
        read => read,
    }
}

/// A bare address; one in IPv4-mapped notation means the IPv4 address.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, RangeError> {
    pontoon_conf::address(text).map_err(|_| RangeError::BadAddress(text.to_owned()))
}

/// The spans of a set in the order in which they are tried after `last`.
pub(crate) fn round_robin(set: &RangeSet, last: Option<IpAddr>) -> Vec<Span> {
    let spans: Vec<Span> = set.ranges.iter().map(Range::span).collect();
    let at = last.and_then(|last| Some((set.position(last)?, last)));
    let Some((at, last)) = at else {
        return spans;
    };
    let mut order: Vec<Span> = spans[at].above(last).into_iter().collect();
    order.extend(&spans[at + 1..]);
    order.extend(&spans[..at]);
    order.push(spans[at].up_to(last));
    order
}

/// Every subnet's unusable addresses, once for each range of the set.
pub(crate) fn unusable(set: &RangeSet) -> impl Iterator<Item = Span> {
    set.ranges.iter().flat_map(Range::unusable)
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
