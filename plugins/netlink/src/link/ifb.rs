//! Making an intermediate functional block: a link that only lends its queue to what is redirected to it.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::link::{InfoKind, LinkAttribute};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Link, RTM_NEWLINK};
use crate::error::Error;
use crate::frame::Frames;
use crate::link::change::LinkChange;
use crate::name::InterfaceName;
use crate::route::RouteSocket;

impl RouteSocket {
    /// Makes an ifb device, up, with one queue.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn create_ifb(
        &mut self,
        name: &str,
        mtu: u32,
        tx_queue_length: u32,
        alias: &str,
    ) -> Result<Link, Error> {
        InterfaceName::new(name)?;
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
            .name(name)
            .mtu(mtu)
            .txqueuelen(tx_queue_length)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .up()
            .build();
        let mut frames = Frames::new();
        frames.emit(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            &message,
        );
        let mut made = None;
        let failures = self.batch(&mut frames, |frame| made = Link::parse(frame.payload))?;
        if let Some(failure) = failures.into_iter().next() {
            return Err(match failure.errno {
                Errno::EEXIST => Error::NameTaken { name: name.into() },
                _ => Error::kernel("create ifb", name, failure),
            });
        }
        let mut link = made.ok_or_else(|| Error::Incomplete {
            action: "create ifb".into(),
            object: name.into(),
            missing: "description of the link",
        })?;
        // The alias is ignored in the message that creates.
        let note = LinkChange {
            alias: Some(alias.to_owned()),
            ..LinkChange::default()
        };
        match self.set_link(link.index, &note) {
            Ok(()) => {
                link.alias = Some(alias.to_owned());
                Ok(link)
            }
            Err(source) => Err(self.unmake(link.index, source)),
        }
    }
}
