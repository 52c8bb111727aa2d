//! The expressions that rules are made of, as the kernel's little machine reads them: load a field
//! into a register, compare or look it up, then decide. The numbers are those of
//! linux/netfilter/nf_tables.h.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::attr::{nest, put, put_str, put_u32};

/// The verdict register.
const VERDICT: u32 = 0;
/// The first 16-byte register; the 4-byte ones from 8 on overlay them.
const REG: u32 = 1;
const REG32: u32 = 8;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Keys of `meta`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Meta {
    Protocol = 1,
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    Trace = 12,
    Family = 15,
    Transport = 16,
}

/// Where a payload offset counts from.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Base {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// Final words of a rule.
#[derive(Clone, Copy)]
pub(super) enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    Jump(&'a str),
}

/// Whether a comparison wants equality.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Compare {
    Equal = 0,
    Differs = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// The expressions of one rule.
#[derive(Clone, Default)]
pub(super) struct Rule(pub(super) Vec<u8>);

/// Writes a verdict as nft_data.
pub(super) fn verdict(out: &mut Vec<u8>, verdict: Verdict<'_>) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Drop => (0, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Return => (-5, None),
    };
    nest(out, 2, |out| {
        put(out, 1, &code.to_be_bytes());
        if let Some(chain) = chain {
            put_str(out, 2, chain);
        }
    });
}

/// Interface names are compared over the whole field, NULs included.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    for (to, from) in field.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    field
}

/// Bytes of an address in network order.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Rule {
    fn add(mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        nest(&mut self.0, 1, |out| {
            put_str(out, 1, name);
            nest(out, 2, fill);
        });
        self
    }

    fn meta_to(self, key: Meta, register: u32) -> Self {
        self.add("meta", |out| {
            put_u32(out, 1, register);
            put_u32(out, 2, key as u32);
        })
    }

    fn payload_to(self, base: Base, offset: u32, length: usize, register: u32) -> Self {
        self.add("payload", |out| {
            put_u32(out, 1, register);
            put_u32(out, 2, base as u32);
            put_u32(out, 3, offset);
            put_u32(out, 4, length as u32);
        })
    }

    pub(super) fn meta(self, key: Meta) -> Self {
        self.meta_to(key, REG)
    }

    pub(super) fn payload(self, base: Base, offset: u32, length: usize) -> Self {
        self.payload_to(base, offset, length, REG)
    }

    pub(super) fn compare(self, compare: Compare, value: &[u8]) -> Self {
        self.add("cmp", |out| {
            put_u32(out, 1, REG);
            put_u32(out, 2, compare as u32);
            nest(out, 3, |out| put(out, 1, value));
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.add("bitwise", |out| {
            put_u32(out, 1, REG);
            put_u32(out, 2, REG);
            put_u32(out, 3, mask.len() as u32);
            nest(out, 4, |out| put(out, 1, mask));
            nest(out, 5, |out| put(out, 1, &vec![0; mask.len()]));
        })
    }

    /// `meta nfproto`.
    pub(super) fn family(self, v6: bool) -> Self {
        let number = if v6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
        self.meta(Meta::Family).compare(Compare::Equal, &[number])
    }

    /// `iifname`/`oifname NAME`.
    pub(super) fn named(self, key: Meta, compare: Compare, name: &str) -> Self {
        self.meta(key).compare(compare, &interface(name))
    }

    /// `ip|ip6 saddr|daddr [!=] SUBNET`.
    pub(super) fn address(self, source: bool, compare: Compare, subnet: IpNetwork) -> Self {
        let network = octets(subnet.network());
        let offset = address_offset(subnet.is_ipv6(), source);
        let whole = usize::from(subnet.prefix()).div_ceil(8);
        let rule = self.family(subnet.is_ipv6());
        if subnet.prefix().is_multiple_of(8) && whole > 0 {
            // As nft writes it: whole bytes need no mask.
            rule.payload(Base::Network, offset, whole)
                .compare(compare, &network[..whole])
        } else {
            rule.payload(Base::Network, offset, network.len())
                .mask(&octets(subnet.mask()))
                .compare(compare, &network)
        }
    }

    /// Looks the register up in a set; the rule ends here when it is not in it.
    pub(super) fn in_set(self, set: &str) -> Self {
        self.lookup(set, None, false)
    }

    /// The rule ends here when the register is in the set.
    pub(super) fn not_in_set(self, set: &str) -> Self {
        self.lookup(set, None, true)
    }

    fn lookup(self, set: &str, to: Option<u32>, inverted: bool) -> Self {
        self.add("lookup", |out| {
            put_str(out, 1, set);
            put_u32(out, 2, REG);
            if let Some(register) = to {
                put_u32(out, 3, register);
            }
            if inverted {
                put_u32(out, 5, 1);
            }
        })
    }

    /// `iifname|oifname vmap @MAP`.
    pub(super) fn name_verdict(self, key: Meta, map: &str) -> Self {
        self.meta(key).lookup(map, Some(VERDICT), false)
    }

    /// `iifname . oifname`.
    fn names(self) -> Self {
        self.meta(Meta::InputName)
            .meta_to(Meta::OutputName, REG + 1)
    }

    /// `iifname . oifname @SET`.
    pub(super) fn names_in_set(self, set: &str) -> Self {
        self.names().in_set(set)
    }

    /// `iifname . oifname vmap @MAP`.
    pub(super) fn names_verdict(self, map: &str) -> Self {
        self.names().lookup(map, Some(VERDICT), false)
    }

    /// `iifname . ip|ip6 saddr . daddr . meta l4proto . th dport @SET`.
    pub(super) fn link_in_set(self, v6: bool, set: &str) -> Self {
        let length = address_length(v6);
        let source = REG32 + 4;
        let destination = source + (length / 4) as u32;
        let protocol = destination + (length / 4) as u32;
        self.family(v6)
            .meta(Meta::InputName)
            .payload_to(Base::Network, address_offset(v6, true), length, source)
            .payload_to(
                Base::Network,
                address_offset(v6, false),
                length,
                destination,
            )
            .meta_to(Meta::Transport, protocol)
            .payload_to(Base::Transport, 2, 2, protocol + 1)
            .in_set(set)
    }

    /// `icmp|icmpv6 type FIRST-LAST`.
    pub(super) fn icmp_type(self, v6: bool, first: u8, last: u8) -> Self {
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        let rule = self
            .family(v6)
            .meta(Meta::Transport)
            .compare(Compare::Equal, &[if v6 { ICMPV6 } else { ICMP }])
            .payload(Base::Transport, 0, 1);
        if first == last {
            return rule.compare(Compare::Equal, &[first]);
        }
        rule.compare(Compare::AtLeast, &[first])
            .compare(Compare::AtMost, &[last])
    }

    /// `ct state established,related`.
    pub(super) fn established(self) -> Self {
        const CT_STATE: u32 = 0;
        // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
        const BITS: u32 = 1 << 1 | 1 << 2;
        self.add("ct", |out| {
            put_u32(out, 1, REG);
            put_u32(out, 2, CT_STATE);
        })
        .mask(&BITS.to_ne_bytes())
        .compare(Compare::Differs, &[0; 4])
    }

    /// `meta mark set meta mark | BITS`.
    pub(super) fn add_to_mark(self, bits: u32) -> Self {
        self.meta(Meta::Mark)
            .add("bitwise", |out| {
                put_u32(out, 1, REG);
                put_u32(out, 2, REG);
                put_u32(out, 3, 4);
                nest(out, 4, |out| put(out, 1, &(!bits).to_ne_bytes()));
                nest(out, 5, |out| put(out, 1, &bits.to_ne_bytes()));
            })
            .add("meta", |out| {
                put_u32(out, 3, REG);
                put_u32(out, 2, Meta::Mark as u32);
            })
    }

    /// `meta mark & BITS == 0`.
    pub(super) fn without_mark(self, bits: u32) -> Self {
        self.meta(Meta::Mark)
            .mask(&bits.to_ne_bytes())
            .compare(Compare::Equal, &[0; 4])
    }

    /// `ip|ip6 daddr ADDRESS`, for who has asked for the family.
    pub(super) fn destination(self, address: IpAddr) -> Self {
        let v6 = address.is_ipv6();
        self.payload(Base::Network, address_offset(v6, false), address_length(v6))
            .compare(Compare::Equal, &octets(address))
    }

    /// Some bits of a byte of the transport header.
    pub(super) fn flags_of(self, offset: u32, mask: u8, value: u8) -> Self {
        self.payload(Base::Transport, offset, 1)
            .mask(&[mask])
            .compare(Compare::Equal, &[value])
    }

    /// `meta nftrace set 1`.
    pub(super) fn traced(self) -> Self {
        self.immediate(REG, &[1]).add("meta", |out| {
            put_u32(out, 3, REG);
            put_u32(out, 2, Meta::Trace as u32);
        })
    }

    /// `ip|ip6 saddr|daddr vmap @MAP`.
    pub(super) fn address_verdict(self, v6: bool, source: bool, map: &str) -> Self {
        self.family(v6)
            .payload(
                Base::Network,
                address_offset(v6, source),
                address_length(v6),
            )
            .lookup(map, Some(VERDICT), false)
    }

    /// `meta l4proto . th dport vmap @MAP`.
    pub(super) fn port_verdict(self, v6: bool, map: &str) -> Self {
        self.family(v6)
            .meta_to(Meta::Transport, REG32)
            .payload_to(Base::Transport, 2, 2, REG32 + 1)
            .lookup(map, Some(VERDICT), false)
    }

    /// `dnat to [daddr .] l4proto . th dport map @MAP`.
    pub(super) fn dnat_by_map(self, v6: bool, by_address: bool, map: &str) -> Self {
        let mut register = REG32;
        let mut rule = self.family(v6);
        if by_address {
            let length = address_length(v6);
            rule = rule.payload_to(Base::Network, address_offset(v6, false), length, REG);
            register += (length / 4) as u32;
        }
        rule.meta_to(Meta::Transport, register)
            .payload_to(Base::Transport, 2, 2, register + 1)
            .lookup(map, Some(REG), false)
            .add("nat", |out| {
                put_u32(out, 1, 1);
                put_u32(
                    out,
                    2,
                    u32::from(if v6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }),
                );
                put_u32(out, 3, REG);
                put_u32(out, 5, REG32 + (address_length(v6) / 4) as u32);
            })
    }

    /// `dnat to ADDRESS:PORT`.
    pub(super) fn dnat(self, address: IpAddr, port: u16) -> Self {
        self.immediate(REG, &octets(address))
            .immediate(REG + 1, &port.to_be_bytes())
            .add("nat", |out| {
                put_u32(out, 1, 1);
                put_u32(out, 2, family_number(address));
                put_u32(out, 3, REG);
                put_u32(out, 5, REG + 1);
            })
    }

    /// `snat to ADDRESS`.
    pub(super) fn snat(self, address: IpAddr) -> Self {
        self.immediate(REG, &octets(address)).add("nat", |out| {
            put_u32(out, 1, 0);
            put_u32(out, 2, family_number(address));
            put_u32(out, 3, REG);
        })
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        self.add("immediate", |out| {
            put_u32(out, 1, register);
            nest(out, 2, |out| put(out, 1, value));
        })
    }

    pub(super) fn masquerade(self) -> Self {
        self.add("masq", |_| {})
    }

    /// `fib daddr type local`.
    pub(super) fn local_destination(self) -> Self {
        const RTN_LOCAL: u32 = 2;
        self.add("fib", |out| {
            put_u32(out, 1, REG);
            put_u32(out, 2, 3);
            put_u32(out, 3, 2);
        })
        .compare(Compare::Equal, &RTN_LOCAL.to_ne_bytes())
    }

    /// `ct status dnat`.
    pub(super) fn was_redirected(self) -> Self {
        const CT_STATUS: u32 = 2;
        const IPS_DST_NAT: u32 = 1 << 5;
        self.add("ct", |out| {
            put_u32(out, 1, REG);
            put_u32(out, 2, CT_STATUS);
        })
        .mask(&IPS_DST_NAT.to_ne_bytes())
        .compare(Compare::Differs, &[0; 4])
    }

    /// `iifname . ether saddr != @SET`, for the bridge family.
    pub(super) fn port_and_mac_not_in(self, set: &str) -> Self {
        self.meta(Meta::InputName)
            .payload_to(Base::Link, 6, 6, REG + 1)
            .not_in_set(set)
    }

    pub(super) fn verdict(self, kind: Verdict<'_>) -> Self {
        self.add("immediate", |out| {
            put_u32(out, 1, VERDICT);
            nest(out, 2, |out| verdict(out, kind));
        })
    }
}

fn family_number(address: IpAddr) -> u32 {
    u32::from(if address.is_ipv6() {
        NFPROTO_IPV6
    } else {
        NFPROTO_IPV4
    })
}

/// Where the address stands in the IP header.
fn address_offset(v6: bool, source: bool) -> u32 {
    match (v6, source) {
        (false, true) => 12,
        (false, false) => 16,
        (true, true) => 8,
        (true, false) => 24,
    }
}

fn address_length(v6: bool) -> usize {
    if v6 { 16 } else { 4 }
}
