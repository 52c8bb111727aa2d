//! Names made of digests, as the reference plugins make them.

use sha2::{Digest, Sha512};

/// The first `digits` hex digits of the SHA-512 of the parts, one after the other: the reference's
/// formula for chain names.
pub(crate) fn sha512_hex(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha512::new();
    for part in parts {
        hash.update(part);
    }
    let bytes = hash.finalize();
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}
