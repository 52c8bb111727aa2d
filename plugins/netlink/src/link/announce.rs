//! Telling neighbours which hardware address an address has now.

use std::time::{Duration, Instant};

use super::Link;
use crate::error::Error;
use crate::link::change::LinkChange;
use crate::route::RouteSocket;

/// How long a link may take from its carrier to its first packet.
const PATIENCE: Duration = Duration::from_millis(20);

impl RouteSocket {
    /// Waits until a link that has just got a carrier sends and receives, for `PATIENCE` at most.
    ///
    /// Both ends of a veth pair have a carrier as soon as the second one is up, but their queues drop everything until
    /// a worker of the kernel (linkwatch) has put them into service, and a bridge forwards nothing from a port before.
    /// Since Linux 6.8 the question itself does that work; older kernels take some 0.1 ms.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn wait_operational(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let link = self.link_by_index(index)?;
            if link.as_ref().is_none_or(|link| link.operational) || Instant::now() > deadline {
                return Ok(link);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Sends what the link's settings allow to announce: a gratuitous ARP request for each IPv4 address where
    /// `arp_notify` is on, an unsolicited neighbour advertisement for each IPv6 address where `ndisc_notify` is. False
    /// when the link is gone.
    ///
    /// The link gets the hardware address that it has: nothing changes, but the kernel announces as after a change. When
    /// the link came up it could not, because it had no carrier, or because an address was still to come.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn announce(&mut self, index: u32) -> Result<bool, Error> {
        let Some(link) = self.wait_operational(index)? else {
            return Ok(false);
        };
        let same = LinkChange {
            mac: link.mac,
            ..LinkChange::default()
        };
        self.set_link(index, &same)?;
        Ok(true)
    }
}
