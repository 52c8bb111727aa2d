//! What the kernel shall have: files and facts in, a device and entries out. No kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use pontoon_conf::{Cidr, Mac};
use pontoon_ledger::overlay::{self, OverlayMode, OverlayPeer, tunnel_mac};
use pontoon_netfilter::TunnelGuard;
use pontoon_netlink::{Forwarding, IpNetwork, RouteSpec, TableEntry};

use super::facts::{Facts, Uplink};
use super::{LAST_METRIC, PROTOCOL, Wanted};

/// Bytes that a packet in the tunnel has before its own: Ethernet, VXLAN, UDP, and IPv4 or IPv6.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;
/// No IPv4 link may have less (RFC 791).
const LEAST_MTU: u32 = 68;

/// The device, addresses included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) vni: u32,
    pub(super) port: u16,
    pub(super) local: IpAddr,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    /// The first address of the first block of each family: the source of what this host itself sends.
    pub(super) addresses: Vec<Cidr>,
    /// Containers of the network have IPv6 addresses.
    pub(super) v6: bool,
}

/// All that the kernel shall have. Interfaces are numbers; that of the device is 0 until it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) device: Option<Device>,
    /// Entries by their key.
    pub(super) entries: BTreeMap<EntryKey, TableEntry>,
    /// What keeps others out.
    pub(super) guard: Option<TunnelGuard>,
    /// What cannot be, in words.
    pub(super) impossible: Vec<String>,
}

/// What tells entries of one table apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryKey {
    Route(IpAddr, u8, u32),
    Neighbour(IpAddr),
    Forwarding([u8; 6]),
}

pub(super) fn key(entry: &TableEntry) -> EntryKey {
    match entry {
        TableEntry::Route(spec) => EntryKey::Route(
            spec.dst.network(),
            spec.dst.prefix(),
            spec.priority.unwrap_or_default(),
        ),
        TableEntry::Neighbour { address, .. } => EntryKey::Neighbour(*address),
        TableEntry::Forwarding(entry) => EntryKey::Forwarding(entry.mac),
    }
}

/// The device's number before it is there.
pub(super) const NO_DEVICE: u32 = 0;

/// The link-local address that a hardware address gives (RFC 4291, appendix A).
pub(super) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        (a ^ 2) << 8 | b,
        c << 8 | 0xff,
        0xfe00 | d,
        e << 8 | f,
    )
}

pub(super) fn plan(wanted: &Wanted, facts: &Facts) -> Plan {
    let network = &wanted.network;
    let mut plan = Plan::default();
    for it in &network.subnets {
        plan.put(TableEntry::Route(RouteSpec {
            unreachable: true,
            priority: Some(LAST_METRIC),
            protocol: Some(PROTOCOL),
            ..RouteSpec::to(it.subnet.network().into())
        }));
    }
    let Some(local) = network.underlay.tunnel() else {
        return plan;
    };
    let uplinks = [true, false].map(|v4| facts.uplink(v4));
    let mut uplinks: Vec<String> = uplinks
        .into_iter()
        .flatten()
        .map(|uplink| uplink.name.clone())
        .collect();
    uplinks.dedup();
    plan.guard = Some(TunnelGuard {
        device: overlay::device(&network.network),
        vni: network.vni,
        port: network.port,
        subnets: network
            .subnets
            .iter()
            .map(|it| it.subnet.network().into())
            .collect(),
        senders: Vec::new(),
        uplinks,
        direct: Vec::new(),
    });
    // What the host itself sends to a service needs some route, before it is led to a container.
    for range in &network.services {
        let out = match network.mode {
            OverlayMode::Direct => facts.uplink(range.is_ipv4()).map(|uplink| uplink.index),
            OverlayMode::Vxlan | OverlayMode::Auto => Some(NO_DEVICE),
        };
        if let Some(interface) = out {
            plan.put(TableEntry::Route(RouteSpec {
                interface: Some(interface),
                protocol: Some(PROTOCOL),
                ..RouteSpec::to(range.network().into())
            }));
        }
    }
    for peer in &wanted.peers.peers {
        if peer.host == network.host {
            plan.impossible
                .push(format!("host {} is this host itself", peer.host));
            continue;
        }
        plan.peer(wanted, facts, local, peer);
    }
    if network.mode != OverlayMode::Direct {
        let first = |v4: bool| {
            let block = network.blocks_of(v4).next()?;
            Cidr::new(block.network().addr(), if v4 { 32 } else { 128 }).ok()
        };
        plan.device = Some(Device {
            name: overlay::device(&network.network),
            vni: network.vni,
            port: network.port,
            local,
            mac: tunnel_mac(&network.host),
            mtu: mtu(facts, local.is_ipv4()),
            addresses: [true, false].into_iter().filter_map(first).collect(),
            v6: network.has_family(false),
        });
    }
    plan
}

/// What fits into the tunnel on the way to every host.
fn mtu(facts: &Facts, v4: bool) -> u32 {
    let overhead = if v4 { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let uplink = facts.uplink(v4).map_or(1500, |uplink| uplink.mtu);
    let below = facts.far_mtus.values().copied().fold(uplink, u32::min);
    below.saturating_sub(overhead).max(LEAST_MTU)
}

/// The next hop to a host that is on the same link, and the link: of the block's family, or of IPv6 for an IPv4
/// block (RFC 5549).
fn neighbour<'a>(
    facts: &'a Facts,
    peer: &OverlayPeer,
    block_v4: bool,
) -> Option<(IpAddr, &'a Uplink)> {
    let families: &[bool] = if block_v4 { &[true, false] } else { &[false] };
    families.iter().find_map(|v4| {
        let address = peer.underlay.family(*v4)?;
        let uplink = facts.uplink(*v4)?;
        let near = peer
            .direct
            .unwrap_or_else(|| uplink.subnet.contains(address));
        near.then_some((address, uplink))
    })
}

impl Plan {
    fn put(&mut self, entry: TableEntry) {
        if let Some(other) = self.entries.insert(key(&entry), entry)
            && other != entry
        {
            self.impossible.push(format!(
                "{entry} is wanted twice: two hosts have the same block or id"
            ));
        }
    }

    fn peer(&mut self, wanted: &Wanted, facts: &Facts, local: IpAddr, peer: &OverlayPeer) {
        let network = &wanted.network;
        let mut tunnelled = [None, None];
        let mut blocks: Vec<IpNetwork> = Vec::new();
        for block in &peer.blocks {
            let v4 = block.is_ipv4();
            let inside = |it: &overlay::OverlaySubnet| {
                it.subnet.contains(block.addr()) && it.subnet.prefix() <= block.prefix()
            };
            if !network.subnets.iter().any(inside) {
                self.impossible.push(format!(
                    "block {block} of host {} is no part of the network's subnets",
                    peer.host
                ));
                continue;
            }
            let own = |own: &Cidr| own.overlaps(block);
            if network.blocks.iter().any(own) {
                self.impossible.push(format!(
                    "block {block} of host {} is a block of this host, too",
                    peer.host
                ));
                continue;
            }
            blocks.push(block.network().into());
            let direct = match network.mode {
                OverlayMode::Vxlan => None,
                OverlayMode::Direct | OverlayMode::Auto => neighbour(facts, peer, v4),
            };
            let route = RouteSpec {
                protocol: Some(PROTOCOL),
                ..RouteSpec::to(block.network().into())
            };
            if let Some((gateway, uplink)) = direct {
                self.put(TableEntry::Route(RouteSpec {
                    gateway: Some(gateway),
                    interface: Some(uplink.index),
                    ..route
                }));
                continue;
            }
            if network.mode == OverlayMode::Direct {
                self.impossible.push(format!(
                    "host {} is not on the same link, which mode \"direct\" needs for block {block}",
                    peer.host
                ));
                continue;
            }
            let next = *tunnelled[usize::from(v4)].get_or_insert_with(|| match v4 {
                true => block.network().addr(),
                false => link_local(peer.mac).into(),
            });
            self.put(TableEntry::Route(RouteSpec {
                gateway: Some(next),
                interface: Some(NO_DEVICE),
                onlink: true,
                ..route
            }));
        }
        if let Some(guard) = &mut self.guard {
            // In mode auto the other host decides for itself which way it takes.
            if network.mode != OverlayMode::Vxlan {
                guard.direct.extend(&blocks);
            }
            let sender = peer.underlay.family(local.is_ipv4());
            if let Some(sender) = sender.filter(|_| network.mode != OverlayMode::Direct) {
                guard.senders.push((sender, blocks));
            }
        }
        let next_hops: Vec<IpAddr> = tunnelled.into_iter().flatten().collect();
        if next_hops.is_empty() {
            return;
        }
        let Some(remote) = peer.underlay.family(local.is_ipv4()) else {
            let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
            self.impossible.push(format!(
                "host {} has no {family} address for the tunnel, as this host has",
                peer.host
            ));
            self.entries.retain(|_, entry| {
                !matches!(entry, TableEntry::Route(spec) if spec.gateway.is_some_and(|it| next_hops.contains(&it)))
            });
            return;
        };
        for address in next_hops {
            self.put(TableEntry::Neighbour {
                interface: NO_DEVICE,
                address,
                mac: peer.mac.0,
            });
        }
        self.put(TableEntry::Forwarding(Forwarding {
            interface: NO_DEVICE,
            mac: peer.mac.0,
            remote,
        }));
    }

    /// The plan with the device's number in its place.
    pub(super) fn at_device(mut self, index: u32) -> Self {
        for entry in self.entries.values_mut() {
            match entry {
                TableEntry::Route(spec) => {
                    if spec.interface == Some(NO_DEVICE) {
                        spec.interface = Some(index);
                    }
                }
                TableEntry::Neighbour { interface, .. } => *interface = index,
                TableEntry::Forwarding(entry) => entry.interface = index,
            }
        }
        self
    }
}
