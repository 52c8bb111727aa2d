//! Moving a link that cannot be born where it belongs: a device of the host.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::RTM_NEWLINK;
use crate::error::Error;
use crate::link::change::check_alias;
use crate::name::InterfaceName;
use crate::netns::Netns;
use crate::route::RouteSocket;

impl RouteSocket {
    /// Moves a link to another namespace, where it comes down, gets a name and a note. Its addresses and routes are lost.
    /// The name that it has must be free there too. Waits for RCU, 15 to 46 ms.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn move_link(
        &mut self,
        index: u32,
        netns: &Netns,
        name: &str,
        alias: &str,
    ) -> Result<(), Error> {
        InterfaceName::new(name)?;
        check_alias(alias, name)?;
        let message = LinkMessageBuilder::<LinkUnspec>::default()
            .index(index)
            .name(name)
            .alias(alias)
            .setns_by_fd(netns.as_fd().as_raw_fd())
            .build();
        match self.act(RTM_NEWLINK, 0, &message)? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel("move interface", name, failure)),
        }
    }
}
