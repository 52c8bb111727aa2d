//! The `exclude` key: addresses that are never handed out.

use std::net::IpAddr;

use crate::range::{self, RangeError};
use crate::span::Span;

/// An entry of `exclude` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "exclude: {entry:?} is not an address, a network in CIDR notation without host bits, or a range first-last of one family"
)]
pub struct ExcludeError {
    /// The entry as written.
    pub entry: String,
}

/// Addresses that are never given out, not even on request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions(Vec<Span>);

impl Exclusions {
    /// Reads entries such as `10.0.0.5`, `10.0.0.64/28`, `10.0.0.10-10.0.0.20`.
    ///
    /// # Errors
    /// With the entry that is no address, subnet or range, or is of two families.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Exclusions, ExcludeError> {
        let mut spans = entries
            .iter()
            .map(|entry| parse_entry(entry.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        spans.sort_unstable();
        Ok(Exclusions(spans))
    }

    /// The entries as spans.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// Whether this address is kept back.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|span| span.contains(address))
    }
}

fn parse_entry(entry: &str) -> Result<Span, ExcludeError> {
    let error = || ExcludeError {
        entry: entry.to_owned(),
    };
    let address = |text: &str| range::parse_address(text.trim()).map_err(|_: RangeError| error());
    if entry.contains('/') {
        let (network, prefix) = range::parse_mapped_network(entry).map_err(|_| error())?;
        let span = Span::network(network, prefix);
        return (span.first() == network).then_some(span).ok_or_else(error);
    }
    match entry.split_once('-') {
        Some((first, last)) => Span::new(address(first)?, address(last)?).ok_or_else(error),
        None => Ok(Span::one(address(entry)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: &str, expected: Option<&str>) {
        let spans = Exclusions::parse(&[entry]).ok();
        let shown = spans
            .and_then(|spans| spans.spans().next())
            .map(|span| span.to_string());
        assert_eq!(shown.as_deref(), expected, "{entry}");
    }

    #[test]
    fn entries() {
        check("10.0.0.5", Some("10.0.0.5-10.0.0.5"));
        check("10.0.0.64/28", Some("10.0.0.64-10.0.0.79"));
        check("10.0.0.10-10.0.0.20", Some("10.0.0.10-10.0.0.20"));
        check("10.0.0.10 - 10.0.0.20", Some("10.0.0.10-10.0.0.20"));
        check("::ffff:10.0.0.5", Some("10.0.0.5-10.0.0.5"));
        check("::ffff:10.0.0.64/124", Some("10.0.0.64-10.0.0.79"));
        check("::ffff:10.0.0.64/28", None);
        check("fd00::5", Some("fd00::5-fd00::5"));
        check("fd00::/120", Some("fd00::-fd00::ff"));
        check("10.0.0.65/28", None);
        check("10.0.0.20-10.0.0.10", None);
        check("10.0.0.1-fd00::1", None);
        check("", None);
        check("router", None);
    }

    #[test]
    fn the_error_names_the_entry() {
        let error = Exclusions::parse(&["10.0.0.5", "nine"]).expect_err("bad");
        assert!(error.to_string().contains("\"nine\""), "{error}");
    }
}
