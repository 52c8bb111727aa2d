//! Links: what the kernel tells of them, and how to find and delete them. Making and changing them stands in the files
//! below.

mod announce;
pub(crate) mod bridge;
pub(crate) mod change;
pub(crate) mod ifb;
pub(crate) mod macvlan;
mod namespace_number;
mod relocate;
pub(crate) mod veth;
pub(crate) mod vlan;
pub(crate) mod vxlan;

use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::attr::{self, Attr, AttrReader};
use crate::error::Error;
use crate::frame::Frame;
use crate::link::vxlan::VxlanInfo;
use crate::name::InterfaceName;
use crate::route::RouteSocket;

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const RTM_SETLINK: u16 = 19;
/// `struct ifinfomsg`.
const HEADER: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
/// `IF_OPER_UP`.
const OPERATIONAL: u8 = 6;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_ROUTE_LOCALNET: u16 = 26;
pub(crate) const IPV4_DEVCONF_RP_FILTER: u16 = 8;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;

/// A network interface as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Number, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `veth`, `bridge`, ...; none for physical devices and loopback.
    pub kind: Option<String>,
    /// Hardware address, of links that have an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// Largest packet.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Frames can pass: the cable, or the other end, is there.
    pub carrier: bool,
    /// It has a carrier, and the kernel has put its queues into service. Links whose driver knows no carrier never are.
    pub operational: bool,
    /// Promiscuous by order of an administrator.
    pub promisc: bool,
    /// Takes all multicast by order of an administrator.
    pub allmulti: bool,
    /// Length of the transmit queue, in packets.
    pub tx_queue_length: u32,
    /// Index of the bridge (or bond) this link is a port of.
    pub master: Option<u32>,
    /// Index of the link below or, for a veth, of its peer.
    pub peer: Option<u32>,
    /// Namespace in which `peer` is to be understood, when it is another one.
    pub link_netnsid: Option<i32>,
    /// The owner's note on it.
    pub alias: Option<String>,
    /// Group number, 0 by default.
    pub group: u32,
    /// `net.ipv4.conf.NAME.route_localnet`.
    pub route_localnet: bool,
    /// `net.ipv4.conf.NAME.rp_filter`.
    pub rp_filter: u32,
    /// What only bridges have.
    pub bridge: Option<BridgeInfo>,
    /// `MACVLAN_MODE_*`, of a macvlan link.
    pub macvlan_mode: Option<u32>,
    /// What only ports of a bridge have.
    pub port: Option<PortFlags>,
    /// What only VXLAN devices have.
    pub vxlan: Option<VxlanInfo>,
}

/// What a bridge tells of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BridgeInfo {
    /// VLAN filtering is on.
    pub vlan_filtering: bool,
    /// The kernel was built with VLAN filtering.
    pub vlan_supported: bool,
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// A frame may leave through the port it came in by.
    pub hairpin: bool,
    /// No frame passes to another isolated port.
    pub isolated: bool,
}

impl Link {
    /// Reads the payload of an `RTM_NEWLINK`.
    pub(crate) fn parse(payload: &[u8]) -> Option<Link> {
        let header = payload.get(..HEADER)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let flags = word(8);
        let mut link = Link {
            index: word(4),
            up: flags & libc::IFF_UP as u32 != 0,
            carrier: flags & libc::IFF_LOWER_UP as u32 != 0,
            promisc: flags & libc::IFF_PROMISC as u32 != 0,
            allmulti: flags & libc::IFF_ALLMULTI as u32 != 0,
            ..Link::default()
        };
        for attr in attr::read(&payload[HEADER..]) {
            match attr.kind {
                IFLA_ADDRESS => link.mac = attr.value.try_into().ok(),
                IFLA_IFNAME => link.name = attr.text(),
                IFLA_MTU => link.mtu = attr.u32().unwrap_or_default(),
                IFLA_TXQLEN => link.tx_queue_length = attr.u32().unwrap_or_default(),
                IFLA_OPERSTATE => link.operational = attr.u8() == Some(OPERATIONAL),
                IFLA_LINK => link.peer = attr.u32(),
                IFLA_MASTER => link.master = attr.u32(),
                IFLA_IFALIAS => link.alias = Some(attr.text()),
                IFLA_GROUP => link.group = attr.u32().unwrap_or_default(),
                IFLA_LINK_NETNSID => link.link_netnsid = attr.u32().map(u32::cast_signed),
                IFLA_AF_SPEC => {
                    let setting = |number| ipv4_setting(attr.nested(), number);
                    link.route_localnet = setting(IPV4_DEVCONF_ROUTE_LOCALNET) != 0;
                    link.rp_filter = setting(IPV4_DEVCONF_RP_FILTER);
                }
                IFLA_LINKINFO => link.read_info(attr.nested()),
                _ => {}
            }
        }
        Some(link)
    }

    fn read_info(&mut self, info: AttrReader<'_>) {
        let kind = |attr: u16| info.clone().get(attr).map(|a| a.text());
        let data = |attr: u16| info.clone().get(attr).map(|a| a.nested());
        self.kind = kind(IFLA_INFO_KIND);
        if self.kind.as_deref() == Some("bridge") {
            self.bridge = data(IFLA_INFO_DATA).map(|data| BridgeInfo {
                vlan_filtering: is_on(data.clone().get(IFLA_BR_VLAN_FILTERING)),
                vlan_supported: data.get(IFLA_BR_VLAN_DEFAULT_PVID).is_some(),
            });
        }
        if self.kind.as_deref() == Some("vxlan") {
            self.vxlan = data(IFLA_INFO_DATA).map(VxlanInfo::read);
        }
        if self.kind.as_deref() == Some("macvlan") {
            let mode = data(IFLA_INFO_DATA).and_then(|data| data.get(IFLA_MACVLAN_MODE));
            self.macvlan_mode = mode.and_then(|mode| mode.u32());
        }
        if kind(IFLA_INFO_SLAVE_KIND).as_deref() == Some("bridge") {
            self.port = data(IFLA_INFO_SLAVE_DATA).map(|data| PortFlags {
                hairpin: is_on(data.clone().get(IFLA_BRPORT_MODE)),
                isolated: is_on(data.get(IFLA_BRPORT_ISOLATED)),
            });
        }
    }
}

/// The settings are an array in the order of their numbers, which begin with 1.
fn ipv4_setting(families: AttrReader<'_>, number: u16) -> u32 {
    let settings = families
        .get(libc::AF_INET as u16)
        .and_then(|inet| inet.nested().get(IFLA_INET_CONF));
    let value = settings.and_then(|settings| {
        let values = settings.value.as_chunks::<4>().0;
        values.get(usize::from(number).checked_sub(1)?).copied()
    });
    u32::from_ne_bytes(value.unwrap_or_default())
}

fn is_on(attr: Option<Attr<'_>>) -> bool {
    attr.and_then(|attr| attr.u8()) == Some(1)
}

fn read_link(frame: Frame<'_>) -> Option<Link> {
    (frame.kind == RTM_NEWLINK)
        .then(|| Link::parse(frame.payload))
        .flatten()
}

/// A request for links: without counters, which are most of a link's description.
fn question() -> LinkMessageBuilder<LinkUnspec> {
    LinkMessageBuilder::<LinkUnspec>::default()
        .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]))
}

impl RouteSocket {
    /// Finds a link by name; `None` when there is none of this name.
    ///
    /// # Errors
    /// [`Error::Name`] when no interface can be called so, [`Error::Kernel`] when the kernel refused the question.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let name = InterfaceName::new(name)?.as_str();
        self.find(&question().name(name).build(), name)
    }

    /// Finds a link by number.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, Error> {
        self.find(&question().index(index).build(), &format!("number {index}"))
    }

    fn find(&mut self, message: &LinkMessage, object: &str) -> Result<Option<Link>, Error> {
        match self.get(RTM_GETLINK, message, read_link)? {
            Ok(found) => Ok(found),
            Err(failure) if failure.errno == Errno::ENODEV => Ok(None),
            Err(failure) => Err(Error::kernel("find interface", object, failure)),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.dump("interfaces", RTM_GETLINK, &question().build(), read_link)
    }

    /// All links of a kind, chosen by the kernel.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn links_of_kind(&mut self, kind: &str) -> Result<Vec<Link>, Error> {
        let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.to_owned()))]);
        self.dump(
            "interfaces",
            RTM_GETLINK,
            &question().append_extra_attribute(kind).build(),
            read_link,
        )
    }

    /// The ports of a bridge, chosen by the kernel.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn links_of_bridge(&mut self, index: u32) -> Result<Vec<Link>, Error> {
        self.dump(
            "ports of a bridge",
            RTM_GETLINK,
            &question().controller(index).build(),
            read_link,
        )
    }

    /// Deletes a link that could not be finished, for the reason that comes back.
    fn unmake(&mut self, index: u32, source: Error) -> Error {
        match self.delete_link(index) {
            Ok(_) => source,
            Err(undo) => Error::Remains {
                source: Box::new(source),
                undo: Box::new(undo),
            },
        }
    }

    /// Deletes a link; false when it was gone already.
    ///
    /// The link is out of sight after a millisecond, yet the call returns only after a grace period of RCU, 8 to 33 ms
    /// on. [`DetachedChild`](crate::DetachedChild) does the same without the wait.
    ///
    /// # Errors
    /// When the kernel refuses the request, or its answer cannot be read.
    pub fn delete_link(&mut self, index: u32) -> Result<bool, Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::default()
            .index(index)
            .build();
        match self.act(RTM_DELLINK, 0, &message)? {
            None => Ok(true),
            Some(failure) if failure.errno == Errno::ENODEV => Ok(false),
            Some(failure) => Err(Error::kernel(
                "delete interface",
                format!("number {index}"),
                failure,
            )),
        }
    }
}
