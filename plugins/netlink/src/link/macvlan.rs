//! Making a macvlan link, born inside the container.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{InfoMacVlan, MacVlanMode};
use rtnetlink::LinkMacVlan;

use super::RTM_NEWLINK;
use crate::error::Error;
use crate::name::InterfaceName;
use crate::netns::Netns;
use crate::route::RouteSocket;

/// A macvlan link to be made.
#[derive(Debug, Clone, Copy)]
pub struct MacvlanSpec<'a> {
    /// Its name at birth. The kernel looks for it in the namespace of the master as well, so it must be free in both;
    /// the final name comes by [`LinkChange`](crate::LinkChange).
    pub name: &'a str,
    /// Where it is born.
    pub netns: &'a Netns,
    /// Number of the link that it shares.
    pub master: u32,
    /// `MACVLAN_MODE_*`: 1 private, 2 vepa, 4 bridge, 8 passthru.
    pub mode: u32,
    /// MTU; the master's if none.
    pub mtu: Option<u32>,
    /// Hardware address; random if none.
    pub mac: Option<[u8; 6]>,
    /// How many broadcast packets may wait.
    pub broadcast_queue: Option<u32>,
}

impl RouteSocket {
    /// Makes a macvlan link on a master of this socket's namespace. It is down.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn create_macvlan(&mut self, spec: &MacvlanSpec<'_>) -> Result<(), Error> {
        InterfaceName::new(spec.name)?;
        let mode = MacVlanMode::from(spec.mode);
        let mut builder = LinkMacVlan::new(spec.name, spec.master, mode)
            .setns_by_fd(spec.netns.as_fd().as_raw_fd());
        if let Some(packets) = spec.broadcast_queue {
            builder = builder.append_info_data(InfoMacVlan::BcQueueLen(packets));
        }
        if let Some(mtu) = spec.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(mac) = spec.mac {
            builder = builder.address(mac.to_vec());
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.act(RTM_NEWLINK, flags, &builder.build())? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel("create macvlan", spec.name, failure)),
        }
    }
}
