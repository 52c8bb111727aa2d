//! The expressions that rules are made of, as the kernel's little machine reads them: load a field
//! into a register, compare or look it up, then decide.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use pontoon_netlink::attr::Attrs;

use super::uapi::*;

/// The first 16-byte register; the 4-byte ones overlay them: this one begins where `REG32` begins.
pub(super) const REG: u32 = NFT_REG_1;
pub(super) const REG32: u32 = NFT_REG32_00;

/// Keys of `meta`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Meta {
    Protocol = NFT_META_PROTOCOL,
    Mark = NFT_META_MARK,
    InputName = NFT_META_IIFNAME,
    OutputName = NFT_META_OIFNAME,
    Trace = NFT_META_NFTRACE,
    Family = NFT_META_NFPROTO,
    Transport = NFT_META_L4PROTO,
}

/// Where a payload offset counts from.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Base {
    Link = NFT_PAYLOAD_LL_HEADER,
    Network = NFT_PAYLOAD_NETWORK_HEADER,
    Transport = NFT_PAYLOAD_TRANSPORT_HEADER,
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
    Equal = NFT_CMP_EQ,
    Differs = NFT_CMP_NEQ,
    AtMost = NFT_CMP_LTE,
    AtLeast = NFT_CMP_GTE,
}

/// The expressions of one rule.
#[derive(Clone, Default)]
pub(super) struct Rule(pub(super) Attrs);

/// Writes a verdict as nft_data.
pub(super) fn verdict(out: &mut Attrs, verdict: Verdict<'_>) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Return => (NFT_RETURN, None),
    };
    out.nested(NFTA_DATA_VERDICT, |out| {
        out.u32be(NFTA_VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            out.cstr(NFTA_VERDICT_CHAIN, chain);
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
    pub(super) fn add(mut self, name: &str, fill: impl FnOnce(&mut Attrs)) -> Self {
        self.0.nested(NFTA_LIST_ELEM, |out| {
            out.cstr(NFTA_EXPR_NAME, name);
            out.nested(NFTA_EXPR_DATA, fill);
        });
        self
    }

    pub(super) fn meta_to(self, key: Meta, register: u32) -> Self {
        self.add("meta", |out| {
            out.u32be(NFTA_META_DREG, register);
            out.u32be(NFTA_META_KEY, key as u32);
        })
    }

    pub(super) fn payload_to(self, base: Base, offset: u32, length: usize, register: u32) -> Self {
        self.add("payload", |out| {
            out.u32be(NFTA_PAYLOAD_DREG, register);
            out.u32be(NFTA_PAYLOAD_BASE, base as u32);
            out.u32be(NFTA_PAYLOAD_OFFSET, offset);
            out.u32be(NFTA_PAYLOAD_LEN, length as u32);
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
            out.u32be(NFTA_CMP_SREG, REG);
            out.u32be(NFTA_CMP_OP, compare as u32);
            out.nested(NFTA_CMP_DATA, |out| out.bytes(NFTA_DATA_VALUE, value));
        })
    }

    pub(super) fn mask(self, mask: &[u8]) -> Self {
        self.mask_and_xor(mask, &vec![0; mask.len()])
    }

    fn mask_and_xor(self, mask: &[u8], xor: &[u8]) -> Self {
        self.add("bitwise", |out| {
            out.u32be(NFTA_BITWISE_SREG, REG);
            out.u32be(NFTA_BITWISE_DREG, REG);
            out.u32be(NFTA_BITWISE_LEN, mask.len() as u32);
            out.nested(NFTA_BITWISE_MASK, |out| out.bytes(NFTA_DATA_VALUE, mask));
            out.nested(NFTA_BITWISE_XOR, |out| out.bytes(NFTA_DATA_VALUE, xor));
        })
    }

    fn set_meta(self, key: Meta) -> Self {
        self.add("meta", |out| {
            out.u32be(NFTA_META_SREG, REG);
            out.u32be(NFTA_META_KEY, key as u32);
        })
    }

    pub(super) fn ct(self, key: u32) -> Self {
        self.add("ct", |out| {
            out.u32be(NFTA_CT_DREG, REG);
            out.u32be(NFTA_CT_KEY, key);
        })
    }

    /// `port`: the register that the port is in.
    pub(super) fn nat(self, kind: u32, family: u8, port: Option<u32>) -> Self {
        self.add("nat", |out| {
            out.u32be(NFTA_NAT_TYPE, kind);
            out.u32be(NFTA_NAT_FAMILY, u32::from(family));
            out.u32be(NFTA_NAT_REG_ADDR_MIN, REG);
            if let Some(register) = port {
                out.u32be(NFTA_NAT_REG_PROTO_MIN, register);
            }
        })
    }

    /// `meta nfproto`.
    pub(super) fn family(self, v6: bool) -> Self {
        self.meta(Meta::Family)
            .compare(Compare::Equal, &[family_number(v6)])
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

    pub(super) fn lookup(self, set: &str, to: Option<u32>, inverted: bool) -> Self {
        self.add("lookup", |out| {
            out.cstr(NFTA_LOOKUP_SET, set);
            out.u32be(NFTA_LOOKUP_SREG, REG);
            if let Some(register) = to {
                out.u32be(NFTA_LOOKUP_DREG, register);
            }
            if inverted {
                out.u32be(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
            }
        })
    }

    /// `iifname|oifname vmap @MAP`.
    pub(super) fn name_verdict(self, key: Meta, map: &str) -> Self {
        self.meta(key).lookup(map, Some(NFT_REG_VERDICT), false)
    }

    /// `iifname . oifname`.
    fn names(self) -> Self {
        self.meta(Meta::InputName)
            .meta_to(Meta::OutputName, NFT_REG_2)
    }

    /// `iifname . oifname @SET`.
    pub(super) fn names_in_set(self, set: &str) -> Self {
        self.names().in_set(set)
    }

    /// `iifname . oifname vmap @MAP`.
    pub(super) fn names_verdict(self, map: &str) -> Self {
        self.names().lookup(map, Some(NFT_REG_VERDICT), false)
    }

    /// `iifname . ip|ip6 saddr . daddr . meta l4proto . th dport @SET`.
    pub(super) fn link_in_set(self, v6: bool, set: &str) -> Self {
        let length = address_length(v6);
        // Behind the 16 bytes of the interface name.
        let source = NFT_REG32_04;
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
            .payload_to(Base::Transport, DESTINATION_PORT, PORT_LENGTH, protocol + 1)
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
        // NF_CT_STATE_BIT of IP_CT_ESTABLISHED and IP_CT_RELATED.
        const BITS: u32 = 1 << 1 | 1 << 2;
        self.ct(NFT_CT_STATE)
            .mask(&BITS.to_ne_bytes())
            .compare(Compare::Differs, &[0; 4])
    }

    /// `meta mark set meta mark | BITS`.
    pub(super) fn add_to_mark(self, bits: u32) -> Self {
        self.meta(Meta::Mark)
            .mask_and_xor(&(!bits).to_ne_bytes(), &bits.to_ne_bytes())
            .set_meta(Meta::Mark)
    }

    /// `meta mark & BITS == 0`.
    pub(super) fn without_mark(self, bits: u32) -> Self {
        self.meta(Meta::Mark)
            .mask(&bits.to_ne_bytes())
            .compare(Compare::Equal, &[0; 4])
    }

    /// `ip|ip6 daddr ADDRESS`, after a match of the family.
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
        self.immediate(REG, &[1]).set_meta(Meta::Trace)
    }

    /// `ip|ip6 saddr|daddr vmap @MAP`.
    pub(super) fn address_verdict(self, v6: bool, source: bool, map: &str) -> Self {
        self.family(v6)
            .payload(
                Base::Network,
                address_offset(v6, source),
                address_length(v6),
            )
            .lookup(map, Some(NFT_REG_VERDICT), false)
    }

    /// `meta l4proto . th dport vmap @MAP`.
    pub(super) fn port_verdict(self, v6: bool, map: &str) -> Self {
        self.family(v6)
            .meta_to(Meta::Transport, REG32)
            .payload_to(Base::Transport, DESTINATION_PORT, PORT_LENGTH, REG32 + 1)
            .lookup(map, Some(NFT_REG_VERDICT), false)
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
            .payload_to(Base::Transport, DESTINATION_PORT, PORT_LENGTH, register + 1)
            .lookup(map, Some(REG), false)
            .nat(
                NFT_NAT_DNAT,
                family_number(v6),
                Some(REG32 + (address_length(v6) / 4) as u32),
            )
    }

    /// `dnat to ADDRESS:PORT`.
    pub(super) fn dnat(self, address: IpAddr, port: u16) -> Self {
        self.immediate(REG, &octets(address))
            .immediate(NFT_REG_2, &port.to_be_bytes())
            .nat(
                NFT_NAT_DNAT,
                family_number(address.is_ipv6()),
                Some(NFT_REG_2),
            )
    }

    /// `snat to ADDRESS`.
    pub(super) fn snat(self, address: IpAddr) -> Self {
        self.immediate(REG, &octets(address)).nat(
            NFT_NAT_SNAT,
            family_number(address.is_ipv6()),
            None,
        )
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        self.add("immediate", |out| {
            out.u32be(NFTA_IMMEDIATE_DREG, register);
            out.nested(NFTA_IMMEDIATE_DATA, |out| out.bytes(NFTA_DATA_VALUE, value));
        })
    }

    pub(super) fn masquerade(self) -> Self {
        self.add("masq", |_| {})
    }

    /// `fib daddr type local`.
    pub(super) fn local_destination(self) -> Self {
        const RTN_LOCAL: u32 = 2;
        self.add("fib", |out| {
            out.u32be(NFTA_FIB_DREG, REG);
            out.u32be(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            out.u32be(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
        })
        .compare(Compare::Equal, &RTN_LOCAL.to_ne_bytes())
    }

    /// `fib saddr . iif oif missing`: what goes to the packet's source would leave by another interface than the one that
    /// it came in by.
    pub(super) fn not_the_way_back(self) -> Self {
        self.add("fib", |out| {
            out.u32be(NFTA_FIB_DREG, REG);
            out.u32be(NFTA_FIB_RESULT, NFT_FIB_RESULT_OIF);
            out.u32be(
                NFTA_FIB_FLAGS,
                NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT,
            );
        })
        .compare(Compare::Equal, &[0])
    }

    /// `ip|ip6 saddr & MASK`, after a match of the family.
    pub(super) fn cut_source(self, v6: bool, prefix: u8) -> Self {
        self.payload_to(
            Base::Network,
            address_offset(v6, true),
            address_length(v6),
            REG32,
        )
        .cut(REG32, v6, prefix)
    }

    /// `ip|ip6 saddr . INNER & MASK`, after a match of the family: an address at an offset from the transport header
    /// behind the packet's own source.
    pub(super) fn sender_and_cut_source(
        self,
        outer_v6: bool,
        offset: u32,
        v6: bool,
        prefix: u8,
    ) -> Self {
        let outer = address_length(outer_v6);
        let register = REG32 + (outer / 4) as u32;
        self.payload_to(Base::Network, address_offset(outer_v6, true), outer, REG32)
            .payload_to(Base::Transport, offset, address_length(v6), register)
            .cut(register, v6, prefix)
    }

    /// Clears all bits of the address in a register but the first ones.
    pub(super) fn cut(self, register: u32, v6: bool, prefix: u8) -> Self {
        let length = address_length(v6);
        let bits = u32::from(prefix);
        let mask: Vec<u8> = (0..length as u32)
            .map(|byte| match bits.saturating_sub(byte * 8) {
                8.. => 0xff,
                rest => !(0xff_u8 >> rest),
            })
            .collect();
        self.add("bitwise", |out| {
            out.u32be(NFTA_BITWISE_SREG, register);
            out.u32be(NFTA_BITWISE_DREG, register);
            out.u32be(NFTA_BITWISE_LEN, length as u32);
            out.nested(NFTA_BITWISE_MASK, |out| out.bytes(NFTA_DATA_VALUE, &mask));
            out.nested(NFTA_BITWISE_XOR, |out| {
                out.bytes(NFTA_DATA_VALUE, &vec![0; length])
            });
        })
    }

    /// `ct status dnat`.
    pub(super) fn was_redirected(self) -> Self {
        const IPS_DST_NAT: u32 = 1 << 5;
        self.ct(NFT_CT_STATUS)
            .mask(&IPS_DST_NAT.to_ne_bytes())
            .compare(Compare::Differs, &[0; 4])
    }

    /// `iifname . ether saddr != @SET`, for the bridge family.
    pub(super) fn port_and_mac_not_in(self, set: &str) -> Self {
        self.meta(Meta::InputName)
            .payload_to(Base::Link, SOURCE_MAC, MAC_LENGTH, NFT_REG_2)
            .not_in_set(set)
    }

    pub(super) fn verdict(self, kind: Verdict<'_>) -> Self {
        self.add("immediate", |out| {
            out.u32be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            out.nested(NFTA_IMMEDIATE_DATA, |out| verdict(out, kind));
        })
    }
}

pub(super) fn family_number(v6: bool) -> u8 {
    if v6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }
}

/// Offset of the source address in an Ethernet header, and its length, in bytes.
const SOURCE_MAC: u32 = 6;
const MAC_LENGTH: usize = 6;

/// Offset and length of the destination port in the headers of TCP, UDP and SCTP, in bytes.
pub(super) const DESTINATION_PORT: u32 = 2;
pub(super) const PORT_LENGTH: usize = 2;

/// Offset in bytes of an address in the IP header (RFC 791, RFC 8200).
pub(super) fn address_offset(v6: bool, source: bool) -> u32 {
    match (v6, source) {
        (false, true) => 12,
        (false, false) => 16,
        (true, true) => 8,
        (true, false) => 24,
    }
}

pub(super) fn address_length(v6: bool) -> usize {
    if v6 { 16 } else { 4 }
}
