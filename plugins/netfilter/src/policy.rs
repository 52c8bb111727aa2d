//! What may pass between containers, networks, the host and the world, as a value.
//!
//! A [`Policy`] is about one network and its bridge, and is made once for all its containers. Links
//! and members are about one attachment. Both backends give them the same meaning. A packet that is
//! *forwarded* meets, in this order:
//!
//! 1. the admin's own chain;
//! 2. `ingress`, as the reference plugin has it: `SameBridge` and `Isolated` drop what goes from one
//!    such bridge to another such bridge, published or not, new or not; `Isolated` also drops what
//!    goes back into the bridge that it came from;
//! 3. established and related flows are accepted;
//! 4. what was redirected (DNAT: published ports) into a bridge with a policy is accepted, unless the
//!    packet comes from an `internal` bridge or goes to one: that is dropped;
//! 5. links: a new flow that came in by the bridge, from `from` to `to`, of this protocol, to this
//!    port, is accepted;
//! 6. what goes from the bridge back into the same bridge is accepted with `icc`, dropped without; so is what goes
//!    between the bridge and the network's other hosts, by `reach`;
//! 7. `internal`: whatever else comes from the bridge or goes to it is dropped;
//! 8. `isolated`: whatever else goes between the bridge and another of Pontoon's is dropped, in
//!    both directions. Pontoon's bridges are those with a policy or with egress rules;
//! 9. `closed`: whatever else goes to the bridge and does not come from one of Pontoon's is dropped,
//!    unless it comes in by one of the `trusted` interfaces. Isolation stands above trust.
//!
//! Everything else is left to the chains that come after: no chain's own policy is ever changed.
//!
//! What the host itself *receives from* a bridge, and what it *sends to* one, is dropped without
//! `host_access`, except established and related flows, what it sends to a published port, and
//! neighbour discovery (ICMPv6 133 to 136), without which a gateway is none. The embedded resolver is
//! a part of the host: port 53, which leads to it, is closed then as well. It is open whatever else a
//! policy says, `internal` included.
//!
//! Without `icc` frames do not pass from container to container; they are routed by the host, which
//! must therefore not tell a container of a shorter way: redirects (ICMP type 5, ICMPv6 type 137)
//! that the host sends to the bridge are dropped.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::owner::Owner;
use crate::protocol::Protocol;

/// What a network lets pass. The owner of its rules is [`Owner::network`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Network name.
    pub network: String,
    /// The bridge that carries the network. Two networks on one bridge must agree.
    pub bridge: String,
    /// Containers of the network reach each other.
    pub icc: bool,
    /// No new traffic between this and any other of Pontoon's bridges.
    pub isolated: bool,
    /// No new traffic from interfaces that are not Pontoon's bridges (`directAccess: closed`).
    pub closed: bool,
    /// Interfaces that `closed` is open for.
    pub trusted: Vec<String>,
    /// No way out and no way in; published ports included.
    pub internal: bool,
    /// The host and the containers reach each other by their own addresses.
    pub host_access: bool,
    /// The reference plugin's key `ingressPolicy`.
    pub ingress: Ingress,
    /// The reference plugin's key `iptablesAdminChainName`. iptables only: in nftables the admin's
    /// chain is `admin` of our table.
    pub admin_chain: String,
    /// Where the network goes on over other hosts; `None`: it is on this host alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
}

/// The way between a network's bridge and its containers on other hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The tunnel's device, which has no other packets than the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Interfaces by which packets of the network come and go as they are, among others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<String>,
    /// The subnets of the whole network.
    pub subnets: Vec<IpNetwork>,
}

impl Reach {
    /// Each interface with each subnet of a family.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&str, IpNetwork)> {
        let interfaces = self.device.iter().chain(&self.uplinks);
        interfaces.flat_map(|interface| {
            let subnets = self.subnets.iter();
            subnets.map(move |subnet| (interface.as_str(), *subnet))
        })
    }
}

/// The reference plugin's `ingressPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ingress {
    /// No rule.
    #[default]
    Open,
    /// Nothing from other bridges that are not open either.
    SameBridge,
    /// As `SameBridge`, and nothing routed back into the own bridge.
    Isolated,
}

/// The addresses of one attachment, for where there is no bridge with a policy: the iptables backend
/// accepts what comes from them and replies to them, as the reference plugin does, so that a FORWARD
/// chain with policy DROP lets them through. What comes from a bridge with a policy it accepts by
/// bridge, so that a container costs nothing; a member beside a policy makes no rule. nftables has no
/// rule for it either: an accept in one table does not override a drop in another. In both backends the
/// admin's chain is there with the first member, and comes before all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Owner of the rules.
    pub owner: Owner,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// As [`Policy::admin_chain`].
    pub admin_chain: String,
}

/// Exceptions from `icc: false`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The linking container's attachment.
    pub owner: Owner,
    /// The bridge on which both containers are.
    pub bridge: String,
    /// The linking container's address.
    pub from: IpAddr,
    /// The other container's address; of the same family.
    pub to: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Port of the other container.
    pub port: u16,
}

/// A port of a bridge whose network has no `icc`: no frame passes to another such port, whatever is
/// in it, except what a redirection (DNAT, seen in frames when bridged packets pass netfilter) sends
/// there. Always made by nftables, in the bridge family, whichever backend makes the rest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortIsolation {
    /// Owner of the port.
    pub owner: Owner,
    /// The bridge.
    pub bridge: String,
    /// Name of the bridge port on the host.
    pub port: String,
}

impl Policy {
    /// The openness of the reference plugin without any key.
    #[must_use]
    pub fn open(network: &str, bridge: &str) -> Self {
        Self {
            network: network.to_owned(),
            bridge: bridge.to_owned(),
            icc: true,
            isolated: false,
            closed: false,
            trusted: Vec::new(),
            internal: false,
            host_access: true,
            ingress: Ingress::Open,
            admin_chain: "CNI-ADMIN".to_owned(),
            reach: None,
        }
    }

    /// What lets this network pass where another backend decides.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            admin_chain: self.admin_chain.clone(),
            reach: self.reach.clone(),
            ..Self::open(&self.network, &self.bridge)
        }
    }

    /// Docker's promise: isolated from other networks, closed from outside, open within.
    #[must_use]
    pub fn docker(network: &str, bridge: &str) -> Self {
        Self {
            isolated: true,
            closed: true,
            ..Self::open(network, bridge)
        }
    }
}
