//! What is right: who may reach what under which policy. Nothing else in the test decides.

use pontoon_lab::Protocol;

/// What the network `lan` promises. The other network is open, as the reference plugin leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyCase {
    /// No key at all.
    Open,
    /// `profile: docker`.
    Docker,
    /// The same without `icc`.
    IccOff,
    /// The same with a link to TCP and UDP port 80 of the target.
    Link,
    /// `profile: docker`, `internal: true`.
    Internal,
    /// `profile: docker`, and eth1, where the neighbour is, in `trustedInterfaces`.
    Trusted,
    /// `profile: docker`, `hostAccess: false`.
    NoHostAccess,
}

pub(crate) const POLICY_CASES: [PolicyCase; 7] = [
    PolicyCase::Open,
    PolicyCase::Docker,
    PolicyCase::IccOff,
    PolicyCase::Link,
    PolicyCase::Internal,
    PolicyCase::Trusted,
    PolicyCase::NoHostAccess,
];

/// Where there are sockets; the numbers of the stations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Beyond the host's eth0. Like the neighbour it sends to containers' addresses too.
    Outside,
    /// Beyond eth1.
    Neighbour,
    Host,
    /// The container of `lan` that has published ports.
    Target,
    Sibling,
    /// The container of `lan` that has the link, where there is one.
    Linked,
    /// A container of the other network.
    Stranger,
}

pub(crate) const PLACES: [Place; 7] = [
    Place::Outside,
    Place::Neighbour,
    Place::Host,
    Place::Target,
    Place::Sibling,
    Place::Linked,
    Place::Stranger,
];

impl Place {
    pub(crate) fn on_lan(self) -> bool {
        matches!(self, Self::Target | Self::Sibling | Self::Linked)
    }
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The target's own address, at the port that the link allows.
    Service,
    /// The target's own address, at another port that it listens at.
    OtherPort,
    /// A port published on all addresses, at the host's address on eth0.
    Published,
    /// A port published on 127.0.0.1 and ::1, there. Each sender sends such packets to the host.
    OnLoopback,
    /// The same port at the host's address on eth0.
    LoopbackElsewhere,
    /// A port published on the host's address on eth1, there.
    OnAddress,
    /// The same port at the host's address on eth0.
    AddressElsewhere,
    /// The sibling's own address.
    Sibling,
    /// The linked container's own address.
    Linked,
    /// The same, from the port that the link allows where the target tries.
    LinkedBackwards,
    /// The stranger's own address.
    Stranger,
    /// A port that the stranger has published.
    StrangerPublished,
    /// The outside's address.
    World,
    /// The host's address on eth0, where the host itself listens.
    Host,
}

pub(crate) const ALL: [What; 14] = [
    What::Service,
    What::OtherPort,
    What::Published,
    What::OnLoopback,
    What::LoopbackElsewhere,
    What::OnAddress,
    What::AddressElsewhere,
    What::Sibling,
    What::Linked,
    What::LinkedBackwards,
    What::Stranger,
    What::StrangerPublished,
    What::World,
    What::Host,
];

impl What {
    /// Where the packet is looked for.
    pub(crate) fn at(self) -> Place {
        match self {
            Self::Service
            | Self::OtherPort
            | Self::Published
            | Self::OnLoopback
            | Self::LoopbackElsewhere
            | Self::OnAddress
            | Self::AddressElsewhere => Place::Target,
            Self::Sibling => Place::Sibling,
            Self::Linked | Self::LinkedBackwards => Place::Linked,
            Self::Stranger | Self::StrangerPublished => Place::Stranger,
            Self::World => Place::Outside,
            Self::Host => Place::Host,
        }
    }
}

/// Whether it must arrive. Where not, it must not.
pub(crate) fn arrives(
    stance: PolicyCase,
    from: Place,
    what: What,
    protocol: Protocol,
    v6: bool,
) -> bool {
    // An echo request to an address of the host is for the host; an internal network publishes nothing.
    let published = protocol != Protocol::Icmp && stance != PolicyCase::Internal;
    match what {
        What::Published | What::OnAddress => published,
        // The kernel has no route_localnet for IPv6.
        What::OnLoopback => published && from == Place::Host && !v6,
        What::LoopbackElsewhere | What::AddressElsewhere => false,
        What::StrangerPublished => {
            protocol != Protocol::Icmp && !(stance == PolicyCase::Internal && from.on_lan())
        }
        What::World => !(stance == PolicyCase::Internal && from.on_lan()),
        What::Host => !(stance == PolicyCase::NoHostAccess && from.on_lan()),
        What::Stranger => !from.on_lan() || stance == PolicyCase::Open,
        What::Service => {
            let link = from == Place::Linked && protocol != Protocol::Icmp;
            direct(stance, from, Place::Target) || (stance == PolicyCase::Link && link)
        }
        What::OtherPort | What::Sibling | What::Linked | What::LinkedBackwards => {
            direct(stance, from, what.at())
        }
    }
}

/// To the own address of a container of `lan`, links apart.
fn direct(stance: PolicyCase, from: Place, to: Place) -> bool {
    match from {
        itself if itself == to => true,
        Place::Host => stance != PolicyCase::NoHostAccess,
        Place::Target | Place::Sibling | Place::Linked => {
            !matches!(stance, PolicyCase::IccOff | PolicyCase::Link)
        }
        Place::Outside | Place::Stranger => stance == PolicyCase::Open,
        Place::Neighbour => matches!(stance, PolicyCase::Open | PolicyCase::Trusted),
    }
}
