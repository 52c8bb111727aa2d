//! Making a VXLAN device (RFC 7348), and what it tells of itself.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use rtnetlink::LinkVxlan;

use super::{Link, RTM_NEWLINK};
use crate::attr::AttrReader;
use crate::error::Error;
use crate::frame::Frames;
use crate::link::change::LinkChange;
use crate::name::InterfaceName;
use crate::route::RouteSocket;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// A VXLAN device to be made. It learns nothing from packets: where a hardware address is stands in its forwarding
/// entries alone, see [`Forwarding`](crate::Forwarding).
#[derive(Debug, Clone, Copy)]
pub struct VxlanSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network's number in the tunnel.
    pub vni: u32,
    /// The source address of what it sends. Without one the kernel chooses, and a receiver that knows another drops.
    pub local: IpAddr,
    /// UDP port that it sends to and listens at.
    pub port: u16,
    /// Its hardware address. It is in the message that makes the device: systemd-udevd gives one of its own to devices
    /// that had none.
    pub mac: [u8; 6],
    /// Largest packet.
    pub mtu: u32,
    /// The owner's note.
    pub alias: Option<&'a str>,
}

/// What only VXLAN devices have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanInfo {
    /// The network's number in the tunnel.
    pub vni: u32,
    /// The source address of what it sends, when it is fixed.
    pub local: Option<IpAddr>,
    /// UDP port.
    pub port: u16,
    /// It learns from packets where hardware addresses are.
    pub learning: bool,
}

impl VxlanInfo {
    pub(super) fn read(data: AttrReader<'_>) -> VxlanInfo {
        let get = |kind| data.clone().get(kind);
        VxlanInfo {
            vni: get(IFLA_VXLAN_ID).and_then(|a| a.u32()).unwrap_or_default(),
            local: get(IFLA_VXLAN_LOCAL)
                .or_else(|| get(IFLA_VXLAN_LOCAL6))
                .and_then(|a| a.ip()),
            port: get(IFLA_VXLAN_PORT)
                .and_then(|a| a.u16be())
                .unwrap_or_default(),
            learning: super::is_on(get(IFLA_VXLAN_LEARNING)),
        }
    }
}

impl RouteSocket {
    /// Makes a VXLAN device, bound to no other device: one that was would go with it. It is down: what IPv6 does when it
    /// comes up is set before.
    ///
    /// # Errors
    /// [`Error::NameTaken`] when the namespace has a link of this name or another VXLAN device of this number and
    /// port; [`Error::Kernel`] when the kernel refused it otherwise.
    pub fn create_vxlan(&mut self, spec: &VxlanSpec<'_>) -> Result<Link, Error> {
        InterfaceName::new(spec.name)?;
        let builder = LinkVxlan::new(spec.name, spec.vni)
            .port(spec.port)
            .learning(false)
            .address(spec.mac.to_vec())
            .mtu(spec.mtu);
        let builder = match spec.local {
            IpAddr::V4(local) => builder.local(local),
            IpAddr::V6(local) => builder.local6(local),
        };
        let mut frames = Frames::new();
        frames.emit(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &builder.build());
        // The kernel echoes no VXLAN device that comes to be down.
        let failures = self.batch(&mut frames, |_| {})?;
        if let Some(failure) = failures.into_iter().next() {
            return Err(match failure.errno {
                Errno::EEXIST => Error::NameTaken {
                    name: spec.name.to_owned(),
                },
                _ => Error::kernel("create vxlan device", spec.name, failure),
            });
        }
        let made = self.link_by_name(spec.name)?;
        let mut link = made.ok_or_else(|| Error::Incomplete {
            action: "create vxlan device".into(),
            object: spec.name.into(),
            missing: "description of the link",
        })?;
        if let Some(alias) = spec.alias {
            // The alias is ignored in the message that creates.
            let change = LinkChange {
                alias: Some(alias.to_owned()),
                ..LinkChange::default()
            };
            if let Err(source) = self.set_link(link.index, &change) {
                return Err(self.unmake(link.index, source));
            }
            link.alias = Some(alias.to_owned());
        }
        Ok(link)
    }
}
