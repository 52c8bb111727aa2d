//! Messages for people: a query from words, a reply in words.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::name::{Name, text};
use crate::wire::{Entry, HEADER, entries, flag, flags, kind};

const KINDS: [(&str, u16); 14] = [
    ("A", kind::A),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", kind::SOA),
    ("PTR", kind::PTR),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", kind::AAAA),
    ("SRV", 33),
    ("DS", 43),
    ("DNSKEY", 48),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", kind::ANY),
];

/// A record type by name or `TYPE123` (RFC 3597).
#[must_use]
pub fn kind(word: &str) -> Option<u16> {
    let word = word.to_ascii_uppercase();
    let known = KINDS.iter().find(|(name, _)| *name == word);
    known
        .map(|(_, number)| *number)
        .or_else(|| word.strip_prefix("TYPE")?.parse().ok())
}

/// The name of a record type.
#[must_use]
pub fn kind_name(number: u16) -> String {
    KINDS
        .iter()
        .find(|(_, known)| *known == number)
        .map_or_else(|| format!("TYPE{number}"), |(name, _)| (*name).to_owned())
}

/// A query that wants recursion.
#[must_use]
pub fn query(name: &Name, qtype: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(name.wire());
    packet.push(0);
    packet.extend_from_slice(&qtype.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

/// A reply as JSON: code, bits, and the records of the first two sections.
#[must_use]
pub fn reply(packet: &[u8]) -> Value {
    let flags = flags(packet);
    let code = flags & flag::RCODE;
    let names = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
    ];
    let rcode = names
        .get(usize::from(code))
        .map_or_else(|| format!("RCODE{code}"), |name| (*name).to_owned());
    let records = |section: u8| -> Vec<String> {
        entries(packet)
            .unwrap_or_default()
            .iter()
            .filter(|entry| entry.section == section)
            .map(|entry| record(packet, entry))
            .collect()
    };
    json!({
        "code": rcode,
        "authoritative": flags & flag::AA != 0,
        "truncated": flags & flag::TC != 0,
        "answers": records(1),
        "authority": records(2),
    })
}

fn record(packet: &[u8], entry: &Entry) -> String {
    let data = packet.get(entry.data.0..entry.data.1).unwrap_or_default();
    let value = match (entry.kind, data.len()) {
        (kind::A, 4) => Ipv4Addr::new(data[0], data[1], data[2], data[3]).to_string(),
        (kind::AAAA, 16) => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(data);
            Ipv6Addr::from(bytes).to_string()
        }
        (kind::PTR | 2 | 5 | kind::SOA, _) => name_at(packet, entry.data.0),
        (15, 3..) => {
            let preference = u16::from_be_bytes([data[0], data[1]]);
            format!("{preference} {}", name_at(packet, entry.data.0 + 2))
        }
        (16, _) => data
            .iter()
            .skip(1)
            .map(|byte| char::from(*byte).escape_default().to_string())
            .collect(),
        (_, length) => {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\\# {length} {hex}")
        }
    };
    format!("{} {} {value}", kind_name(entry.kind), entry.ttl)
}

/// The name at an offset, compression followed for as long as it leads backwards.
fn name_at(packet: &[u8], at: usize) -> String {
    let mut wire = Vec::new();
    let (mut at, mut earliest) = (at, at);
    while let Some(&length) = packet.get(at) {
        match length {
            1..=63 => {
                let end = at + 1 + usize::from(length);
                wire.extend_from_slice(packet.get(at..end).unwrap_or_default());
                at = end;
            }
            192..=255 => {
                let low = packet.get(at + 1).copied().unwrap_or_default();
                let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                if target >= earliest || target < HEADER {
                    break;
                }
                (at, earliest) = (target, target);
            }
            _ => break,
        }
    }
    text(&wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_read_like_zone_files() {
        let name = Name::parse("web.net").unwrap();
        let mut packet = query(&name, kind("aaaa").unwrap());
        packet[2..4].copy_from_slice(&[0x85, 0x80]);
        packet[7] = 3;
        for (word, ttl, data) in [
            ("A", 5, &[10, 0, 0, 2][..]),
            ("CNAME", 6, &[1, b'x', 0xc0, 16]),
            ("TYPE999", 7, &[1, 2]),
        ] {
            packet.extend_from_slice(&[0xc0, 12]);
            packet.extend_from_slice(&kind(word).unwrap().to_be_bytes());
            packet.extend_from_slice(&[0, 1, 0, 0, 0, ttl, 0, data.len() as u8]);
            packet.extend_from_slice(data);
        }
        let said = reply(&packet);
        assert_eq!(said["code"], "NOERROR");
        assert_eq!(
            said["answers"],
            json!(["A 5 10.0.0.2", "CNAME 6 x.net", "TYPE999 7 \\# 2 0102"])
        );
    }

    #[test]
    fn a_loop_of_pointers_ends() {
        let mut packet = vec![0; HEADER];
        packet.extend_from_slice(&[0xc0, 12]);
        assert_eq!(name_at(&packet, 12), ".");
    }
}
