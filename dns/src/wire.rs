//! DNS messages as bytes, as far as a forwarder needs them: questions are compared, records of others
//! are walked over, and nothing of them is read or written that could be lost. The resolver's own messages are
//! read and written by hickory, in the program.

/// Bytes of the header (RFC 1035 section 4.1.1).
pub const HEADER: usize = 12;
/// What we say that we take by UDP, and the most that we send: no fragments on any path.
pub const UDP_MOST: usize = 1232;
/// What a client takes by UDP that says nothing.
pub const UDP_LEAST: usize = 512;

/// Record types and query types.
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// The pseudo record of EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Zone transfers.
    pub const IXFR: u16 = 251;
    /// As above.
    pub const AXFR: u16 = 252;
    /// Everything.
    pub const ANY: u16 = 255;
}

/// The EDNS option of cookies (RFC 7873).
pub const COOKIE: u16 = 10;
/// The class of the internet.
pub const CLASS_IN: u16 = 1;

/// Response codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 1035 and RFC 6891 say it")]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

/// Bits of the header's second word.
pub mod flag {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Checking disabled.
    pub const CD: u16 = 0x0010;
    /// Operation code.
    pub const OPCODE: u16 = 0x7800;
    /// Response code.
    pub const RCODE: u16 = 0x000f;
}

/// What a query says in its OPT record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Bytes that the client takes by UDP.
    pub size: u16,
    /// Version of EDNS.
    pub version: u8,
    /// The client wants signatures.
    pub dnssec: bool,
    /// There are options beside a cookie, so that the reply may be for this client only.
    pub options: bool,
}

/// A query with one question.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The whole packet.
    pub packet: &'a [u8],
    /// Identifier.
    pub id: u16,
    /// The header's flags.
    pub flags: u16,
    /// The name asked for, without the root's zero, in the client's case.
    pub name: &'a [u8],
    /// Type asked for.
    pub qtype: u16,
    /// Class asked for.
    pub qclass: u16,
    /// Where the question ends.
    pub end: usize,
    /// EDNS, when the client speaks it.
    pub edns: Option<Edns>,
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Where the name at `at` ends. Compression is an end, as in every record but the question.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192..=255 => return (at + 2 <= packet.len()).then_some(at + 2),
            _ => return None,
        }
    }
}

/// A resource record of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Type.
    pub kind: u16,
    /// Class; for OPT the UDP size.
    pub class: u16,
    /// Where the time to live stands.
    pub ttl_at: usize,
    /// The time to live, in seconds; for OPT the flags.
    pub ttl: u32,
    /// Where the data stands.
    pub data: (usize, usize),
    /// 1 answer, 2 authority, 3 additional.
    pub section: u8,
}

/// The records behind the question. `None` when they do not fill the packet as the header says.
#[must_use]
pub fn entries(packet: &[u8]) -> Option<Vec<Entry>> {
    let mut at = HEADER;
    for _ in 0..word(packet, 4)? {
        at = skip_name(packet, at)? + 4;
    }
    let mut entries = Vec::new();
    for section in 1..=3u8 {
        for _ in 0..word(packet, 4 + 2 * usize::from(section))? {
            let entry = entry(packet, at, section)?;
            at = entry.data.1;
            entries.push(entry);
        }
    }
    (at <= packet.len()).then_some(entries)
}

fn entry(packet: &[u8], at: usize, section: u8) -> Option<Entry> {
    let at = skip_name(packet, at)?;
    let length = usize::from(word(packet, at + 8)?);
    let end = at + 10 + length;
    if end > packet.len() {
        return None;
    }
    let ttl = u32::from(word(packet, at + 4)?) << 16 | u32::from(word(packet, at + 6)?);
    Some(Entry {
        kind: word(packet, at)?,
        class: word(packet, at + 2)?,
        ttl_at: at + 4,
        ttl,
        data: (at + 10, end),
        section,
    })
}

/// The question of a message: name without the root's zero, type, class, end. `None` when it cannot be
/// one: a pointer, an overlong name, an end before its end.
#[must_use]
pub fn question(packet: &[u8]) -> Option<(&[u8], u16, u16, usize)> {
    let mut at = HEADER;
    loop {
        match *packet.get(at)? {
            0 => break,
            // Nothing stands before the first name that it could point to.
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    if at - HEADER > 254 {
        return None;
    }
    let name = packet.get(HEADER..at)?;
    Some((name, word(packet, at + 1)?, word(packet, at + 3)?, at + 5))
}

impl<'a> Query<'a> {
    /// The query in a packet that has been read, and what its OPT record says.
    #[must_use]
    pub fn new(packet: &'a [u8], edns: Option<Edns>) -> Option<Self> {
        let (name, qtype, qclass, end) = question(packet)?;
        Some(Self {
            packet,
            id: word(packet, 0)?,
            flags: flags(packet),
            name,
            qtype,
            qclass,
            end,
            edns,
        })
    }

    /// Reads a query as most of them are: one question with RD, AD and CD as they like, and an OPT
    /// record without options or none. `None` when it is another one, for hickory to read.
    #[must_use]
    pub fn plain(packet: &'a [u8]) -> Option<Self> {
        let head = packet.get(..HEADER)?;
        if head[2] & 0xfe != 0 || head[3] & 0xcf != 0 || head[4..11] != [0, 1, 0, 0, 0, 0, 0] {
            return None;
        }
        let mut query = Self::new(packet, None)?;
        let rest = packet.get(query.end..)?;
        query.edns = match (head[11], rest) {
            (0, []) => None,
            // Name of the root, type, size, upper bits of the code, version, flags, no data.
            (1, [0, 0, 41, high, low, 0, 0, dnssec @ (0 | 0x80), 0, 0, 0]) => Some(Edns {
                size: u16::from_be_bytes([*high, *low]),
                version: 0,
                dnssec: *dnssec != 0,
                options: false,
            }),
            _ => return None,
        };
        Some(query)
    }

    /// Bytes that a reply by UDP may have.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_LEAST, |edns| {
            usize::from(edns.size).clamp(UDP_LEAST, UDP_MOST)
        })
    }

    /// The packet to be asked of another server. EDNS is a matter between neighbours (RFC 6891 section
    /// 7), and a cookie one between a client and its server (RFC 7873): the client's is left out.
    #[must_use]
    pub fn onward(&self) -> Vec<u8> {
        let mut packet = self.packet.to_vec();
        if self.edns.is_none_or(|edns| edns.options) {
            return packet;
        }
        let all = entries(self.packet).unwrap_or_default();
        let last = all.iter().find(|entry| {
            entry.kind == kind::OPT && entry.data.0 < entry.data.1 && entry.data.1 == packet.len()
        });
        if let Some(entry) = last {
            packet.truncate(entry.data.0);
            if let Some(length) = packet.get_mut(entry.data.0 - 2..) {
                length.fill(0);
            }
        }
        packet
    }
}

/// Whether `reply` is a response with this identifier to the question of `query`.
#[must_use]
pub fn answers(query: &[u8], id: u16, reply: &[u8]) -> bool {
    let (Some(ours), Some(theirs)) = (question(query), question(reply)) else {
        return false;
    };
    let flags = word(reply, 2).unwrap_or_default();
    word(reply, 0) == Some(id)
        && flags & flag::QR != 0
        && flags & flag::OPCODE == 0
        && word(reply, 4) == Some(1)
        && ours.0.eq_ignore_ascii_case(theirs.0)
        && (ours.1, ours.2) == (theirs.1, theirs.2)
}

/// The flags of a message.
#[must_use]
pub fn flags(packet: &[u8]) -> u16 {
    word(packet, 2).unwrap_or_default()
}

/// A reply that says nothing but a code, for packets whose question may be beyond reading.
pub fn bare(packet: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    let flags = flags(packet) & (flag::OPCODE | flag::RD) | flag::QR | flag::RA | rcode as u16;
    out.extend_from_slice(packet.get(..2).unwrap_or(&[0, 0]));
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
