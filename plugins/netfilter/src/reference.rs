//! What the reference plugins make for one attachment, by the names and comments under which they
//! find it again: those of containers that were there before our binaries took the place of theirs.
//!
//! Chains that all of their containers share stay, as they leave them themselves.

use std::net::IpAddr;

use crate::iptables::hash;
use crate::rules::Owner;

/// An attachment that may be theirs.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Whose it is.
    pub owner: Owner,
    /// The container's addresses, as far as known.
    pub addresses: Vec<IpAddr>,
}

/// Which of their plugins has left something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `ipMasq` and `macspoofchk` of bridge, `ipMasq` of ptp.
    Interface,
    /// portmap.
    Ports,
    /// firewall.
    Forward,
}

impl Traces {
    /// Their masquerade chain in iptables: network and container, without the interface.
    pub(crate) fn chain(&self) -> String {
        format!(
            "CNI-{}",
            hash(&[&self.owner.network, &self.owner.container], 24)
        )
    }

    /// What their masquerade rules' comments in nftables begin with.
    pub(crate) fn comment(&self) -> String {
        format!(
            "{}-{}",
            hash(&[&self.owner.network], 16),
            hash(&[&self.owner.interface, ":", &self.owner.container], 16)
        )
    }

    /// The device that their bandwidth redirects a container's traffic to: of the same two.
    #[must_use]
    pub fn ifb(&self) -> String {
        format!(
            "bwp{}",
            hash(&[&self.owner.network, &self.owner.container], 12)
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
        let traces = Traces {
            owner: Owner {
                network: "net".into(),
                container: "c1".into(),
                interface: "eth0".into(),
            },
            addresses: Vec::new(),
        };
        // printf netc1 | sha512sum; printf net | sha512sum; printf eth0:c1 | sha512sum
        assert_eq!(traces.chain(), "CNI-623e1c388032b20529218ecc");
        assert_eq!(traces.ifb(), "bwp623e1c388032");
        assert_eq!(traces.comment(), "a4861f4ae9f7d238-f4d01f2ef4b92245");
    }
}
