//! Making a bridge.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::link::InfoBridge;
use nix::errno::Errno;
use rtnetlink::LinkBridge;

use super::{Link, RTM_NEWLINK};
use crate::error::Error;
use crate::frame::Frames;
use crate::link::change::LinkChange;
use crate::name::InterfaceName;
use crate::netns::Netns;
use crate::route::RouteSocket;

/// A bridge to be made.
#[derive(Debug, Clone, Default)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address. Without a fixed one a bridge takes the lowest of its ports' and changes it as containers
    /// come and go, which leaves wrong entries in their neighbour tables.
    pub mac: [u8; 6],
    /// Its MTU; the kernel's choice follows the smallest port until one is set.
    pub mtu: Option<u32>,
    /// Filter VLANs.
    pub vlan_filtering: bool,
    /// The owner's note.
    pub alias: Option<&'a str>,
}

impl RouteSocket {
    /// Makes a bridge, up.
    ///
    /// It does not snoop on multicast. Without a querier, and a container host has none, snooping changes nothing about
    /// who gets what; but each port that comes or goes restarts the query timers of all others
    /// (`br_port_state_selection` in the kernel), 0.3 ms at 300 ports.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn create_bridge(&mut self, spec: &BridgeSpec<'_>) -> Result<Link, Error> {
        InterfaceName::new(spec.name)?;
        let mut builder = LinkBridge::new(spec.name)
            .address(spec.mac.to_vec())
            .append_info_data(InfoBridge::MulticastSnooping(false));
        if let Some(mtu) = spec.mtu {
            builder = builder.mtu(mtu);
        }
        if spec.vlan_filtering {
            builder = builder.vlan_filtering(true);
        }
        let mut frames = Frames::new();
        frames.emit(
            RTM_NEWLINK,
            NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            &builder.build(),
        );
        let mut made = None;
        let failures = self.batch(&mut frames, |frame| made = Link::parse(frame.payload))?;
        if let Some(failure) = failures.into_iter().next() {
            return Err(match failure.errno {
                Errno::EEXIST => Error::NameTaken {
                    name: spec.name.to_owned(),
                },
                // The same number comes from a kernel without any bridges.
                Errno::EOPNOTSUPP if spec.vlan_filtering && probe().is_ok() => {
                    Error::NoVlanFiltering {
                        name: spec.name.to_owned(),
                    }
                }
                _ => Error::kernel("create bridge", spec.name, failure),
            });
        }
        let mut link = made.ok_or_else(|| Error::Incomplete {
            action: "create bridge".into(),
            object: spec.name.into(),
            missing: "description of the link",
        })?;
        match self.finish_bridge(&mut link, spec) {
            Ok(()) => Ok(link),
            Err(source) => Err(self.unmake(link.index, source)),
        }
    }

    fn finish_bridge(&mut self, link: &mut Link, spec: &BridgeSpec<'_>) -> Result<(), Error> {
        // Some kernels without VLAN filtering take the order and say nothing: it shows in what is missing afterwards.
        if spec.vlan_filtering && !link.bridge.is_some_and(|bridge| bridge.vlan_filtering) {
            return Err(Error::NoVlanFiltering {
                name: spec.name.to_owned(),
            });
        }
        // The alias is ignored in the message that creates.
        if let Some(alias) = spec.alias {
            self.set_link(
                link.index,
                &LinkChange {
                    alias: Some(alias.to_owned()),
                    ..LinkChange::default()
                },
            )?;
            link.alias = Some(alias.to_owned());
        }
        Ok(())
    }
}

/// Whether this kernel's bridges can filter VLANs: makes one in a throw-away namespace and looks whether it has a
/// default PVID. About a millisecond; an existing bridge tells the same in [`BridgeInfo`](super::BridgeInfo). False also
/// when no bridge can be made, which the bridge that is wanted will explain better.
#[must_use]
pub fn vlan_filtering_supported() -> bool {
    probe().is_ok_and(|link| link.bridge.is_some_and(|bridge| bridge.vlan_supported))
}

fn probe() -> Result<Link, Error> {
    let netns = Netns::create_unnamed()?;
    let spec = BridgeSpec {
        name: "probe",
        mac: [2, 0, 0, 0, 0, 1],
        ..BridgeSpec::default()
    };
    RouteSocket::open_in(&netns)?.create_bridge(&spec)
}
