//! Whose a lease is: the content of a lease file.

use std::collections::HashSet;

use pontoon_conf::{Attachment, ContainerId, IfName};

use crate::index::hash;

/// The attachment that a lease belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    container: String,
    key: String,
}

impl Owner {
    /// The owner of this container's interface.
    #[must_use]
    pub fn new(container: &ContainerId, interface: &IfName) -> Owner {
        Owner::of(container.as_str(), interface.as_str())
    }

    pub(crate) fn of(container: &str, interface: &str) -> Owner {
        Owner {
            container: container.to_owned(),
            // CR LF on Linux too: the reference writes and compares it so.
            key: format!("{container}\r\n{interface}"),
        }
    }

    /// What the lease file contains.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What it contained before interfaces were recorded (reference < 0.8).
    pub(crate) fn legacy_key(&self) -> &str {
        &self.container
    }
}

/// The owners that a GC has to spare.
#[derive(Debug, Default)]
pub struct Owners {
    keys: HashSet<String>,
    hashes: HashSet<u64>,
}

impl Owners {
    /// The owners of these attachments; a lease without an interface belongs
    /// to every attachment of its container.
    #[must_use]
    pub fn new(attachments: &[Attachment]) -> Owners {
        let mut owners = Owners::default();
        for attachment in attachments {
            owners.insert(&Owner::of(
                attachment.container_id.as_ref(),
                attachment.ifname.as_ref(),
            ));
        }
        owners
    }

    fn insert(&mut self, owner: &Owner) {
        for key in [owner.key(), owner.legacy_key()] {
            self.hashes.insert(hash(key.as_bytes()));
            self.keys.insert(key.to_owned());
        }
    }

    /// Whether a lease with content of this hash may be one of theirs.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }

    pub(crate) fn has(&self, key: &[u8]) -> bool {
        std::str::from_utf8(key).is_ok_and(|key| self.keys.contains(key))
    }
}

/// The key in a lease file: its content without white space around it.
pub(crate) fn key_of(content: &[u8]) -> &[u8] {
    content.trim_ascii()
}

/// Whether this could be a container id, alone or with an interface name.
/// Anything else in a lease file is left by a crash or written by hand.
pub(crate) fn is_key(key: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(key) else {
        return false;
    };
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    let first = lines
        .next()
        .is_some_and(|line| !line.is_empty() && !line.contains(char::is_whitespace));
    let second = lines
        .next()
        .is_none_or(|line| !line.is_empty() && !line.contains(char::is_whitespace));
    first && second && lines.next().is_none() && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expected: bool) {
        assert_eq!(is_key(key_of(content.as_bytes())), expected, "{content:?}");
    }

    #[test]
    fn keys() {
        check("abc\r\neth0", true);
        check("abc\neth0\n", true);
        check("abc", true);
        check("", false);
        check("\0\0\0\0", false);
        check("boot 5\nauto 10.0.0.0/24\n", false);
        check("a\r\nb\r\nc", false);
    }
}
