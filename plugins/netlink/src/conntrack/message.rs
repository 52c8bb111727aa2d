//! ctnetlink messages, as linux/netfilter/nfnetlink_conntrack.h has them.

use std::net::IpAddr;

use super::Filter;
use crate::attr::{self, Attr, Attrs};

/// NFNL_SUBSYS_CTNETLINK in the high byte.
pub(super) const GET: u16 = 0x101;
pub(super) const DELETE: u16 = 0x102;
pub(super) const GET_STATS: u16 = 0x105;
/// CTA_STATS_GLOBAL_ENTRIES.
pub(super) const STATS_ENTRIES: u16 = 1;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_STATUS_MASK: u16 = 26;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Bit of CTA_STATUS (linux/netfilter/nf_conntrack_common.h).
const IPS_DST_NAT: u32 = 1 << 5;

/// Bits of CTA_FILTER_*_FLAGS: which parts of the tuple count.
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_DST_PORT: u32 = 1 << 5;

/// `struct nfgenmsg`.
pub(super) fn header(v4: bool) -> [u8; 4] {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
    [family as u8, 0, 0, 0]
}

/// CTA_IP_V4_SRC and its three siblings.
fn ip_kind(address: IpAddr, destination: bool) -> u16 {
    match (address.is_ipv4(), destination) {
        (true, false) => 1,
        (true, true) => 2,
        (false, false) => 3,
        (false, true) => 4,
    }
}

/// A filter: a partial tuple, and flags that say which of its parts count. The tuple must be there: a kernel that does
/// not know CTA_FILTER would else take the message for the order to delete everything. With it, it finds the tuple
/// incomplete and refuses.
pub(super) fn filter(attrs: &mut Attrs, filter: &Filter) {
    let (mut original, mut reply) = (0, 0);
    let ends = [
        (filter.original_source, false, IP_SRC),
        (filter.original_destination, true, IP_DST),
    ];
    let addressed = ends.iter().any(|(address, ..)| address.is_some());
    if filter.protocol.is_some() || addressed {
        attrs.nested(CTA_TUPLE_ORIG, |tuple| {
            if addressed {
                tuple.nested(CTA_TUPLE_IP, |ip| {
                    for (address, destination, flag) in ends {
                        if let Some(address) = address {
                            original |= flag;
                            ip.ip(ip_kind(address, destination), address);
                        }
                    }
                });
            }
            if let Some(protocol) = filter.protocol {
                original |= PROTO_NUM;
                tuple.nested(CTA_TUPLE_PROTO, |proto| {
                    proto.u8(CTA_PROTO_NUM, protocol);
                    if let Some(port) = filter.original_port {
                        original |= PROTO_DST_PORT;
                        proto.u16be(CTA_PROTO_DST_PORT, port);
                    }
                });
            }
        });
    }
    if let Some(address) = filter.reply_source {
        reply |= IP_SRC;
        attrs.nested(CTA_TUPLE_REPLY, |tuple| {
            tuple.nested(CTA_TUPLE_IP, |ip| ip.ip(ip_kind(address, false), address));
        });
    }
    if let Some(translated) = filter.translated {
        attrs.u32be(CTA_STATUS, if translated { IPS_DST_NAT } else { 0 });
        attrs.u32be(CTA_STATUS_MASK, IPS_DST_NAT);
    }
    attrs.nested(CTA_FILTER, |flags| {
        flags.u32(CTA_FILTER_ORIG_FLAGS, original);
        flags.u32(CTA_FILTER_REPLY_FLAGS, reply);
    });
}

/// What matters of a flow, and what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow<'a> {
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) reply_source: IpAddr,
    pub(super) translated: bool,
    pub(super) tuple: &'a [u8],
    pub(super) zone: Option<u16>,
    pub(super) id: Option<u32>,
}

impl<'a> Flow<'a> {
    /// Reads the payload of a message: `struct nfgenmsg`, then attributes.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Flow<'a>> {
        let attributes = payload.get(4..)?;
        let attrs = || attr::read(attributes);
        let original = attrs().get(CTA_TUPLE_ORIG)?;
        let answer = attrs().get(CTA_TUPLE_REPLY)?;
        let proto = original.nested().get(CTA_TUPLE_PROTO)?;
        let address = |tuple: &Attr<'_>, kinds: [u16; 2]| {
            let addresses = tuple.nested().get(CTA_TUPLE_IP)?;
            let found = addresses.nested().find(|ip| kinds.contains(&ip.kind));
            found?.ip()
        };
        Some(Flow {
            protocol: proto.nested().get(CTA_PROTO_NUM)?.u8()?,
            source: address(&original, [1, 3])?,
            destination: address(&original, [2, 4])?,
            port: proto
                .nested()
                .get(CTA_PROTO_DST_PORT)
                .and_then(|port| port.u16be()),
            reply_source: address(&answer, [1, 3])?,
            translated: attrs()
                .get(CTA_STATUS)
                .and_then(|status| status.u32be())
                .is_some_and(|status| status & IPS_DST_NAT != 0),
            tuple: original.value,
            zone: attrs().get(CTA_ZONE).and_then(|zone| zone.u16be()),
            id: attrs().get(CTA_ID).and_then(|id| id.u32be()),
        })
    }

    /// The whole tuple, and the id, so that a successor of the same tuple is not meant.
    pub(super) fn identify(&self, attrs: &mut Attrs) {
        attrs.nested(CTA_TUPLE_ORIG, |tuple| tuple.append(self.tuple));
        if let Some(zone) = self.zone {
            attrs.u16be(CTA_ZONE, zone);
        }
        if let Some(id) = self.id {
            attrs.u32be(CTA_ID, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(fill: impl FnOnce(&mut Attrs)) -> Vec<u8> {
        let mut attrs = Attrs::default();
        fill(&mut attrs);
        attrs.into_bytes()
    }

    #[test]
    fn a_filter_names_its_parts_twice() {
        let by_port = Filter {
            v4: true,
            protocol: Some(17),
            original_port: Some(53),
            ..Filter::default()
        };
        #[rustfmt::skip]
        let expected = [
            24, 0, 1, 0x80, 20, 0, 2, 0x80, 5, 0, 1, 0, 17, 0, 0, 0, 6, 0, 3, 0, 0, 53, 0, 0,
            20, 0, 25, 0x80, 8, 0, 1, 0, 0x28, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0,
        ];
        assert_eq!(write(|attrs| filter(attrs, &by_port)), expected);

        let by_reply = Filter {
            v4: true,
            reply_source: Some(IpAddr::from([10, 0, 0, 2])),
            ..Filter::default()
        };
        #[rustfmt::skip]
        let expected = [
            16, 0, 2, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 2,
            20, 0, 25, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 8, 0, 2, 0, 1, 0, 0, 0,
        ];
        assert_eq!(write(|attrs| filter(attrs, &by_reply)), expected);
    }

    /// A dump of connections of a kernel that is broken: a flow is read whole, or not at all.
    #[test]
    fn mutated_flows_are_read_or_not() {
        let flow = |ends: [IpAddr; 3], protocol: u8| {
            let attributes = write(|attrs| {
                attrs.nested(CTA_TUPLE_ORIG, |tuple| {
                    tuple.nested(CTA_TUPLE_IP, |ip| {
                        ip.ip(ip_kind(ends[0], false), ends[0]);
                        ip.ip(ip_kind(ends[1], true), ends[1]);
                    });
                    tuple.nested(CTA_TUPLE_PROTO, |proto| {
                        proto.u8(CTA_PROTO_NUM, protocol);
                        proto.u16be(CTA_PROTO_DST_PORT, 53);
                    });
                });
                attrs.nested(CTA_TUPLE_REPLY, |tuple| {
                    tuple.nested(CTA_TUPLE_IP, |ip| {
                        ip.ip(ip_kind(ends[2], false), ends[2]);
                    });
                });
                attrs.u32be(CTA_STATUS, IPS_DST_NAT);
                attrs.u16be(CTA_ZONE, 7);
                attrs.u32be(CTA_ID, 5);
            });
            [&header(ends[0].is_ipv4())[..], &attributes].concat()
        };
        let v4 = [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]].map(IpAddr::from);
        let v6 = [1, 2, 3].map(|number| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]));
        let good = [flow(v4, 17), flow(v6, 6), flow(v4, 1)];
        pontoon_lab::fuzz("connections", &good, |bytes, _| {
            let Some(flow) = Flow::parse(bytes) else {
                return;
            };
            assert!(flow.tuple.len() <= bytes.len());
            let order = write(|attrs| flow.identify(attrs));
            // The order to delete it names this flow, and no other.
            let payload = [&bytes[..4], &order].concat();
            let tuple = attr::read(&payload[4..]).get(CTA_TUPLE_ORIG);
            assert!(tuple.is_some_and(|tuple| tuple.value.starts_with(flow.tuple)));
            assert_eq!(
                attr::read(&payload[4..])
                    .get(CTA_ID)
                    .and_then(|id| id.u32be()),
                flow.id
            );
        });
    }

    #[test]
    fn a_flow_is_identified_by_what_was_listed() {
        let listed = write(|attrs| {
            attrs.nested(CTA_TUPLE_ORIG, |tuple| {
                tuple.nested(CTA_TUPLE_IP, |ip| {
                    ip.ip(1, IpAddr::from([10, 0, 0, 1]));
                    ip.ip(2, IpAddr::from([10, 0, 0, 2]));
                });
                tuple.nested(CTA_TUPLE_PROTO, |proto| {
                    proto.u8(CTA_PROTO_NUM, 17);
                    proto.u16be(CTA_PROTO_DST_PORT, 53);
                });
            });
            attrs.nested(CTA_TUPLE_REPLY, |tuple| {
                tuple.nested(CTA_TUPLE_IP, |ip| ip.ip(1, IpAddr::from([10, 0, 0, 3])));
            });
            attrs.u32be(CTA_ID, 5);
        });
        let payload = [&header(true)[..], &listed].concat();
        let flow = Flow::parse(&payload).expect("a flow");
        let seen = (
            flow.protocol,
            flow.port,
            flow.destination,
            flow.reply_source,
        );
        assert_eq!(
            seen,
            (
                17,
                Some(53),
                IpAddr::from([10, 0, 0, 2]),
                IpAddr::from([10, 0, 0, 3])
            )
        );
        let order = write(|attrs| flow.identify(attrs));
        assert!(
            listed.starts_with(&order[..order.len() - 8]),
            "the tuple is sent back as it came"
        );
        assert_eq!(&order[order.len() - 8..], [8, 0, 12, 0, 0, 0, 0, 5]);
    }
}
