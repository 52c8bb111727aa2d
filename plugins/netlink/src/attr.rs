//! Netlink attributes as bytes: a writer and a reader.
//!
//! rtnetlink messages are built from netlink-packet-route's types. nf_tables and conntrack have no such types of an
//! acceptable licence, and of an answer a handful of attributes out of dozens is read: one attribute that a newer
//! kernel changed, or an alias that is not UTF-8, must not cost the whole answer. Hence this small codec. It is the
//! only one of the workspace: conntrack here and nf_tables in the `netfilter` crate are written and read with it.

/// `nla_type` flag of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
/// Both flag bits (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`) are no part of the kind.
const KIND_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Rounds up to netlink's alignment of four bytes.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// A growing list of attributes.
///
/// ```
/// use pontoon_netlink::attr::Attrs;
/// let mut attrs = Attrs::default();
/// attrs.nested(1, |tuple| tuple.u16be(3, 53));
/// assert_eq!(attrs.as_bytes(), [12, 0, 1, 0x80, 6, 0, 3, 0, 0, 53, 0, 0]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attrs {
    bytes: Vec<u8>,
}

impl Attrs {
    /// The attributes written so far, padded.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The attributes as an owned buffer.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Continues behind what a buffer already holds; [`Frames`](crate::frame::Frames) lends its own this way.
    pub(crate) fn continuing(bytes: Vec<u8>) -> Attrs {
        Attrs { bytes }
    }

    /// An attribute with a ready-made value. A value beyond 65,531 bytes does not fit the format and is cut there, which
    /// the kernel's policy then refuses.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX) - HEADER)];
        let length = (HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// An attribute that says all by being there.
    pub fn flag(&mut self, kind: u16) {
        self.bytes(kind, &[]);
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Two bytes in the machine's order, as rtnetlink has them.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Four bytes in the machine's order, as rtnetlink has them.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Two bytes in network order, as nfnetlink has them.
    pub fn u16be(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Four bytes in network order, as nfnetlink has them.
    pub fn u32be(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Eight bytes in network order, as nfnetlink has them.
    pub fn u64be(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A string with its closing zero.
    pub fn cstr(&mut self, kind: u16, value: &str) {
        let mut text = Vec::with_capacity(value.len() + 1);
        text.extend_from_slice(value.as_bytes());
        text.push(0);
        self.bytes(kind, &text);
    }

    /// An address: four bytes or sixteen.
    pub fn ip(&mut self, kind: u16, value: std::net::IpAddr) {
        match value {
            std::net::IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            std::net::IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Attributes that were written (or received) elsewhere.
    pub fn append(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// An attribute that holds what `fill` writes. `NLA_F_NESTED` is set: nf_tables insists on it.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start).min(usize::from(u16::MAX)) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One attribute of a message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr<'a> {
    /// The type, without its flag bits.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The value as one byte.
    #[must_use]
    pub fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as two bytes in the machine's order.
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.value.get(..2)?.try_into().ok()?))
    }

    /// The value as four bytes in the machine's order.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// The value as two bytes in network order.
    #[must_use]
    pub fn u16be(&self) -> Option<u16> {
        self.u16().map(u16::from_be)
    }

    /// The value as four bytes in network order.
    #[must_use]
    pub fn u32be(&self) -> Option<u32> {
        self.u32().map(u32::from_be)
    }

    /// The value as eight bytes in network order.
    #[must_use]
    pub fn u64be(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.get(..8)?.try_into().ok()?))
    }

    /// The value up to its first zero byte, foreign bytes replaced.
    #[must_use]
    pub fn text(&self) -> String {
        text(self.value)
    }

    /// The value as an address, by its length.
    #[must_use]
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value)
                .ok()
                .map(std::net::IpAddr::from),
            16 => <[u8; 16]>::try_from(self.value)
                .ok()
                .map(std::net::IpAddr::from),
            _ => None,
        }
    }

    /// The attributes inside.
    #[must_use]
    pub fn nested(&self) -> AttrReader<'a> {
        read(self.value)
    }
}

/// Walks attributes; ends at the first one whose length does not fit.
#[derive(Debug, Clone)]
pub struct AttrReader<'a> {
    rest: &'a [u8],
}

/// Bytes up to the first zero byte, those that are not UTF-8 replaced.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Reads a list of attributes.
#[must_use]
pub fn read(bytes: &[u8]) -> AttrReader<'_> {
    AttrReader { rest: bytes }
}

impl<'a> AttrReader<'a> {
    /// The first attribute of this kind.
    #[must_use]
    pub fn get(mut self, kind: u16) -> Option<Attr<'a>> {
        self.find(|attr| attr.kind == kind)
    }

    /// Follows nested attributes: the first one of each kind, each inside the one before.
    #[must_use]
    pub fn path<const N: usize>(self, kinds: [u16; N]) -> Option<Attr<'a>> {
        let mut reader = self;
        let mut found = None;
        for kind in kinds {
            let attr = reader.get(kind)?;
            reader = attr.nested();
            found = Some(attr);
        }
        found
    }
}

impl<'a> Iterator for AttrReader<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let header = self.rest.get(..HEADER)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND_MASK;
        let value = self.rest.get(HEADER..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some(Attr { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fill: impl FnOnce(&mut Attrs), expected: &[u8]) {
        let mut attrs = Attrs::default();
        fill(&mut attrs);
        assert_eq!(attrs.as_bytes(), expected);
    }

    #[test]
    fn numbers_and_text_are_padded_to_four() {
        check(|a| a.u8(1, 7), &[5, 0, 1, 0, 7, 0, 0, 0]);
        check(|a| a.u16be(2, 0x1234), &[6, 0, 2, 0, 0x12, 0x34, 0, 0]);
        check(|a| a.u32be(3, 1), &[8, 0, 3, 0, 0, 0, 0, 1]);
        check(|a| a.u64be(4, 1), &[12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        check(|a| a.cstr(5, "ab"), &[7, 0, 5, 0, b'a', b'b', 0, 0]);
        check(|a| a.flag(6), &[4, 0, 6, 0]);
    }

    #[test]
    fn nested_lengths_count_what_is_inside() {
        check(
            |a| a.nested(1, |a| a.nested(2, |a| a.u8(3, 9))),
            &[16, 0, 1, 0x80, 12, 0, 2, 0x80, 5, 0, 3, 0, 9, 0, 0, 0],
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut attrs = Attrs::default();
        attrs.u16be(1, 8080);
        attrs.nested(2, |inner| inner.cstr(3, "eth0"));
        let mut reader = read(attrs.as_bytes());
        assert_eq!(reader.next().and_then(|a| a.u16be()), Some(8080));
        let nested = reader.next().expect("the nested attribute");
        assert_eq!(
            (nested.kind, nested.nested().get(3).map(|a| a.text())),
            (2, Some("eth0".into()))
        );
        let path = |kinds: [u16; 2]| read(attrs.as_bytes()).path(kinds).map(|a| a.text());
        assert_eq!(path([2, 3]), Some("eth0".into()));
        assert_eq!((path([2, 4]), path([5, 3])), (None, None));
        assert_eq!(reader.next(), None);
    }

    #[test]
    fn a_lying_length_ends_the_walk() {
        for bytes in [
            &[3, 0, 1, 0][..],
            &[200, 0, 1, 0, 1, 2],
            &[4, 0],
            &[0, 0, 0, 0],
        ] {
            assert_eq!(read(bytes).next(), None, "{bytes:?}");
        }
    }
}
