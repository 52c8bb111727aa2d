//! Asking nf_tables for a chain and its rules: as much of nfnetlink as the quick look needs.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use crate::iptables::text::Family;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_…`, nfnetlink.h and nf_tables.h.
const NEWRULE: u16 = 10 << 8 | 6;
const GETRULE: u16 = 10 << 8 | 7;
const NEWCHAIN: u16 = 10 << 8 | 3;
const GETCHAIN: u16 = 10 << 8 | 4;
const REQUEST: u16 = 0x1;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attribute numbers, nf_tables.h.
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const CMP_DATA: u16 = 3;
/// The same numbers serve targets.
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;
/// `NFTNL_UDATA_RULE_COMMENT`.
const USERDATA_COMMENT: u8 = 0;
/// Without the nested and byte-order flags.
const TYPE_MASK: u16 = 0x3fff;
/// A dump message is at most this long (`NLMSG_GOODSIZE` and what the kernel grows it to).
const BUFFER: usize = 64 * 1024;

/// What of a rule the look sees.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) comments: Vec<String>,
    pub(super) jump: Option<String>,
    /// The 32-bit values that it compares with or sets as a mark.
    pub(super) numbers: Vec<u32>,
}

impl Seen {
    pub(super) fn says(&self, comment: &str) -> bool {
        self.comments.iter().any(|c| c == comment)
    }
}

/// A socket to nf_tables and the buffer that its answers arrive in.
pub(super) struct Window {
    family: Family,
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Window {
    pub(super) fn open(family: Family) -> Option<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        Some(Self {
            family,
            socket: socket.ok()?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Whether there is a chain of this name.
    pub(super) fn has_chain(&mut self, table: &str, chain: &str) -> Option<bool> {
        let fd = self.socket.as_raw_fd();
        let asked = request(
            self.family,
            GETCHAIN,
            REQUEST,
            [(CHAIN_TABLE, table), (CHAIN_NAME, chain)],
        );
        send(fd, &asked, MsgFlags::empty()).ok()?;
        let length = recv(fd, &mut self.buffer, MsgFlags::empty()).ok()?;
        let (kind, _, body, _) = message(self.buffer.get(..length)?)?;
        match kind {
            NEWCHAIN => Some(true),
            ERROR => (i32::from_ne_bytes(*body.first_chunk()?) == -(Errno::ENOENT as i32))
                .then_some(false),
            _ => None,
        }
    }

    /// The rules of one chain.
    pub(super) fn rules(&mut self, table: &str, chain: &str) -> Option<Vec<Seen>> {
        let fd = self.socket.as_raw_fd();
        let asked = request(
            self.family,
            GETRULE,
            REQUEST_DUMP,
            [(RULE_TABLE, table), (RULE_CHAIN, chain)],
        );
        send(fd, &asked, MsgFlags::empty()).ok()?;
        let mut seen = Vec::new();
        loop {
            let length = recv(fd, &mut self.buffer, MsgFlags::empty()).ok()?;
            let mut rest = self
                .buffer
                .get(..length)
                .filter(|bytes| !bytes.is_empty())?;
            while let Some((kind, flags, body, next)) = message(rest) {
                rest = next;
                match kind {
                    // Something changed while we read: not worth a second look of our own.
                    _ if flags & DUMP_INTERRUPTED != 0 => return None,
                    NEWRULE => seen.push(rule(body.get(4..)?)),
                    DONE => return Some(seen),
                    ERROR => return None,
                    _ => {}
                }
            }
        }
    }
}

fn request(family: Family, kind: u16, flags: u16, names: [(u16, &str); 2]) -> Vec<u8> {
    let mut message = vec![0; 16];
    // nfgenmsg: family, version, resource id.
    message.extend([if family == Family::V4 { 2 } else { 10 }, 0, 0, 0]);
    for (attribute, value) in names {
        let length = u16::try_from(4 + value.len() + 1).unwrap_or(u16::MAX);
        message.extend(length.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(value.as_bytes());
        message.push(0);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

/// Splits off the first message: type, flags, body, what follows.
fn message(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let flags = u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((
        kind,
        flags,
        body,
        bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]),
    ))
}

/// The attributes in `bytes`, as far as they are well-formed.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

fn rule(bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for (kind, value) in attributes(bytes) {
        match kind {
            RULE_EXPRESSIONS => {
                for (_, expression) in attributes(value) {
                    look_at(expression, &mut seen);
                }
            }
            RULE_USERDATA => seen.comments.extend(user_comment(value)),
            _ => {}
        }
    }
    seen
}

fn look_at(expression: &[u8], seen: &mut Seen) {
    let name = attribute(expression, EXPR_NAME).and_then(text);
    let Some(data) = attribute(expression, EXPR_DATA) else {
        return;
    };
    let number = |bytes: Option<&[u8]>| bytes?.first_chunk().map(|four| u32::from_ne_bytes(*four));
    let extension = || attribute(data, MATCH_NAME).and_then(text);
    match name.as_deref() {
        Some("immediate") => {
            let verdict =
                attribute(data, IMMEDIATE_DATA).and_then(|value| attribute(value, DATA_VERDICT));
            seen.jump = verdict
                .and_then(|value| attribute(value, VERDICT_CHAIN))
                .and_then(text);
        }
        Some("cmp") => {
            let compared = attribute(data, CMP_DATA).and_then(|value| attribute(value, DATA_VALUE));
            seen.numbers.extend(number(compared));
        }
        Some("match") if extension().as_deref() == Some("comment") => {
            seen.comments
                .extend(attribute(data, MATCH_INFO).and_then(text));
        }
        // `xt_mark_mtinfo1` and `xt_mark_tginfo2` both begin with the mark.
        Some("match" | "target") if matches!(extension().as_deref(), Some("mark" | "MARK")) => {
            seen.numbers.extend(number(attribute(data, MATCH_INFO)));
        }
        _ => {}
    }
}

/// Type, length, value; one byte each for the first two.
fn user_comment(mut bytes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            return text(value);
        }
        bytes = next;
    }
    None
}

/// Up to the terminating zero.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}
