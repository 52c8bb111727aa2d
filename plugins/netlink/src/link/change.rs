//! Changing a link that exists.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::RTM_NEWLINK;
use crate::attr::Attrs;
use crate::error::Error;
use crate::route::RouteSocket;

const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

/// What to change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
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
    /// Group number.
    pub group: Option<u32>,
}

impl RouteSocket {
    /// Changes a link in one message. The kernel works through it piece by piece: what came before the failing piece is
    /// done.
    pub fn set_link(&mut self, index: u32, change: &LinkChange) -> Result<(), Error> {
        // RTM_NEWLINK without NLM_F_CREATE: RTM_SETLINK knows nothing of port flags.
        match self.act(RTM_NEWLINK, 0, &message(index, change))? {
            None => Ok(()),
            Some(failure) => Err(Error::kernel(
                "change interface",
                format!("number {index}"),
                failure,
            )),
        }
    }
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
    if let Some(on) = change.arp_notify {
        builder = builder.append_extra_attribute(arp_notify(on));
    }
    builder.build()
}

/// As bytes, since netlink-packet-route's type for it leaves out whatever is zero: it could switch on, never off.
fn arp_notify(on: bool) -> LinkAttribute {
    let mut attrs = Attrs::default();
    attrs.nested(libc::AF_INET as u16, |inet| {
        inet.nested(IFLA_INET_CONF, |conf| {
            conf.u32(IPV4_DEVCONF_ARP_NOTIFY, on.into())
        });
    });
    LinkAttribute::Other(DefaultNla::new(
        IFLA_AF_SPEC | NLA_F_NESTED,
        attrs.into_bytes(),
    ))
}
