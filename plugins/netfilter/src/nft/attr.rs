//! Netlink attributes: written into a byte vector, read back as an iterator. nf_tables wants all
//! numbers in network byte order.

/// Set on an attribute whose payload is again attributes.
const NESTED: u16 = 1 << 15;
/// The upper two bits of the type are flags.
const KIND: u16 = (1 << 14) - 1;
/// Length of an attribute's own header.
const HEADER: usize = 4;

/// Appends one attribute. The payload must fit 16 bits of length, which everything here does by
/// construction: names are cut, lists of elements are split.
pub(super) fn put(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    nest_with(out, kind, |out| out.extend_from_slice(payload));
}

/// Appends a 32-bit number.
pub(super) fn put_u32(out: &mut Vec<u8>, kind: u16, value: u32) {
    put(out, kind, &value.to_be_bytes());
}

/// Appends a text with the closing NUL that the kernel insists on.
pub(super) fn put_str(out: &mut Vec<u8>, kind: u16, text: &str) {
    nest_with(out, kind, |out| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    });
}

/// Appends an attribute made of attributes.
pub(super) fn nest(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    nest_with(out, kind | NESTED, fill);
}

fn nest_with(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_ne_bytes());
    fill(out);
    // A longer payload is refused by the kernel's own validation rather than cut silently.
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Walks over attributes; stops at the first malformed one.
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Payload of the first attribute of this kind.
    pub(super) fn find(bytes: &'a [u8], kind: u16) -> Option<&'a [u8]> {
        Self::new(bytes).find_map(|(found, payload)| (found == kind).then_some(payload))
    }

    /// Follows a chain of nested attributes.
    pub(super) fn path(bytes: &'a [u8], kinds: &[u16]) -> Option<&'a [u8]> {
        kinds
            .iter()
            .try_fold(bytes, |bytes, kind| Self::find(bytes, *kind))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & KIND;
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// Text up to its NUL.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A 32-bit number.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        nest(&mut bytes, 3, |out| {
            put_str(out, 1, "br0");
            put_u32(out, 2, 7);
        });
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(
            Attributes::path(&bytes, &[3, 1]).map(text),
            Some("br0".to_owned())
        );
        assert_eq!(Attributes::path(&bytes, &[3, 2]).and_then(number), Some(7));
        assert_eq!(Attributes::path(&bytes, &[3, 4]), None);
    }

    #[test]
    fn malformed_input_ends_the_walk() {
        for bytes in [
            &[][..],
            &[0][..],
            &[0, 0, 1, 0][..],
            &[9, 0, 1, 0, 5][..],
            &[3, 0, 1, 0][..],
        ] {
            assert_eq!(Attributes::new(bytes).count(), 0, "{bytes:?}");
        }
    }
}
