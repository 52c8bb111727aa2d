//! Whether the namespace at the other end of a link still lives.

use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;

use crate::error::Error;
use crate::route::RouteSocket;

/// `RTM_GETNSID` of linux/rtnetlink.h.
const RTM_GETNSID: u16 = 90;

impl RouteSocket {
    /// Whether the namespace that has this number here (`IFLA_LINK_NETNSID`, [`Link::link_netnsid`]) lives.
    ///
    /// A namespace without a user keeps its links and its number for a moment, until a worker of the kernel has taken
    /// it down (`cleanup_net`); asked for the number, the kernel does not know it any more (`get_net_ns_by_id`).
    ///
    /// [`Link::link_netnsid`]: crate::Link::link_netnsid
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn is_living_namespace(&mut self, number: i32) -> Result<bool, Error> {
        let mut question = NsidMessage::default();
        question.attributes.push(NsidAttribute::Id(number));
        match self.get(RTM_GETNSID, &question, |_| Some(()))? {
            Ok(found) => Ok(found.is_some()),
            Err(failure) if failure.errno == Errno::ENOENT => Ok(false),
            Err(failure) => Err(Error::kernel("find the namespace", number, failure)),
        }
    }
}
