//! What the reference plugins make for one attachment, by the names and comments under which they
//! find it again: those of containers that were there before our binaries took the place of theirs.
//!
//! Chains that all of their containers share stay, as they leave them themselves.

use std::net::IpAddr;

use crate::digest::sha512_hex;
use crate::owner::Owner;

/// An attachment that the reference plugins may have made.
#[derive(Debug, Clone)]
pub struct ReferenceAttachment {
    /// Network, container and interface.
    pub owner: Owner,
    /// The container's addresses, as far as known.
    pub addresses: Vec<IpAddr>,
}

/// A plugin of the reference, by what it leaves for an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferencePlugin {
    /// `ipMasq` and `macspoofchk` of bridge, `ipMasq` of ptp.
    BridgeOrPtp,
    /// portmap.
    Portmap,
    /// firewall.
    Firewall,
}

impl ReferenceAttachment {
    /// Their masquerade chain in iptables: network and container, without the interface.
    pub(crate) fn chain(&self) -> String {
        format!(
            "CNI-{}",
            sha512_hex(&[&self.owner.network, &self.owner.container], 24)
        )
    }

    /// What their masquerade rules' comments in nftables begin with.
    pub(crate) fn comment(&self) -> String {
        format!(
            "{}-{}",
            sha512_hex(&[&self.owner.network], 16),
            sha512_hex(&[&self.owner.interface, ":", &self.owner.container], 16)
        )
    }

    /// The device that their bandwidth redirects a container's traffic to: of the same two.
    #[must_use]
    pub fn ifb(&self) -> String {
        format!(
            "bwp{}",
            sha512_hex(&[&self.owner.network, &self.owner.container], 12)
        )
    }

    /// What follows the prefix in the names of their `macspoofchk` chains.
    pub(crate) fn guarded(&self) -> String {
        format!("{}-{}", self.owner.container, self.owner.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_theirs() {
        let attachment = ReferenceAttachment {
            owner: Owner {
                network: "net".into(),
                container: "c1".into(),
                interface: "eth0".into(),
            },
            addresses: Vec::new(),
        };
        // printf netc1 | sha512sum; printf net | sha512sum; printf eth0:c1 | sha512sum
        assert_eq!(attachment.chain(), "CNI-623e1c388032b20529218ecc");
        assert_eq!(attachment.ifb(), "bwp623e1c388032");
        assert_eq!(attachment.comment(), "a4861f4ae9f7d238-f4d01f2ef4b92245");
    }
}
