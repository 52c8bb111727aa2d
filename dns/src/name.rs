//! Domain names in wire format, lower case.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

/// RFC 1035 section 2.3.4: a label has at most 63 bytes, a name 255 with its length bytes and the
/// root's zero.
const LONGEST_LABEL: usize = 63;
const LONGEST: usize = 255;

/// A domain name: length byte and label, one after the other, in lower case and without the root's
/// zero byte. Looked up by a slice of a packet, so nothing is copied to find one; copies share their bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Rc<[u8]>);

impl Name {
    /// Reads a name as people write it; a trailing dot is allowed. `None` when it can be no domain
    /// name: an empty or overlong label, white space, control characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 1);
        for label in text.split('.') {
            let plain = label
                .bytes()
                .all(|byte| byte > b' ' && byte != 0x7f && byte != b'\\' && byte != b'"');
            if label.is_empty() || label.len() > LONGEST_LABEL || !plain {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        (wire.len() < LONGEST).then(|| Self(wire.into()))
    }

    /// Length bytes and labels, without the root's zero.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// This name below `domain`; `None` when that is too long for a domain name.
    #[must_use]
    pub fn under(&self, domain: &[u8]) -> Option<Self> {
        let wire = [&self.0, domain].concat();
        (wire.len() < LONGEST).then(|| Self(wire.into()))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(f, &self.0)
    }
}

fn write_wire(f: &mut fmt::Formatter<'_>, wire: &[u8]) -> fmt::Result {
    let mut first = true;
    for label in labels(wire) {
        if !first {
            f.write_str(".")?;
        }
        first = false;
        for &byte in label {
            if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
                write!(f, "{}", char::from(byte))?;
            } else {
                // RFC 1035 section 5.1: any byte may be written so.
                write!(f, "\\{byte:03}")?;
            }
        }
    }
    if first { f.write_str(".") } else { Ok(()) }
}

/// A name of a packet as text.
#[must_use]
pub fn text(wire: &[u8]) -> String {
    struct Wire<'a>(&'a [u8]);
    impl fmt::Display for Wire<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_wire(f, self.0)
        }
    }
    Wire(wire).to_string()
}

/// The labels of a name in wire format; ends where the bytes make no sense.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first()?;
        let label = tail.get(..usize::from(*length))?;
        rest = &tail[label.len()..];
        Some(label)
    })
}

/// What stands before `suffix` when `name` ends with it at the border of a label; both in lower
/// case.
#[must_use]
pub fn strip<'a>(name: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let head = name.strip_suffix(suffix)?;
    // The same bytes may end a longer label: only a sum of whole labels counts.
    let mut at = 0;
    while at < head.len() {
        at += 1 + usize::from(head[at]);
    }
    (at == head.len()).then_some(head)
}

/// `localhost`, and everything below it (RFC 6761 section 6.3); the name is in lower case.
#[must_use]
pub fn is_localhost(name: &[u8]) -> bool {
    localhost(name).is_some()
}

/// What stands before `localhost` in a name that ends with it.
#[must_use]
pub fn localhost(name: &[u8]) -> Option<&[u8]> {
    strip(name, b"\x09localhost")
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 section 3.5,
/// RFC 3596 section 2.5).
#[must_use]
pub fn reverse(name: &[u8]) -> Option<IpAddr> {
    if let Some(head) = strip(name, b"\x07in-addr\x04arpa") {
        let mut bytes = [0; 4];
        let mut places = bytes.iter_mut().rev();
        for label in labels(head) {
            let text = std::str::from_utf8(label).ok()?;
            if text.len() > 1 && text.starts_with('0') || text.starts_with('+') {
                return None;
            }
            *places.next()? = text.parse().ok()?;
        }
        return places
            .next()
            .is_none()
            .then(|| Ipv4Addr::from(bytes).into());
    }
    let head = strip(name, b"\x03ip6\x04arpa")?;
    let mut bits = 0u128;
    let mut count = 0;
    for label in labels(head) {
        let [digit] = label else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        bits |= u128::from(nibble) << (4 * count);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wire: Option<&[u8]>) {
        assert_eq!(Name::parse(text).as_ref().map(Name::wire), wire, "{text}");
    }

    #[test]
    fn names_are_read_as_written() {
        check("Db", Some(b"\x02db"));
        check("a.B.", Some(b"\x01a\x01b"));
        check("my_web-1.x", Some(b"\x08my_web-1\x01x"));
        check("", None);
        check(".", None);
        check("a..b", None);
        check("a b", None);
        check("a\nb", None);
        check(&"x".repeat(64), None);
        check(
            &format!("{}a", "a.".repeat(126)),
            Some(&b"\x01a".repeat(127)),
        );
        check(&format!("{}a", "a.".repeat(127)), None);
    }

    #[test]
    fn suffixes_end_at_labels() {
        assert_eq!(strip(b"\x02db\x03net", b"\x03net"), Some(&b"\x02db"[..]));
        assert_eq!(strip(b"\x03net", b"\x03net"), Some(&b""[..]));
        // The label `a\x03net` ends with the same bytes.
        assert_eq!(strip(b"\x05a\x03net", b"\x03net"), None);
    }

    #[track_caller]
    fn check_reverse(text: &str, expected: Option<&str>) {
        let name = Name::parse(text).unwrap();
        assert_eq!(
            reverse(name.wire()),
            expected.map(|ip| ip.parse().unwrap()),
            "{text}"
        );
    }

    #[test]
    fn reverse_names() {
        check_reverse("2.0.17.172.in-addr.arpa", Some("172.17.0.2"));
        check_reverse("0.17.172.in-addr.arpa", None);
        check_reverse("1.2.0.17.172.in-addr.arpa", None);
        check_reverse("02.0.17.172.in-addr.arpa", None);
        check_reverse("256.0.17.172.in-addr.arpa", None);
        check_reverse(
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            Some("fd00::2"),
        );
        check_reverse("0.0.d.f.ip6.arpa", None);
        check_reverse("arpa", None);
    }

    #[test]
    fn text_escapes_what_is_no_letter() {
        assert_eq!(text(b"\x03a.b\x01\x00"), "a\\046b.\\000");
        assert_eq!(text(b""), ".");
    }
}
