//! The answer: a pure function of what the resolver knows, who asks, and what is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use crate::name::{Name, localhost, reverse};
use crate::wire::{CLASS_IN, HEADER, Query, UDP_MOST, kind};
use crate::zone::{Attachment, Querier, Zone};

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Addresses of a known name.
    Addresses {
        /// Of the family asked for; never empty.
        addresses: Vec<IpAddr>,
        /// Time to live, in seconds.
        ttl: u32,
    },
    /// The name of a known address.
    Pointer {
        /// The name.
        name: Name,
        /// Time to live, in seconds.
        ttl: u32,
    },
    /// The authority of our domain itself.
    Authority {
        /// Time to live, in seconds.
        ttl: u32,
    },
    /// The name is known, and has nothing of this type.
    NoData {
        /// Where in the name its authority begins, in bytes.
        apex: usize,
        /// Time to live, in seconds.
        ttl: u32,
    },
    /// There is no such name in our domain.
    NoName {
        /// Where in the name its authority begins, in bytes.
        apex: usize,
        /// Time to live, in seconds.
        ttl: u32,
    },
    /// Not to be asked, or not by this one.
    Refused(Refusal),
    /// EDNS of a version that is not defined yet.
    BadVersion,
    /// Another server knows.
    Forward,
}

/// Why a question is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The source address is no container's that has a record here, nor the host's.
    Stranger,
    /// ANY and zone transfers are for others.
    Kind,
    /// Not the class of the internet.
    Class,
    /// A name of the outside, and the container is on internal networks alone.
    Internal,
}

/// For how long the absence of a name in our domain may be remembered when no record says, in
/// seconds.
const TTL: u32 = 5;

/// Names of the host in wire format, as Podman and Docker have them.
const HOST_NAMES: [&[u8]; 2] = [
    b"\x04host\x0acontainers\x08internal",
    b"\x04host\x06docker\x08internal",
];

/// Decides.
#[must_use]
pub fn decide(zone: &Zone, source: IpAddr, query: &Query<'_>) -> Verdict {
    let querier = zone.querier(source);
    decide_for(zone, querier, query)
}

/// As [`decide`], for an asker that is known already.
#[must_use]
pub fn decide_for(zone: &Zone, querier: Querier<'_>, query: &Query<'_>) -> Verdict {
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Verdict::BadVersion;
    }
    if querier == Querier::Stranger {
        return Verdict::Refused(Refusal::Stranger);
    }
    if query.qclass != CLASS_IN {
        return Verdict::Refused(Refusal::Class);
    }
    if matches!(query.qtype, kind::ANY | kind::AXFR | kind::IXFR) {
        return Verdict::Refused(Refusal::Kind);
    }
    let mut buffer = [0; 255];
    let Some(name) = buffer.get_mut(..query.name.len()) else {
        return Verdict::Forward;
    };
    name.copy_from_slice(query.name);
    name.make_ascii_lowercase();
    let name = &*name;

    if let Some(head) = localhost(name) {
        return of_localhost(head.len(), query.qtype);
    }
    let domain = zone.domain(querier, name);
    let apex = domain.map_or(0, |(_, head)| head.len());
    let found = lookup(zone, querier, name, domain);
    if let Some(first) = found.first() {
        let ttl = found
            .iter()
            .map(|one| one.shared.ttl)
            .min()
            .unwrap_or(first.shared.ttl);
        return of_name(&found, query.qtype, apex, ttl);
    }
    if let Some((_, head)) = domain {
        return in_domain(zone, querier, head, query.qtype);
    }
    if HOST_NAMES.contains(&name) {
        return of_host(zone, querier, query.qtype);
    }
    if let Some(address) = reverse(name)
        && let Some(verdict) = of_loopback(address, query.qtype)
    {
        return verdict;
    }
    if let Some(address) = reverse(name)
        && let Some(attachment) = zone.at(address)
        && zone.on_network(querier, &attachment.shared.network)
        && let Some(own) = full_name(attachment)
    {
        let ttl = attachment.shared.ttl;
        return match query.qtype {
            kind::PTR => Verdict::Pointer { name: own, ttl },
            _ => Verdict::NoData { apex: 0, ttl },
        };
    }
    Verdict::Forward
}

/// Attachments of a name: one, as a rule, which takes no memory.
type FoundAttachments<'z> = SmallVec<[&'z Attachment; 4]>;

/// What the asker means by a name: an alias of its own links first, then a name of its networks, as
/// it is, below the domain, below the network, or below both.
fn lookup<'z>(
    zone: &'z Zone,
    querier: Querier<'z>,
    name: &'z [u8],
    domain: Option<(&Name, &'z [u8])>,
) -> FoundAttachments<'z> {
    let local = domain.map_or(name, |(_, head)| head);
    if local.is_empty() {
        return FoundAttachments::new();
    }
    if let Some(target) = zone.link(querier, local) {
        return zone.named(querier, target.wire()).collect();
    }
    let below =
        |found: &&Attachment| domain.is_none_or(|(domain, _)| found.shared.domain == *domain);
    let mut found: FoundAttachments<'_> = zone.named(querier, local).filter(below).collect();
    if found.is_empty()
        && let Some((network, head)) = zone.network(querier, local)
        && !head.is_empty()
    {
        found = zone
            .named(querier, head)
            .filter(|found| found.shared.label.as_ref() == Some(network))
            .filter(below)
            .collect();
    }
    if found.is_empty() && domain.is_some() {
        // A container may be called like something in the domain.
        found = zone.named(querier, name).collect();
    }
    found
}

fn of_name(found: &[&Attachment], qtype: u16, apex: usize, ttl: u32) -> Verdict {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let wanted = match qtype {
        kind::A => true,
        kind::AAAA => false,
        _ => return Verdict::NoData { apex, ttl },
    };
    for address in found.iter().flat_map(|one| &one.addresses) {
        if address.is_ipv4() == wanted && !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    if addresses.is_empty() {
        Verdict::NoData { apex, ttl }
    } else {
        Verdict::Addresses { addresses, ttl }
    }
}

/// The host as its containers reach it: at the gateways of their networks. An open network's come
/// first, since an internal one may keep the host away.
fn of_host(zone: &Zone, querier: Querier<'_>, qtype: u16) -> Verdict {
    let mut addresses: Vec<IpAddr> = Vec::new();
    match querier {
        Querier::Container(id) => {
            for internal in [false, true] {
                let networks = zone.of_container(id);
                let gateways = networks
                    .filter(|one| one.shared.internal == internal)
                    .flat_map(|one| &one.shared.gateways);
                for gateway in gateways {
                    let known = |other: &IpAddr| other.is_ipv4() == gateway.is_ipv4();
                    if !addresses.iter().any(known) {
                        addresses.push(*gateway);
                    }
                }
            }
        }
        Querier::Host => {
            addresses.extend([
                IpAddr::from(Ipv4Addr::LOCALHOST),
                Ipv6Addr::LOCALHOST.into(),
            ]);
        }
        Querier::Stranger => {}
    }
    addresses.retain(|address| match qtype {
        kind::A => address.is_ipv4(),
        kind::AAAA => address.is_ipv6(),
        _ => false,
    });
    if addresses.is_empty() {
        return Verdict::NoData { apex: 0, ttl: TTL };
    }
    Verdict::Addresses {
        addresses,
        ttl: TTL,
    }
}

/// RFC 6761 section 6.3: `localhost` has the loopback addresses and nothing else, and no other
/// server is asked about it.
fn of_localhost(apex: usize, qtype: u16) -> Verdict {
    let address: IpAddr = match qtype {
        kind::A => Ipv4Addr::LOCALHOST.into(),
        kind::AAAA => Ipv6Addr::LOCALHOST.into(),
        _ => return Verdict::NoData { apex, ttl: TTL },
    };
    Verdict::Addresses {
        addresses: vec![address],
        ttl: TTL,
    }
}

/// The way back from the loopback addresses (RFC 6303 section 4).
fn of_loopback(address: IpAddr, qtype: u16) -> Option<Verdict> {
    let known = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    if !known.contains(&address) {
        return None;
    }
    Some(match (qtype, Name::parse("localhost")) {
        (kind::PTR, Some(name)) => Verdict::Pointer { name, ttl: TTL },
        _ => Verdict::NoData { apex: 0, ttl: TTL },
    })
}

/// What is in our domain and no container's name.
fn in_domain(zone: &Zone, querier: Querier<'_>, head: &[u8], qtype: u16) -> Verdict {
    let apex = head.len();
    let ttl = TTL;
    if head.is_empty() {
        return match qtype {
            kind::SOA => Verdict::Authority { ttl },
            _ => Verdict::NoData { apex, ttl },
        };
    }
    // A network's name has names below it, so it exists (RFC 8020).
    match zone.network(querier, head) {
        Some((_, [])) => Verdict::NoData { apex, ttl },
        _ => Verdict::NoName { apex, ttl },
    }
}

/// A name that leads back: NAME.NETWORK.DOMAIN, or without the network if its name is no domain
/// name.
fn full_name(attachment: &Attachment) -> Option<Name> {
    let own = attachment.own.as_ref()?;
    let below = match &attachment.shared.label {
        Some(network) => own.under(network.wire())?,
        None => own.clone(),
    };
    below
        .under(attachment.shared.domain.wire())
        .or_else(|| own.under(attachment.shared.domain.wire()))
}

/// Bytes of an OPT record with nothing in it but the size of what is taken by UDP.
const OPT: usize = 11;

/// As [`prepared`], of a packet. `false` too when it is no plain query.
pub fn ready(
    zone: &Zone,
    source: IpAddr,
    packet: &[u8],
    by_udp: bool,
    rotation: usize,
    out: &mut Vec<u8>,
) -> bool {
    let query = Query::plain(packet);
    query.is_some_and(|query| prepared(zone, source, &query, by_udp, rotation, out))
}

/// Writes the answer to a plain query ([`Query::plain`]) for a known name, as it was prepared when the
/// zone changed. `false` when there is none, or there is more to the answer.
pub fn prepared(
    zone: &Zone,
    source: IpAddr,
    query: &Query<'_>,
    by_udp: bool,
    rotation: usize,
    out: &mut Vec<u8>,
) -> bool {
    write_prepared(zone, source, query, by_udp, rotation, out).is_some()
}

fn write_prepared(
    zone: &Zone,
    source: IpAddr,
    query: &Query<'_>,
    by_udp: bool,
    rotation: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let name = query.name;
    let family = match (query.qtype, query.qclass) {
        (kind::A, CLASS_IN) => 0,
        (kind::AAAA, CLASS_IN) => 1,
        _ => return None,
    };
    if name.is_empty() || query.edns.is_some_and(|edns| edns.dnssec) {
        return None;
    }
    // In lower case, or it is not found here.
    let querier = zone.querier(source);
    if querier == Querier::Stranger || localhost(name).is_some() {
        return None;
    }
    let found = lookup(zone, querier, name, zone.domain(querier, name));
    let [attachment] = found.as_slice() else {
        return None;
    };
    let limit = match by_udp {
        true => query.udp_limit(),
        false => usize::from(u16::MAX),
    };
    let edns = if query.edns.is_some() { OPT } else { 0 };
    let records = &attachment.ready[family];
    if records.is_empty() || query.end + records.len() + edns > limit {
        return None;
    }
    let one = if family == 0 { 16 } else { 28 };
    let count = records.len() / one;
    let [.., count_high, count_low] = count.to_be_bytes();
    let head = query.packet.get(..HEADER)?;
    out.clear();
    out.extend_from_slice(&[
        head[0],
        head[1],
        0x84 | head[2],
        0x80 | head[3] & 0x10,
        0,
        1,
        count_high,
        count_low,
        0,
        0,
        0,
        head[11],
    ]);
    out.extend_from_slice(query.packet.get(HEADER..query.end)?);
    let (tail, front) = records.split_at(rotation % count * one);
    out.extend_from_slice(front);
    out.extend_from_slice(tail);
    if edns > 0 {
        let [high, low] = (UDP_MOST as u16).to_be_bytes();
        out.extend_from_slice(&[0, 0, kind::OPT as u8, high, low, 0, 0, 0, 0, 0, 0]);
    }
    Some(())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
