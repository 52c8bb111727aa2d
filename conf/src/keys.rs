//! The keys of every plugin as they are written in a configuration, before any check. The plugins
//! read them by [`decode`](crate::decode), which forgives case and `null`; the schemas in
//! `conf/schemas` are made from them.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Dns, Route};

#[cfg(feature = "schema")]
mod schema;

#[cfg(feature = "schema")]
pub use schema::{conflist, schemas};

/// The keys of `bridge`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Bridge {
    /// Name of the bridge, at most 15 bytes; `cni0` by default.
    pub bridge: Option<String>,
    /// The bridge gets an address and is the containers' gateway.
    pub is_gateway: bool,
    /// The same, and the container's default route leads to it.
    pub is_default_gateway: bool,
    /// An address of the bridge in another subnet is replaced.
    pub force_address: bool,
    /// What leaves the subnet takes the host's address.
    pub ip_masq: bool,
    /// Who makes the rules; iptables where it is installed by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "iptables", "nftables", null])))]
    pub ip_masq_backend: Option<String>,
    /// MTU of the bridge and of both ends of the pair: 68 to 65535 bytes, 0 for the kernel's
    /// default, "auto" for that of the interface with the default route.
    #[cfg_attr(feature = "schema", schemars(with = "Option<NumberOrAuto>"))]
    pub mtu: Option<Value>,
    /// The container reaches itself by the bridge.
    pub hairpin_mode: bool,
    /// The bridge is promiscuous; not together with hairpinMode.
    pub promisc_mode: bool,
    /// Access VLAN of the port: 1 to 4094, 0 for none.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 4094)))]
    pub vlan: i64,
    /// VLANs that pass with their tags.
    pub vlan_trunk: Vec<VlanTrunk>,
    /// The port keeps VLAN 1 beside its own.
    pub preserve_default_vlan: bool,
    /// Frames with another source MAC address than the container's are dropped.
    pub macspoofchk: bool,
    /// IPv6 addresses are searched for duplicates.
    pub enabledad: bool,
    /// The container's interface stays down, without addresses.
    pub disable_container_interface: bool,
    /// Ports of the bridge that have it do not reach each other.
    pub port_isolation: bool,
    /// Fixed source addresses instead of masquerade.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<AddressOrSnat>"))]
    pub snat: Vec<Value>,
    /// An address of snat need not be on the host.
    pub snat_unchecked: bool,
    /// No default route, no masquerade, no published ports.
    pub internal: bool,
    /// Addresses are given out on a bridge that Pontoon did not make and on which another program,
    /// Docker for one, has containers.
    pub shared_bridge: bool,
    /// Containers take addresses, routes and the MTU from router advertisements; by default they take none.
    #[serde(rename = "acceptRA")]
    pub accept_ra: bool,
}

/// The keys of `overlay` beside those of `bridge`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Overlay {
    /// The network's number in the tunnel, 1 to 16777215: refused when the agent says another one.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16_777_215)))]
    pub vni: Option<i64>,
    /// How packets get to the other hosts: refused when the agent says otherwise.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "vxlan", "direct", "auto", null])))]
    pub mode: Option<String>,
    /// MTU of the bridge and of both ends of the pair: 68 to 65535 bytes, 0 for the kernel's default, "auto" (the
    /// default) for what fits into the tunnel.
    #[cfg_attr(feature = "schema", schemars(with = "Option<NumberOrAuto>"))]
    pub mtu: Option<Value>,
}

/// VLANs of a trunk: one, or a range.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct VlanTrunk {
    /// First of a range, 1 to 4094.
    #[serde(rename = "minID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4094)))]
    pub min_id: Option<i64>,
    /// Last of a range, 1 to 4094.
    #[serde(rename = "maxID")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4094)))]
    pub max_id: Option<i64>,
    /// A single one, 1 to 4094.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4094)))]
    pub id: Option<i64>,
}

/// A fixed source address for what leaves by one interface.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snat {
    /// The address.
    pub source: String,
    /// The interface; every one by default.
    #[serde(default)]
    pub out: Option<String>,
}

/// A list of servers, or an object with a list for each domain. A server is an IP address or
/// `tls://ADDRESS[:PORT]#NAME`.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // only its shape counts
enum ServersOrDomains {
    Servers(Vec<String>),
    Domains(std::collections::BTreeMap<String, Vec<String>>),
}

#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // only its shape counts
enum NumberOrAuto {
    Number(#[schemars(range(min = 0, max = 65535))] i64),
    Auto(Auto),
}

#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[allow(dead_code)] // only its shape counts
enum Auto {
    Auto,
}

/// An address alone, or with an interface.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code)] // only its shape counts
enum AddressOrSnat {
    Address(String),
    Snat(Snat),
}

/// The keys of `ptp`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Ptp {
    /// What leaves the subnet takes the host's address.
    pub ip_masq: bool,
    /// Who makes the rules; iptables where it is installed by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "iptables", "nftables", null])))]
    pub ip_masq_backend: Option<String>,
    /// MTU of both ends of the pair in bytes; 0 for the kernel's default.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65535)))]
    pub mtu: i64,
}

/// The keys of `macvlan`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Macvlan {
    /// The device to share; that of the default route by default.
    pub master: String,
    /// Who may talk to whom; `bridge` by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "bridge", "private", "vepa", "passthru"])))]
    pub mode: String,
    /// MTU in bytes, at most the device's; 0 for the device's.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65535)))]
    pub mtu: i64,
    /// MAC address of the link.
    pub mac: String,
    /// The device is in the container's namespace.
    pub link_in_container: bool,
    /// Length of the queue for broadcast, in packets; 0 for the kernel's default.
    #[serde(rename = "bcqueuelen")]
    pub broadcast_queue: u32,
    /// Containers take addresses, routes and the MTU from router advertisements; by default they take none.
    #[serde(rename = "acceptRA")]
    pub accept_ra: bool,
}

/// The keys of `host-device`: one of them names the device.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HostDevice {
    /// Its name.
    pub device: String,
    /// Its MAC address.
    pub hwaddr: String,
    /// Its path below `/sys/devices`.
    pub kernelpath: String,
    /// Its address on the PCI bus, as `0000:00:1f.6`.
    #[serde(rename = "pciBusID")]
    pub pci_bus_id: String,
    /// Containers take addresses, routes and the MTU from router advertisements; by default none where `ipam` gives addresses.
    #[serde(rename = "acceptRA")]
    pub accept_ra: bool,
}

/// The keys of `container`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Container {
    /// Whose network is shared: id or name of a container, or the path of a network namespace.
    pub container: Option<String>,
}

/// The keys of `portmap`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Portmap {
    /// Who makes the rules; iptables where it is installed by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "iptables", "nftables", null])))]
    pub backend: Option<String>,
    /// What would be answered past the host is masqueraded; true by default.
    pub snat: Option<bool>,
    /// Every published connection is masqueraded.
    pub masq_all: bool,
    /// iptables: bit of the packet mark for what is to be masqueraded; 13 by default.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 31)))]
    pub mark_masq_bit: Option<i64>,
    /// iptables: another program's chain that marks what is to be masqueraded.
    pub external_set_mark_chain: Option<String>,
    /// Further conditions for IPv4, in the backend's words.
    #[serde(rename = "conditionsV4")]
    pub conditions_v4: Option<Vec<String>>,
    /// Further conditions for IPv6, in the backend's words.
    #[serde(rename = "conditionsV6")]
    pub conditions_v6: Option<Vec<String>>,
}

/// The keys of `firewall`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Firewall {
    /// Who makes the rules; iptables where it is installed by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "iptables", "nftables", "firewalld", "none", null])))]
    pub backend: Option<String>,
    /// The chain for the administrator's own rules; `CNI-ADMIN` by default.
    pub iptables_admin_chain_name: Option<String>,
    /// The zone of firewalld; `trusted` by default.
    pub firewalld_zone: Option<String>,
    /// The reference's policy.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "open", "same-bridge", "isolated", null])))]
    pub ingress_policy: Option<String>,
    /// The stance that the other keys start from.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "docker", null])))]
    pub profile: Option<String>,
    /// Containers of the network reach each other.
    pub icc: Option<bool>,
    /// Nothing new passes between this bridge and another one of Pontoon's.
    pub isolation: Option<bool>,
    /// Who routes to a container's address reaches it, or does not.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "open", "closed", null])))]
    pub direct_access: Option<String>,
    /// Interfaces for which closed is open.
    pub trusted_interfaces: Vec<String>,
    /// No way out and none in.
    pub internal: bool,
    /// The host and the containers reach each other.
    pub host_access: Option<bool>,
    /// Ports of other containers that this one may reach without icc.
    pub links: Vec<Link>,
}

/// A link to another container.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Link {
    /// Id or name of the other container.
    pub container: String,
    /// What it is called in this one.
    pub alias: String,
    /// Its ports.
    pub ports: Vec<LinkPort>,
}

/// A port of a link.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LinkPort {
    /// 1 to 65535.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65535)))]
    pub port: i64,
    /// `tcp` by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "tcp", "udp", "sctp", null])))]
    pub protocol: Option<String>,
}

/// The keys of `dns`, which is called `dnsname` too.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DnsPlugin {
    /// Who leads port 53 to the resolver; iptables where it is installed by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "iptables", "nftables", null])))]
    pub backend: Option<String>,
    /// The network's domain; `dns.pontoon` by default.
    pub domain: Option<String>,
    /// The same, as podman writes it.
    pub domain_name: Option<String>,
    /// Servers to ask instead of the host's: a list, or an object with a list for each domain, in
    /// which "." stands for everything else. A server is an IP address, or
    /// `tls://ADDRESS[:PORT]#NAME` for DNS over TLS.
    #[cfg_attr(feature = "schema", schemars(with = "Option<ServersOrDomains>"))]
    pub upstreams: Option<Value>,
    /// File of the certificate authorities, in PEM, that servers over TLS are checked against; the
    /// host's by default.
    pub upstreams_ca: Option<String>,
    /// Seconds for which an answer may be kept; 5 by default.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 86400)))]
    pub ttl: Option<i64>,
    /// The file to copy; `/etc/resolv.conf` by default.
    pub resolv_conf: Option<String>,
    /// Servers that do not answer are left out.
    pub probe: bool,
    /// Where the resolver listens; `gateway` by default.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = ["", "gateway", "none", null])))]
    pub serve: Option<String>,
    /// The files are written to `/etc/netns/NAME` too.
    pub etc_netns: bool,
    /// Names of other containers that only this one knows.
    pub links: Vec<Link>,
}

/// The keys of `tuning`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Tuning {
    /// Kernel parameters below `net`, by name; `IFNAME` stands for the interface.
    pub sysctl: Map<String, Value>,
    /// MAC address.
    pub mac: String,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// MTU in bytes; 0 leaves it.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 65535)))]
    pub mtu: i64,
    /// All multicast frames are received.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue, in packets.
    #[serde(rename = "txQLen")]
    pub tx_q_len: Option<i64>,
    /// Where what was before is kept; `/run/cni/tuning` by default.
    #[serde(rename = "dataDir")]
    pub data_dir: String,
}

/// The keys of `bandwidth`, and its capability.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Bandwidth {
    /// What the container may receive, in bits a second; 0 is no limit.
    pub ingress_rate: Option<u64>,
    /// How much at once, in bits.
    pub ingress_burst: Option<u64>,
    /// What the container may send, in bits a second; 0 is no limit.
    pub egress_rate: Option<u64>,
    /// How much at once, in bits.
    pub egress_burst: Option<u64>,
}

/// The keys of `sbr`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Sbr {
    /// The routing table of the interface's addresses, but 252 to 255; the first free one from 100 on
    /// for each address by default.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_i64)))]
    pub table: Option<i64>,
    /// Default gateways instead of those of the addresses, one for each family.
    pub gateways: Vec<String>,
    /// The tables' routes name the source address.
    pub add_source_hints: bool,
}

/// The keys of `host-local` in `ipam`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct HostLocal {
    /// One subnet, `address/length`, or "auto"; 172.17.0.0/16 by default.
    pub subnet: Option<String>,
    /// First address to hand out.
    pub range_start: Option<String>,
    /// Last address to hand out.
    pub range_end: Option<String>,
    /// The router's address; the first one by default.
    pub gateway: Option<String>,
    /// Sets of ranges: the container gets one address of each set.
    pub ranges: Vec<Vec<AddressRange>>,
    /// Routes of the container.
    pub routes: Vec<Route>,
    /// Where leases are kept; `/var/lib/cni/networks` by default.
    pub data_dir: String,
    /// A resolv.conf whose content becomes the result's `dns`.
    pub resolv_conf: String,
    /// Addresses and subnets that are never handed out.
    pub exclude: Vec<String>,
}

/// One range as written, before any check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct AddressRange {
    /// The network, `address/length`; a word like `auto` is resolved earlier.
    pub subnet: Option<String>,
    /// First address to hand out.
    pub range_start: Option<String>,
    /// Last address to hand out.
    pub range_end: Option<String>,
    /// The router's address, never handed out.
    pub gateway: Option<String>,
}

/// The keys of `static` in `ipam`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Static {
    /// The container's addresses.
    pub addresses: Vec<StaticAddress>,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Its resolver.
    pub dns: Dns,
}

/// An address of `static`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StaticAddress {
    /// The address with the prefix length of its subnet.
    pub address: String,
    /// The router's address.
    #[serde(default, deserialize_with = "crate::address_or_none")]
    pub gateway: Option<std::net::IpAddr>,
}
