//! The ruleset as a value: what the host must do for a network and for one attachment, in the
//! field's own terms. Backends translate it; nothing here knows how a rule is written.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::owner::Owner;
use crate::policy::{Link, Member, Policy, PortIsolation};
use crate::protocol::Protocol;

/// All rules that one operation is about. `network` and `policy` are shared by all attachments of a
/// network, the others belong to one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// What the network as a whole needs.
    pub network: Option<NetworkRules>,
    /// The published ports of one attachment.
    pub published: Option<Published>,
    /// The source address that one bridge port may use.
    pub spoof_guard: Option<SpoofGuard>,
    /// What the network lets pass.
    pub policy: Option<Policy>,
    /// What it let pass until now: what `policy` has not of it goes in the same step.
    pub former_policy: Option<Policy>,
    /// The addresses of one attachment.
    pub member: Option<Member>,
    /// Links that are to be there, or to go; of one network, of one or several owners.
    pub links: Vec<Link>,
    /// The port of one attachment that is kept apart from its siblings'.
    pub separation: Option<PortIsolation>,
    /// How the network's containers reach the embedded resolver.
    pub resolver: Option<Resolver>,
    /// How their questions get past an INPUT chain of iptables that drops.
    pub opening: Option<Opening>,
}

/// What a network's own containers ask of the embedded resolver comes in: for where iptables' INPUT chain
/// drops. iptables only, since an accept in one table of nftables does not override a drop in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Network name.
    pub network: String,
    /// The bridge that the questions come in by; `None`: by interfaces of the containers' own.
    pub interface: Option<String>,
    /// The containers' addresses, where there is no bridge.
    pub sources: Vec<IpNetwork>,
    /// Addresses that the resolver listens at.
    pub gateways: Vec<IpAddr>,
    /// The resolver's port, UDP and TCP.
    pub port: u16,
}

/// The way to the embedded resolver: port 53 at the addresses of a network's bridge leads to a port
/// of its own there, so that neither a resolver of the host nor a container that publishes port 53
/// is in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Network name.
    pub network: String,
    /// Addresses of the bridge, at which the resolver listens.
    pub gateways: Vec<IpAddr>,
    /// The resolver's port, UDP and TCP.
    pub port: u16,
}

/// What a network needs once, however many containers it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// Network name.
    pub network: String,
    /// The bridge that carries the network. Traffic between two of our bridges is never
    /// masqueraded, so that the sender's address survives.
    pub bridge: String,
    /// One entry per subnet whose traffic leaves with another source address.
    pub egress: Vec<Egress>,
}

/// How traffic from a subnet leaves the host. Never applied to multicast or to traffic that stays
/// in the subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Source subnet.
    pub subnet: IpNetwork,
    /// Empty: masquerade. Otherwise the first rule whose `out` matches; traffic that leaves by
    /// another interface is masqueraded.
    pub snat: Vec<Snat>,
}

/// A fixed source address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snat {
    /// The address that replaces the source; of the subnet's family.
    pub source: IpAddr,
    /// Only for traffic that leaves by this interface.
    pub out: Option<String>,
}

/// The published ports of one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Owner of the rules.
    pub owner: Owner,
    /// The container's IPv4 address with the prefix of its subnet.
    pub v4: Option<IpNetwork>,
    /// The container's IPv6 address with the prefix of its subnet.
    pub v6: Option<IpNetwork>,
    /// The ports, one entry each; ranges are expanded by the caller.
    pub ports: Vec<Port>,
    /// Networks that the container has a way to by other interfaces than the one with these
    /// addresses: it would answer a client there past the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<IpNetwork>,
    /// Masquerade what would otherwise be answered past the host: hairpin traffic from the
    /// container's own subnet and from the networks `beside` it, and connections from the host's
    /// loopback address.
    pub snat: bool,
    /// Masquerade every published connection.
    pub masquerade_all: bool,
    /// iptables only: how packets to masquerade are marked.
    pub mark: Mark,
    /// Extra match arguments, in the words of the backend, for IPv4.
    pub conditions_v4: Vec<String>,
    /// Extra match arguments, in the words of the backend, for IPv6.
    pub conditions_v6: Vec<String>,
}

impl Published {
    /// The networks whose clients the container would answer past the host, of the family of its
    /// address `container`: its own subnet first.
    pub(crate) fn nearby(&self, container: IpNetwork) -> Vec<IpNetwork> {
        let own = IpNetwork::new(container.network(), container.prefix()).unwrap_or(container);
        let beside = self.beside.iter().copied();
        let others = beside.filter(|net| net.is_ipv4() == own.is_ipv4() && *net != own);
        std::iter::once(own).chain(others).collect()
    }

    /// Whether the ports lead anywhere: another network of the container may publish them instead.
    #[must_use]
    pub fn has_address(&self) -> bool {
        self.v4.is_some() || self.v6.is_some()
    }
}

/// The mark of packets that portmap has masqueraded (iptables backend).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// Bit 0 to 31 of the packet mark, set by our own chain.
    Bit(u8),
    /// A chain of another program that sets a mark, which that program masquerades.
    Chain(String),
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Only at this address of the host; `None` is every address of every family.
    pub host_ip: Option<IpAddr>,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
}

/// MAC spoofing protection of one bridge port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoofGuard {
    /// Owner of the port.
    pub owner: Owner,
    /// Name of the bridge port on the host.
    pub port: String,
    /// The only source address that may enter there.
    pub mac: [u8; 6],
}
