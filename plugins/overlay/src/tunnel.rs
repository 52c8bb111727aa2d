//! The way of a network to its other hosts: a device, and entries of three tables of the kernel.
//!
//! ```text
//! vxlan   BLOCK via NEXT dev vx-NETWORK onlink    a route for each block of the other host
//!         NEXT lladdr MAC dev vx-NETWORK          a permanent neighbour
//!         MAC dst HOST dev vx-NETWORK             a forwarding entry
//! direct  BLOCK via HOST dev UPLINK               a route for each block
//! both    unreachable SUBNET                      what is no host's leaves by no other route
//!         SERVICES dev vx-NETWORK or UPLINK       for what the host itself sends, until nftables leads it to a container
//! ```
//!
//! `NEXT` is the first address of the host's first block (IPv4), or the link-local address that its MAC gives (IPv6).
//! `HOST` is the host's address in the network below, `MAC` a function of its id.
//!
//! A table of nftables, `inet pontoon-vx-NETWORK`, keeps others out, see [`TunnelGuard`](pontoon_netfilter::TunnelGuard).
//!
//! Nothing is learned from packets, and nothing is written because a packet missed it: [`apply`] brings in the whole
//! list, by the difference to what is there. Routes have [`PROTOCOL`] as the number of their program, by which ours are
//! known; every entry of the device is ours, as the device is. Routes of other programs are never changed.

mod apply;
mod device;
mod error;
mod facts;
mod plan;

use pontoon_conf::Error;
use pontoon_ledger::overlay::{OverlayFiles, OverlayNetwork, OverlayPeers};

pub use apply::{apply, differences, remove, sweep};
pub use error::TunnelError;

/// `rtm_protocol` of our routes: no program that is named in `/etc/iproute2/rt_protos` has it.
pub const PROTOCOL: u8 = 112;

/// The metric of the route that refuses a network's unknown addresses: any other route comes before it.
const LAST_METRIC: u32 = 0x7fff_ffff;

/// What the kernel shall have of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The network, and this host's part of it.
    pub network: OverlayNetwork,
    /// The other hosts.
    pub peers: OverlayPeers,
}

impl Wanted {
    /// What the files of a network say; `None` when there is none. Without a list of hosts there are none.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or another version wrote it.
    pub fn read(files: &OverlayFiles, network: &str) -> Result<Option<Self>, Error> {
        let Some(found) = files.read_network(network)? else {
            return Ok(None);
        };
        let peers = files.read_peers(network)?.unwrap_or_default();
        Ok(Some(Self {
            network: found,
            peers,
        }))
    }
}

/// How the kernel differed from what was wanted.
#[derive(Debug, Default)]
pub struct Changes {
    /// Objects that were missing: the device, its addresses, entries.
    pub added: usize,
    /// Objects that were otherwise.
    pub changed: usize,
    /// Objects that were too many.
    pub removed: usize,
    /// What could not be made as wanted, each with its object and the reason. The rest is as wanted.
    pub failed: Vec<String>,
}

impl Changes {
    /// Whether all was as wanted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.added + self.changed + self.removed == 0 && self.failed.is_empty()
    }
}
