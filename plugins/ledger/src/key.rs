//! The key of an attachment.

use std::fmt::Write as _;

use pontoon_netfilter::Owner;
use pontoon_netlink::Link;
use sha2::{Digest, Sha256};

/// An attachment: network, container and interface name together are its key everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Network name.
    pub network: String,
    /// Container id.
    pub container: String,
    /// Interface name in the container.
    pub interface: String,
}

impl Key {
    /// The tag that everything of the attachment carries in the kernel.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            network: self.network.clone(),
            container: self.container.clone(),
            interface: self.interface.clone(),
        }
    }

    /// Name of the host's end of the attachment's veth pair: `veth` and 11 hex digits, 15 bytes in all
    /// (`IFNAMSIZ` - 1). A pure function of the attachment, so that the link is found by name when the
    /// namespace and every record are gone.
    #[must_use]
    pub fn host_interface(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.network, &self.container, &self.interface] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let mut name = String::from("veth");
        for byte in hash.finalize().iter().take(6) {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name.truncate(15);
        name
    }

    /// Whether a link of the name [`Key::host_interface`] is the host's end of the attachment's veth pair.
    /// One without alias is: the ADD that made it was killed before it could write one.
    #[must_use]
    pub fn is_host_end(&self, link: &Link) -> bool {
        link.kind.as_deref() == Some("veth") && self.may_own(link)
    }

    /// Whether a link carries no tag of another attachment: its alias is this one's tag, or none.
    #[must_use]
    pub fn may_own(&self, link: &Link) -> bool {
        let alias = link.alias.as_deref().unwrap_or_default();
        alias.is_empty() || alias == self.owner().tag()
    }

    /// Reads `NETWORK/CONTAINER:IFNAME`, which [`Key::path`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (network, file) = text.split_once('/')?;
        Self::of_file(network, file)
    }

    /// Reads a file name `CONTAINER:IFNAME` below the folder of a network. `None` for any other
    /// file: a draft, or what another program has put there.
    #[must_use]
    pub fn of_file(network: &str, file: &str) -> Option<Self> {
        let (container, interface) = file.split_once(':')?;
        Self::of_parts(network, container, interface)
    }

    /// A key, when each part may be a file name.
    pub(crate) fn of_parts(network: &str, container: &str, interface: &str) -> Option<Self> {
        let plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
        let fits = plain(network) && plain(container);
        (fits && !interface.is_empty() && !interface.contains('/')).then(|| Self {
            network: network.to_owned(),
            container: container.to_owned(),
            interface: interface.to_owned(),
        })
    }

    /// The name of the attachment's file below the folder of its network.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}:{}", self.container, self.interface)
    }

    /// The attachment in one word, `NETWORK/CONTAINER:IFNAME`: a path below a folder of records.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.network, self.file_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> Key {
        Key {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        }
    }

    #[test]
    fn names_are_stable_distinct_and_fit() {
        let name = key("a").host_interface();
        assert_eq!(name.len(), 15);
        assert!(name.starts_with("veth"));
        assert_eq!(name, key("a").host_interface());
        assert_ne!(name, key("b").host_interface());
        // The parts cannot run into each other.
        let shifted = Key {
            network: "neta".into(),
            ..key("")
        };
        assert_ne!(shifted.host_interface(), key("a").host_interface());
    }

    #[test]
    fn a_key_survives_its_text() {
        let key = Key {
            network: "lan".into(),
            container: "c-1.x".into(),
            interface: "eth0".into(),
        };
        assert_eq!(key.path(), "lan/c-1.x:eth0");
        assert_eq!(Key::parse(&key.path()), Some(key));
        for text in [
            "",
            "lan",
            "lan/c1",
            "/c1:eth0",
            "lan/:77",
            "lan/c1:",
            "lan/../c1:eth0",
            ".lan/c1:eth0",
            "lan/.c1:eth0",
            "lan/c1:eth0/x",
        ] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
    }
}
