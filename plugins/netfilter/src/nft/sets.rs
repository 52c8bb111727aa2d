//! The maps and sets of our tables: what they are called, what their keys and data are made of, and
//! how they are made.

use pontoon_netlink::attr::Attrs;

use super::message::table;
use super::uapi::*;

/// Kinds of fields in keys and data. The numbers are those of nft's own data types (`enum datatypes`
/// of its `datatype.h`): they only tell `nft list` how to print a field.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Ipv4,
    Ipv6,
    Mac,
    Protocol,
    Port,
    Interface,
    /// A number that only rules and elements of one table know: as nft prints marks.
    Number,
}

impl Field {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Mac => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Number => 19,
            Self::Interface => 41,
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Number => 4,
            Self::Ipv6 | Self::Interface => 16,
            Self::Mac => 6,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }
}

/// What an element carries beside its key.
#[derive(Clone, Copy)]
pub(super) enum ElementData {
    Nothing,
    Verdict,
    Fields(&'static [Field]),
}

/// A set or map.
pub(super) struct Set {
    pub(super) name: &'static str,
    key: &'static [Field],
    carries: ElementData,
    interval: bool,
}

const fn set(name: &'static str, key: &'static [Field], carries: ElementData) -> Set {
    Set {
        name,
        key,
        carries,
        interval: false,
    }
}

use Field::{Interface, Ipv4, Ipv6, Mac, Number, Port, Protocol};

const TARGET4: ElementData = ElementData::Fields(&[Ipv4, Port]);
const TARGET6: ElementData = ElementData::Fields(&[Ipv6, Port]);

/// Names of the maps of one IP family.
pub(super) struct MapNames {
    pub(super) resolver: &'static str,
    pub(super) ports: &'static str,
    pub(super) ports_at: &'static str,
    pub(super) conditional: &'static str,
    pub(super) hairpin: &'static str,
    pub(super) egress: &'static str,
}

pub(super) const V4: MapNames = MapNames {
    resolver: "resolver4",
    ports: "ports4",
    ports_at: "ports4_at",
    conditional: "conditional4",
    hairpin: "hairpin4",
    egress: "egress4",
};

pub(super) const V6: MapNames = MapNames {
    resolver: "resolver6",
    ports: "ports6",
    ports_at: "ports6_at",
    conditional: "conditional6",
    hairpin: "hairpin6",
    egress: "egress6",
};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const GUARDED: &str = "guarded";
pub(super) const ALLOWED: &str = "allowed";

/// The maps of a family.
pub(super) fn maps(v6: bool) -> &'static MapNames {
    if v6 { &V6 } else { &V4 }
}

pub(super) const TRANSLATION_SETS: &[Set] = &[
    set(V4.resolver, &[Ipv4, Protocol, Port], TARGET4),
    set(V6.resolver, &[Ipv6, Protocol, Port], TARGET6),
    set(V4.ports, &[Protocol, Port], TARGET4),
    set(V6.ports, &[Protocol, Port], TARGET6),
    set(V4.ports_at, &[Ipv4, Protocol, Port], TARGET4),
    set(V6.ports_at, &[Ipv6, Protocol, Port], TARGET6),
    set(V4.conditional, &[Protocol, Port], ElementData::Verdict),
    set(V6.conditional, &[Protocol, Port], ElementData::Verdict),
    set(V4.hairpin, &[Ipv4], ElementData::Verdict),
    set(V6.hairpin, &[Ipv6], ElementData::Verdict),
    Set {
        interval: true,
        ..set(V4.egress, &[Ipv4], ElementData::Verdict)
    },
    Set {
        interval: true,
        ..set(V6.egress, &[Ipv6], ElementData::Verdict)
    },
    set(BRIDGES, &[Interface], ElementData::Nothing),
];

pub(super) const RESTRICTED: &str = "restricted";
pub(super) const INGRESS: &str = "ingress";
pub(super) const INTERNAL: &str = "internal";
pub(super) const LINKS4: &str = "links4";
pub(super) const LINKS6: &str = "links6";
pub(super) const ICC: &str = "icc";
pub(super) const LEAVING: &str = "leaving";
pub(super) const ENTERING: &str = "entering";
pub(super) const TRUSTED: &str = "trusted";
pub(super) const TO_HOST: &str = "to_host";
pub(super) const FROM_HOST: &str = "from_host";
pub(super) const SEPARATED: &str = "separated";

pub(super) const POLICY_SETS: &[Set] = &[
    set(BRIDGES, &[Interface], ElementData::Nothing),
    set(RESTRICTED, &[Interface], ElementData::Nothing),
    set(INGRESS, &[Interface, Interface], ElementData::Verdict),
    set(INTERNAL, &[Interface], ElementData::Nothing),
    set(
        LINKS4,
        &[Interface, Ipv4, Ipv4, Protocol, Port],
        ElementData::Nothing,
    ),
    set(
        LINKS6,
        &[Interface, Ipv6, Ipv6, Protocol, Port],
        ElementData::Nothing,
    ),
    set(ICC, &[Interface, Interface], ElementData::Verdict),
    set(LEAVING, &[Interface], ElementData::Verdict),
    set(ENTERING, &[Interface], ElementData::Verdict),
    set(TRUSTED, &[Interface, Interface], ElementData::Nothing),
    set(TO_HOST, &[Interface], ElementData::Verdict),
    set(FROM_HOST, &[Interface], ElementData::Verdict),
];

pub(super) const MARKING_SETS: &[Set] = &[set(SEPARATED, &[Interface], ElementData::Nothing)];

pub(super) const GUARD_SETS: &[Set] = &[
    set(GUARDED, &[Interface], ElementData::Nothing),
    set(ALLOWED, &[Interface, Mac], ElementData::Nothing),
];

pub(super) const SEPARATION_SETS: &[Set] = &[set(SEPARATED, &[Interface], ElementData::Nothing)];

/// Writes what makes a set. `id` tells sets of one transaction apart.
pub(super) fn write_set(out: &mut Attrs, set: &Set, id: u32) {
    table(out);
    out.cstr(NFTA_SET_NAME, set.name);
    let flags = if set.interval { NFT_SET_INTERVAL } else { 0 };
    write_shape(out, set.key, set.carries, flags, id);
}

/// Writes what makes a set behind its table and its name.
pub(super) fn write_shape(
    out: &mut Attrs,
    key: &[Field],
    carries: ElementData,
    mut flags: u32,
    id: u32,
) {
    if !matches!(carries, ElementData::Nothing) {
        flags |= NFT_SET_MAP;
    }
    if key.len() > 1 {
        flags |= NFT_SET_CONCAT;
    }
    out.u32be(NFTA_SET_FLAGS, flags);
    out.u32be(NFTA_SET_KEY_TYPE, type_of(key));
    out.u32be(NFTA_SET_KEY_LEN, length_of(key));
    match carries {
        ElementData::Nothing => {}
        ElementData::Verdict => out.u32be(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
        ElementData::Fields(fields) => {
            out.u32be(NFTA_SET_DATA_TYPE, type_of(fields));
            out.u32be(NFTA_SET_DATA_LEN, length_of(fields));
        }
    }
    out.u32be(NFTA_SET_ID, id);
    if matches!(key, [Interface | Number]) {
        // Without the byte order of the key (user data, type 0) nft prints names as "".
        let mut data = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
        data.extend_from_slice(&BYTEORDER_HOST_ENDIAN.to_ne_bytes());
        out.bytes(NFTA_SET_USERDATA, &data);
    }
    if key.len() > 1 {
        out.nested(NFTA_SET_DESC, |out| {
            out.nested(NFTA_SET_DESC_CONCAT, |out| {
                for field in key {
                    out.nested(NFTA_LIST_ELEM, |out| {
                        out.u32be(NFTA_SET_FIELD_LEN, field.length());
                    });
                }
            });
        });
    }
}

/// Concatenated types are stacked six bits each.
fn type_of(fields: &[Field]) -> u32 {
    fields
        .iter()
        .fold(0, |kind, field| kind << 6 | field.number())
}

/// Each field of a concatenation starts at a register of four bytes.
fn length_of(fields: &[Field]) -> u32 {
    match fields {
        [single] => single.length(),
        _ => fields
            .iter()
            .map(|field| field.length().next_multiple_of(4))
            .sum(),
    }
}
