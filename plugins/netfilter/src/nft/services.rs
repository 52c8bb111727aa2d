//! Addresses of services: connections to one of them go to one of the service's containers. All of a host's networks are
//! in one table.
//!
//! ```text
//! table inet pontoon-services
//!     map ports4        address . protocol . port : jump s1       one lookup, however many services there are
//!     map any4          address : jump s2                         for those that take every port
//!     map targets4      number : address . port                   the containers of s1, s2, ... one behind the other
//!     map addresses4    number : address
//!     set blocks4_24    the addresses of this host's containers, cut to the length of their block
//!     chain services    the lookups
//!     chain s1          dnat to numgen random mod 3 offset 0 map @targets4, or by a hash of the client's address
//!     chain strangers   prerouting, before: to these addresses only from the network itself
//!     chain prerouting, output     jump services
//!     chain forward, local_out     what still goes to these addresses is refused: the client need not wait
//!     chain postrouting            masqueraded: the host's own connections, and those between two containers of it
//! ```
//!
//! A number is chosen among as many as there are containers, so that each gets the same part. It is the first packet of a
//! connection that is looked up; what follows is connection tracking's.
//!
//! A container answers another one of its bridge without the host's help, and then its answer has the wrong address. So
//! such a connection is masqueraded: the container sees the bridge's address. Across hosts the client's address stays.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::chain::Hook;
use super::element::{Data, port_key, target};
use super::error::Error;
use super::expression::{
    Base, Compare, DESTINATION_PORT, Meta, PORT_LENGTH, REG, REG32, Rule, Verdict, address_length,
    address_offset, family_number, octets,
};
use super::guard::cut_sets;
use super::own_table::{self, OwnChain, OwnSet, OwnTable, TableChange};
use super::sets::{ElementData, Field};
use super::socket::Socket;
use super::uapi::*;
use crate::protocol::Protocol;

/// The table.
const TABLE: &str = "pontoon-services";
/// The regular chain with the lookups.
const LOOKUPS: &str = "services";
/// Mixed into the hash of a client's address, so that it is no other program's.
const SEED: u32 = 0x706f_6e74;

/// The services of a network on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// The subnets of the whole network.
    pub subnets: Vec<IpNetwork>,
    /// The parts of them that services have their addresses of.
    pub ranges: Vec<IpNetwork>,
    /// The parts of them that this host's containers have their addresses of.
    pub blocks: Vec<IpNetwork>,
    /// What leads to services.
    pub entrances: Vec<Entrance>,
}

/// An address, or a port of it, and where its connections go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entrance {
    /// The service's address.
    pub address: IpAddr,
    /// The one port; `None` for whatever is sent to the address.
    pub port: Option<(Protocol, u16)>,
    /// A client's connections all go to one target, as long as the targets stay the same.
    pub by_source: bool,
    /// Where they go; nowhere when there is none.
    pub targets: Vec<EntranceTarget>,
}

/// Where a connection may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntranceTarget {
    /// A container's address, of the entrance's family.
    pub address: IpAddr,
    /// The port there; without meaning for an entrance of every port.
    pub port: u16,
}

/// Names of the maps of one family.
struct MapNames {
    ports: &'static str,
    any: &'static str,
    targets: &'static str,
    addresses: &'static str,
}

const V4: MapNames = MapNames {
    ports: "ports4",
    any: "any4",
    targets: "targets4",
    addresses: "addresses4",
};
const V6: MapNames = MapNames {
    ports: "ports6",
    any: "any6",
    targets: "targets6",
    addresses: "addresses6",
};

fn maps(v6: bool) -> &'static MapNames {
    if v6 { &V6 } else { &V4 }
}

/// Expressions that only this table has.
impl Rule {
    /// `ip|ip6 daddr . meta l4proto . th dport vmap @MAP`.
    fn entrance(self, v6: bool, map: &str) -> Self {
        let length = address_length(v6);
        let protocol = REG32 + (length / 4) as u32;
        self.family(v6)
            .payload_to(Base::Network, address_offset(v6, false), length, REG32)
            .meta_to(Meta::Transport, protocol)
            .payload_to(Base::Transport, DESTINATION_PORT, PORT_LENGTH, protocol + 1)
            .lookup(map, Some(NFT_REG_VERDICT), false)
    }

    /// `numgen random mod COUNT offset OFFSET`.
    fn random(self, count: u32, offset: u32) -> Self {
        self.add("numgen", |out| {
            out.u32be(NFTA_NG_DREG, REG);
            out.u32be(NFTA_NG_MODULUS, count);
            out.u32be(NFTA_NG_TYPE, NFT_NG_RANDOM);
            out.u32be(NFTA_NG_OFFSET, offset);
        })
    }

    /// `jhash ip|ip6 saddr mod COUNT seed SEED offset OFFSET`.
    fn hash_of_source(self, v6: bool, count: u32, offset: u32) -> Self {
        let length = address_length(v6);
        self.payload(Base::Network, address_offset(v6, true), length)
            .add("hash", |out| {
                out.u32be(NFTA_HASH_SREG, REG);
                out.u32be(NFTA_HASH_DREG, REG);
                out.u32be(NFTA_HASH_LEN, length as u32);
                out.u32be(NFTA_HASH_MODULUS, count);
                out.u32be(NFTA_HASH_SEED, SEED);
                out.u32be(NFTA_HASH_OFFSET, offset);
                out.u32be(NFTA_HASH_TYPE, NFT_HASH_JENKINS);
            })
    }

    /// `dnat to NUMBER map @MAP`.
    fn dnat_by_number(self, v6: bool, with_port: bool, map: &str) -> Self {
        let port = REG32 + (address_length(v6) / 4) as u32;
        self.lookup(map, Some(REG), false).nat(
            NFT_NAT_DNAT,
            family_number(v6),
            with_port.then_some(port),
        )
    }

    /// `ct original ip|ip6 daddr SUBNET`.
    fn original_destination(self, subnet: IpNetwork) -> Self {
        let v6 = subnet.is_ipv6();
        self.family(v6)
            .add("ct", |out| {
                out.u32be(NFTA_CT_DREG, REG);
                out.u32be(NFTA_CT_KEY, if v6 { NFT_CT_DST_IP6 } else { NFT_CT_DST_IP });
                out.bytes(NFTA_CT_DIRECTION, &[ORIGINAL]);
            })
            .mask(&octets(subnet.mask()))
            .compare(Compare::Equal, &octets(subnet.network()))
    }

    /// `fib saddr type local`.
    fn local_source(self) -> Self {
        const RTN_LOCAL: u32 = 2;
        self.add("fib", |out| {
            out.u32be(NFTA_FIB_DREG, REG);
            out.u32be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            out.u32be(NFTA_FIB_FLAGS, NFTA_FIB_F_SADDR);
        })
        .compare(Compare::Equal, &RTN_LOCAL.to_ne_bytes())
    }

    /// `ip|ip6 saddr|daddr & MASK @SET`.
    fn cut_address_in(self, v6: bool, source: bool, prefix: u8, set: &str) -> Self {
        let offset = address_offset(v6, source);
        self.family(v6)
            .payload_to(Base::Network, offset, address_length(v6), REG32)
            .cut(REG32, v6, prefix)
            .in_set(set)
    }

    /// `reject with tcp reset`, or else `reject with icmpx port-unreachable`.
    fn refused(self, tcp: bool) -> Self {
        self.add("reject", |out| match tcp {
            true => out.u32be(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
            false => {
                out.u32be(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
                out.bytes(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_PORT_UNREACH]);
            }
        })
    }
}

fn set(name: &str, key: &'static [Field], carries: ElementData) -> OwnSet {
    OwnSet {
        name: name.to_owned(),
        key,
        carries,
        elements: BTreeMap::new(),
    }
}

/// The maps of a family, and the chains that they lead to.
fn fill(networks: &[ServiceNetwork], v6: bool, sets: &mut Vec<OwnSet>, chains: &mut Vec<OwnChain>) {
    use Field::{Ipv4, Ipv6, Number, Port, Protocol};
    let names = maps(v6);
    let fields = |v4: &'static [Field], of_v6: &'static [Field]| if v6 { of_v6 } else { v4 };
    let mut ports = set(
        names.ports,
        fields(&[Ipv4, Protocol, Port], &[Ipv6, Protocol, Port]),
        ElementData::Verdict,
    );
    let mut any = set(names.any, fields(&[Ipv4], &[Ipv6]), ElementData::Verdict);
    let data = ElementData::Fields(fields(&[Ipv4, Port], &[Ipv6, Port]));
    let mut targets = set(names.targets, &[Number], data);
    let data = ElementData::Fields(fields(&[Ipv4], &[Ipv6]));
    let mut addresses = set(names.addresses, &[Number], data);
    let entrances = networks.iter().flat_map(|network| &network.entrances);
    for entrance in entrances.filter(|it| it.address.is_ipv6() == v6 && !it.targets.is_empty()) {
        let chain = format!("s{}", chains.len() + 1);
        let (map, with_port) = match entrance.port {
            Some((protocol, port)) => {
                let key = port_key(Some(entrance.address), protocol, port);
                ports.elements.insert(key, Data::Jump(chain.clone()));
                (&mut targets, true)
            }
            None => {
                let key = octets(entrance.address);
                any.elements.insert(key, Data::Jump(chain.clone()));
                (&mut addresses, false)
            }
        };
        let (offset, count) = (map.elements.len() as u32, entrance.targets.len() as u32);
        for (number, to) in (offset..).zip(&entrance.targets) {
            let data = match with_port {
                true => target(to.address, to.port),
                false => Data::Value(octets(to.address)),
            };
            map.elements.insert(number.to_ne_bytes().to_vec(), data);
        }
        let rule = match entrance.by_source {
            true => Rule::default().hash_of_source(v6, count, offset),
            false => Rule::default().random(count, offset),
        };
        chains.push(OwnChain {
            rules: vec![rule.dnat_by_number(v6, with_port, &map.name)],
            name: chain,
            hook: None,
        });
    }
    sets.extend([ports, any, targets, addresses]);
}

fn table(networks: &[ServiceNetwork]) -> OwnTable {
    let (mut sets, mut chains) = (Vec::new(), Vec::new());
    let mut lookups = Vec::new();
    for v6 in [false, true] {
        fill(networks, v6, &mut sets, &mut chains);
        let names = maps(v6);
        lookups.push(Rule::default().entrance(v6, names.ports));
        lookups.push(Rule::default().address_verdict(v6, false, names.any));
    }
    let blocks = networks.iter().flat_map(|network| &network.blocks);
    let blocks = cut_sets("blocks", 0, blocks.map(|block| (Vec::new(), block)));
    let to = |range: &IpNetwork| Rule::default().address(false, Compare::Equal, *range);
    let (mut strangers, mut left, mut masqueraded) = (Vec::new(), Vec::new(), Vec::new());
    for network in networks {
        for range in &network.ranges {
            let same = |subnet: &&IpNetwork| subnet.is_ipv6() == range.is_ipv6();
            let subnets = network.subnets.iter().filter(same);
            strangers.extend(subnets.map(|subnet| {
                to(range)
                    .address(true, Compare::Differs, *subnet)
                    .verdict(Verdict::Drop)
            }));
            strangers.push(to(range).not_the_way_back().verdict(Verdict::Drop));
            let tcp = [Protocol::Tcp.number()];
            let is_tcp = to(range)
                .meta(Meta::Transport)
                .compare(Compare::Equal, &tcp);
            left.extend([is_tcp.refused(true), to(range).refused(false)]);
            let asked = || Rule::default().original_destination(*range);
            masqueraded.push(asked().local_source().masquerade());
            for set in blocks.iter().filter(|set| set.v6 == range.is_ipv6()) {
                masqueraded.push(
                    asked()
                        .cut_address_in(set.v6, true, set.prefix, &set.name)
                        .cut_address_in(set.v6, false, set.prefix, &set.name)
                        .masquerade(),
                );
            }
        }
    }
    let base = |name: &str, kind, number, priority, rules| OwnChain {
        name: name.to_owned(),
        hook: Some(Hook {
            kind,
            number,
            priority,
        }),
        rules,
    };
    let jump = || vec![Rule::default().verdict(Verdict::Jump(LOOKUPS))];
    chains.push(OwnChain {
        name: LOOKUPS.to_owned(),
        hook: None,
        rules: lookups,
    });
    chains.extend([
        base("strangers", "filter", NF_INET_PRE_ROUTING, -110, strangers),
        base("prerouting", "nat", NF_INET_PRE_ROUTING, -100, jump()),
        base("output", "nat", NF_INET_LOCAL_OUT, -100, jump()),
        base("forward", "filter", NF_INET_FORWARD, -20, left.clone()),
        base("local_out", "filter", NF_INET_LOCAL_OUT, -20, left),
        base("postrouting", "nat", NF_INET_POST_ROUTING, 100, masqueraded),
    ]);
    sets.extend(blocks.into_iter().map(OwnSet::from));
    OwnTable {
        name: TABLE.to_owned(),
        sets,
        chains,
    }
}

/// Makes the table lead to these services, or removes it when no network can have any.
pub(super) fn apply(
    socket: &mut Socket,
    networks: &[ServiceNetwork],
) -> Result<TableChange, Error> {
    if networks.iter().all(|network| network.ranges.is_empty()) {
        return Ok(match own_table::remove(socket, TABLE)? {
            true => TableChange::Replaced,
            false => TableChange::None,
        });
    }
    table(networks).apply(socket)
}
