//! Changing a link that exists.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{
    IFLA_AF_SPEC, IFLA_BRPORT_MODE, IFLA_INET_CONF, IPV4_DEVCONF_RP_FILTER, RTM_NEWLINK,
    RTM_SETLINK,
};
use crate::attr::Attrs;
use crate::error::Error;
use crate::frame::Frames;
use crate::name::InterfaceName;
use crate::route::RouteSocket;

const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_EUI64: u8 = 0;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_PROTINFO: u16 = 12;

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
    /// Another name; most links must be down for it.
    pub name: Option<String>,
    /// MTU.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// The owner's note; empty removes it.
    pub alias: Option<String>,
    /// The bridge to be a port of; `Some(None)` leaves it.
    pub master: Option<Option<u32>>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// Take all multicast.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue, in packets.
    pub tx_queue_length: Option<u32>,
    /// For a port of a bridge: frames may leave where they came in.
    pub hairpin: Option<bool>,
    /// For a port of a bridge: no frames to other isolated ports.
    pub isolated: Option<bool>,
    /// Announce addresses by ARP when the link comes up: neighbours forget who had them before.
    pub arp_notify: Option<bool>,
    /// Which packets the reverse-path filter takes: 0 all, 1 those of senders to whom packets go out by
    /// this very link, 2 those of senders to whom there is any way.
    pub rp_filter: Option<u32>,
    /// Give the link an IPv6 link-local address when it comes up.
    pub link_local: Option<bool>,
    /// Group number.
    pub group: Option<u32>,
}

impl RouteSocket {
    /// Changes a link in one message. The kernel works through it piece by piece: what came before the failing piece is
    /// done.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn set_link(&mut self, index: u32, change: &LinkChange) -> Result<(), Error> {
        self.set_link_in_steps(index, &[change])
    }

    /// Changes a link in several messages that are sent at once; a later one is carried out even when an earlier one
    /// fails.
    pub(crate) fn set_link_in_steps(
        &mut self,
        index: u32,
        changes: &[&LinkChange],
    ) -> Result<(), Error> {
        let mut frames = Frames::new();
        for change in changes {
            if let Some(name) = &change.name {
                InterfaceName::new(name)?;
            }
            check_alias(
                change.alias.as_deref().unwrap_or_default(),
                &format!("interface number {index}"),
            )?;
            // RTM_NEWLINK without NLM_F_CREATE: RTM_SETLINK knows nothing of port flags.
            frames.emit(RTM_NEWLINK, 0, &message(index, change));
        }
        match self.batch(&mut frames, |_| {})?.into_iter().next() {
            None => Ok(()),
            Some(failure) => Err(Error::kernel(
                "change interface",
                format!("number {index}"),
                failure,
            )),
        }
    }
}

impl RouteSocket {
    /// Sets hairpin mode of a bridge's port, as [`LinkChange::hairpin`] does, by the bridge's own message: the other
    /// one tells the whole host that the link has changed, for which IPv6 walks through all of its routes.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn set_hairpin(&mut self, index: u32, on: bool) -> Result<(), Error> {
        let mut header = [0; 16];
        header[0] = libc::AF_BRIDGE as u8;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut frames = Frames::new();
        frames.push(RTM_SETLINK, 0, &header, |attrs| {
            attrs.nested(IFLA_PROTINFO, |port| port.u8(IFLA_BRPORT_MODE, on.into()));
        });
        match self.batch(&mut frames, |_| {})?.into_iter().next() {
            None => Ok(()),
            Some(failure) => Err(Error::kernel(
                "set hairpin mode of",
                format!("bridge port number {index}"),
                failure,
            )),
        }
    }
}

/// `IFALIASZ` is 256 and counts a closing zero.
pub(super) fn check_alias(alias: &str, object: &str) -> Result<(), Error> {
    const LIMIT: usize = 255;
    if alias.len() > LIMIT {
        return Err(Error::AliasTooLong {
            object: object.to_owned(),
            length: alias.len(),
        });
    }
    Ok(())
}

pub(crate) fn message(index: u32, change: &LinkChange) -> LinkMessage {
    let mut builder = LinkMessageBuilder::<LinkUnspec>::default().index(index);
    builder = match change.up {
        Some(true) => builder.up(),
        Some(false) => builder.down(),
        None => builder,
    };
    if let Some(on) = change.promisc {
        builder = builder.promiscuous(on);
    }
    if let Some(on) = change.allmulti {
        builder = builder.allmulticast(on);
    }
    if let Some(packets) = change.tx_queue_length {
        builder = builder.txqueuelen(packets);
    }
    if let Some(mtu) = change.mtu {
        builder = builder.mtu(mtu);
    }
    if let Some(mac) = change.mac {
        builder = builder.address(mac.to_vec());
    }
    if let Some(name) = &change.name {
        builder = builder.name(name.as_str());
    }
    if let Some(alias) = &change.alias {
        builder = builder.alias(alias.as_str());
    }
    if let Some(master) = change.master {
        builder = builder.controller(master.unwrap_or(0));
    }
    if let Some(group) = change.group {
        builder = builder.link_group(group);
    }
    let hairpin = change.hairpin.map(InfoBridgePort::HairpinMode);
    let port: Vec<_> = hairpin
        .into_iter()
        .chain(change.isolated.map(InfoBridgePort::Isolated))
        .collect();
    if !port.is_empty() {
        builder = builder
            .set_port_kind(InfoPortKind::Bridge)
            .set_port_data(InfoPortData::BridgePort(port));
    }
    if change.arp_notify.is_some() || change.rp_filter.is_some() || change.link_local.is_some() {
        builder = builder.append_extra_attribute(of_families(change));
    }
    builder.build()
}

/// As bytes, since netlink-packet-route's type for it leaves out whatever is zero: it could switch on, never off.
fn of_families(change: &LinkChange) -> LinkAttribute {
    let mut attrs = Attrs::default();
    let inet = [
        (IPV4_DEVCONF_ARP_NOTIFY, change.arp_notify.map(u32::from)),
        (IPV4_DEVCONF_RP_FILTER, change.rp_filter),
    ];
    if inet.iter().any(|(_, value)| value.is_some()) {
        attrs.nested(libc::AF_INET as u16, |attrs| {
            attrs.nested(IFLA_INET_CONF, |conf| {
                for (setting, value) in inet {
                    if let Some(value) = value {
                        conf.u32(setting, value);
                    }
                }
            });
        });
    }
    if let Some(on) = change.link_local {
        let mode = if on {
            IN6_ADDR_GEN_MODE_EUI64
        } else {
            IN6_ADDR_GEN_MODE_NONE
        };
        attrs.nested(libc::AF_INET6 as u16, |inet6| {
            inet6.u8(IFLA_INET6_ADDR_GEN_MODE, mode)
        });
    }
    LinkAttribute::Other(DefaultNla::new(
        IFLA_AF_SPEC | NLA_F_NESTED,
        attrs.into_bytes(),
    ))
}
