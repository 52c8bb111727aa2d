//! The text that marks the owner of a kernel object: the same in both backends, so that `nft list
//! ruleset` and `iptables-save` read alike.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What nftables allows for a comment; iptables would take 255.
const LONGEST: usize = 128;
/// Hex digits of the hash that stands for what was cut off.
const HASH: usize = 16;

/// Who an object in the kernel belongs to. Written as a comment on each rule and element, so that
/// removal goes by owner and never by the shape of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Network name.
    pub network: String,
    /// Container id; empty for what belongs to the network as a whole.
    pub container: String,
    /// Interface name in the container; empty for what belongs to the network as a whole.
    pub interface: String,
}

impl Owner {
    /// The owner of what a network has as a whole.
    #[must_use]
    pub fn network(name: &str) -> Self {
        Self {
            network: name.to_owned(),
            container: String::new(),
            interface: String::new(),
        }
    }

    /// The comment on every rule and element of this owner: `pontoon NETWORK CONTAINER IFNAME`,
    /// or `pontoon NETWORK` for what the network has as a whole.
    ///
    /// Two owners never share a tag: one that would be too long, or that holds characters which
    /// the tools' own syntax cannot print inside quotes, ends with a hash of the whole owner.
    #[must_use]
    pub fn tag(&self) -> String {
        let fields = [&self.network, &self.container, &self.interface];
        let words: Vec<&str> = fields
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        let plain = format!("pontoon {}", words.join(" "));
        // A container without interface must not read like a network of that name, and words must
        // not be able to contain their own separator.
        let regular = match (self.container.is_empty(), self.interface.is_empty()) {
            (true, true) | (false, false) => words.iter().all(|word| word.bytes().all(printable)),
            _ => false,
        };
        if regular && plain.len() <= LONGEST {
            return plain;
        }
        let mut hash = Sha256::new();
        for field in fields {
            hash.update(field.as_bytes());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let mut tag: String = plain
            .chars()
            .map(|c| {
                if c == ' ' || u8::try_from(c).is_ok_and(printable) {
                    c
                } else {
                    '_'
                }
            })
            .take(LONGEST - HASH - 1)
            .collect();
        tag.push('#');
        for byte in digest.iter().take(HASH / 2) {
            tag.push_str(&format!("{byte:02x}"));
        }
        tag
    }
}

/// Whether a tag is that of an attachment: three words after `pontoon`, each of the form that the CNI
/// specification gives a network name, a container id and an interface name. Marks of a network, such
/// as the resolver's `pontoon NETWORK (dns PORT)`, are not.
#[must_use]
pub fn is_attachment_tag(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("pontoon ") else {
        return false;
    };
    let regular = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphanumeric())
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    // A tag that was too long ends with a hash: its interface may be cut off, and its container cut short.
    let (text, hash) = match rest.rsplit_once('#') {
        Some((text, hash)) => (text, Some(hash)),
        None => (rest, None),
    };
    let hashed =
        |hash: &str| hash.len() == HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hash.is_none_or(hashed) {
        return false;
    }
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [network, container, interface] => {
            regular(network)
                && regular(container)
                && !interface.contains(['/', ':', '(', ')'])
                && (hash.is_some() || (!interface.is_empty() && interface.len() <= 15))
        }
        [network, container] => hash.is_some() && regular(network) && regular(container),
        _ => false,
    }
}

/// May stand in a comment as it is. `#` is kept for the hash.
fn printable(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#' | b'`' | b'$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(network: &str, container: &str, interface: &str) -> Owner {
        Owner {
            network: network.to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
        }
    }

    #[track_caller]
    fn check(owner: &Owner, expected: &str) {
        assert_eq!(owner.tag(), expected);
    }

    #[test]
    fn readable_as_it_is() {
        check(&owner("lan", "c1", "eth0"), "pontoon lan c1 eth0");
        check(&Owner::network("lan"), "pontoon lan");
    }

    #[test]
    fn tags_of_attachments_are_told_from_marks_of_networks() {
        let long = owner("lan", &"x".repeat(110), "eth0123456789ab").tag();
        assert!(long.contains('#'), "{long}");
        for tag in ["pontoon lan c1 eth0", "pontoon a.b_c-d 0f eth0.100", &long] {
            assert!(is_attachment_tag(tag), "{tag}");
        }
        for mark in [
            "pontoon lan",
            "pontoon lan (dns 21053)",
            "pontoon lan (0123abcd)",
            "pontoon policy",
            "pontoon lan c1 (x)",
            "pontoon lan c1 an-interface-of-20-by",
            "lan c1 eth0 x",
        ] {
            assert!(!is_attachment_tag(mark), "{mark}");
        }
    }

    #[test]
    fn hostile_characters_are_replaced_and_hashed() {
        let quoted = owner("lan", "a\"; flush ruleset", "eth0").tag();
        assert!(
            quoted.starts_with("pontoon lan a_; flush ruleset eth0#"),
            "{quoted}"
        );
        assert_ne!(quoted, owner("lan", "a\'; flush ruleset", "eth0").tag());
    }

    #[test]
    fn long_owners_stay_distinct() {
        let long = "x".repeat(200);
        let first = owner("lan", &long, "eth0").tag();
        assert_eq!(first.len(), LONGEST);
        assert_ne!(first, owner("lan", &long, "eth1").tag());
    }

    #[test]
    fn a_space_does_not_move_words() {
        assert_ne!(
            owner("lan", "c1 eth0", "").tag(),
            owner("lan", "c1", "eth0").tag()
        );
        assert_ne!(
            owner("lan c1", "eth0", "").tag(),
            owner("lan", "c1", "eth0").tag()
        );
        assert_ne!(owner("lan", "c1", "").tag(), owner("lan", "", "c1").tag());
    }
}
