//! Which address comes next. Pure: what is taken is asked through a closure.

use std::net::IpAddr;

use crate::exclude::Exclusions;
use crate::range::{self, Range, RangeSet};
use crate::span::{self, Span};

/// An address given out, with what the container needs beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The address.
    pub address: IpAddr,
    /// The prefix length of its subnet.
    pub prefix: u8,
    /// The gateway of its subnet.
    pub gateway: IpAddr,
}

impl Grant {
    fn from(range: &Range, address: IpAddr) -> Grant {
        Grant {
            address,
            prefix: range.prefix(),
            gateway: range.gateway(),
        }
    }
}

/// Why a requested address is never given, taken or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RequestError {
    #[error("{address} not in range set {set}")]
    Outside { address: IpAddr, set: String },
    #[error("requested ip {0} is subnet's gateway")]
    Gateway(IpAddr),
    #[error("requested ip {0} is the network or broadcast address of its subnet")]
    Unusable(IpAddr),
    #[error("requested ip {0} is excluded: the network's configuration lists it under \"exclude\"")]
    Excluded(IpAddr),
}

/// All range sets of a network, with what is kept back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    sets: Vec<RangeSet>,
    exclude: Exclusions,
    /// What no set gives out: excluded addresses and the gateways of every set. A subnet may be split
    /// over two sets, and the gateway named in one must not be given out by the other.
    kept: Vec<Span>,
}

impl Pool {
    /// A pool of these sets; each attachment gets one address from each.
    #[must_use]
    pub fn new(sets: Vec<RangeSet>, exclude: Exclusions) -> Pool {
        let ranges = sets.iter().flat_map(RangeSet::ranges);
        let spans = ranges.map(Range::gateway).map(Span::one);
        let kept = span::merge(exclude.spans().chain(spans).collect());
        Pool {
            sets,
            exclude,
            kept,
        }
    }

    /// The sets, in the effective order.
    #[must_use]
    pub fn sets(&self) -> &[RangeSet] {
        &self.sets
    }

    /// All addresses that the sets give out: without the network, broadcast and gateway addresses, and
    /// without the excluded ones.
    #[must_use]
    pub fn usable(&self) -> Vec<Span> {
        let sets = self.sets.iter();
        sets.flat_map(|set| self.candidates(set, None)).collect()
    }

    /// Which of the requested addresses each set gives: the first that it has; and those for which
    /// there is no set, or no set any more.
    #[must_use]
    pub fn assign(&self, requested: &[IpAddr]) -> (Vec<Option<IpAddr>>, Vec<IpAddr>) {
        let mut assigned = vec![None; self.sets.len()];
        let mut left = Vec::new();
        if requested.is_empty() {
            return (assigned, left);
        }
        let places = range::places(&self.sets.iter().collect::<Vec<_>>());
        for &address in requested {
            let place = (Span::one(address), usize::MAX);
            let at = places.partition_point(|other| *other <= place);
            let mut near = places[at.saturating_sub(1)..].iter().take(2);
            let found = near.find(|(span, _)| span.contains(address));
            match found.map(|(_, number)| &mut assigned[*number]) {
                Some(free @ None) => *free = Some(address),
                _ => left.push(address),
            }
        }
        (assigned, left)
    }

    /// Runs of addresses to try for a set, in order: from the one after `last`
    /// round to `last` itself, so that a freed address rests as long as it can.
    #[must_use]
    pub fn candidates(&self, set: &RangeSet, last: Option<IpAddr>) -> Vec<Span> {
        let spans = span::cut(range::round_robin(set, last), &self.kept);
        span::cut(spans, &span::merge(range::unusable(set).collect()))
    }

    /// The next free address of a set. `first_free` finds the lowest free
    /// address of a span.
    ///
    /// # Errors
    /// Those of `first_free`.
    pub fn next<E>(
        &self,
        set: &RangeSet,
        last: Option<IpAddr>,
        mut first_free: impl FnMut(&Span) -> Result<Option<IpAddr>, E>,
    ) -> Result<Option<Grant>, E> {
        for span in self.candidates(set, last) {
            if let Some(address) = first_free(&span)? {
                return Ok(set
                    .range_of(address)
                    .map(|range| Grant::from(range, address)));
            }
        }
        Ok(None)
    }

    /// The grant for an address asked for by name, if policy allows it.
    ///
    /// # Errors
    /// When the address lies outside of the set, is excluded, or is never given out.
    pub fn requested(&self, set: &RangeSet, address: IpAddr) -> Result<Grant, RequestError> {
        let range = set.range_of(address).ok_or_else(|| RequestError::Outside {
            address,
            set: set.to_string(),
        })?;
        if self.gateways().any(|gateway| gateway == address) {
            return Err(RequestError::Gateway(address));
        }
        if range.unusable().iter().any(|span| span.contains(address)) {
            return Err(RequestError::Unusable(address));
        }
        if self.exclude.contains(address) {
            return Err(RequestError::Excluded(address));
        }
        Ok(Grant::from(range, address))
    }

    /// Gateways of every set.
    fn gateways(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.sets
            .iter()
            .flat_map(RangeSet::ranges)
            .map(Range::gateway)
    }
}

#[cfg(test)]
#[path = "allocator_tests.rs"]
mod tests;
