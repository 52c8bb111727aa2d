//! The quick look: are a network's rules in nf_tables already? Asked of the kernel directly, chain
//! by chain, because starting any program costs more than all of an attachment's kernel work.
//!
//! It reads comments and jumps, not matches: iptables encodes matches differently from version to
//! version, and the digest in the comments stands for them. What it cannot read counts as absent;
//! then iptables itself is asked.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::egress::{NetworkText, SHARED};
use super::text::Family;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_…`, nfnetlink.h and nf_tables.h.
const NEWRULE: u16 = 10 << 8 | 6;
const GETRULE: u16 = 10 << 8 | 7;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Attribute numbers, nf_tables.h.
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
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
struct Seen {
    comment: Option<String>,
    jump: Option<String>,
}

/// Whether all of `text` is in the kernel.
pub(super) fn present(family: Family, text: &NetworkText) -> bool {
    look(family, text).unwrap_or(false)
}

/// `None`: the kernel did not tell.
fn look(family: Family, text: &NetworkText) -> Option<bool> {
    let mut window = Window::open(family)?;
    if !window.rules("POSTROUTING")?.iter().any(|rule| rule.jump.as_deref() == Some(SHARED)) {
        return Some(false);
    }
    let shared = window.rules(SHARED)?;
    let marked = |rule: &&Seen| rule.comment.as_deref() == Some(text.mark.as_str());
    // The rule of the bridge must come before any subnet's.
    if !shared.iter().take_while(|rule| rule.jump.is_none()).any(|rule| marked(&rule)) {
        return Some(false);
    }
    for subnet in &text.chains {
        let leads = |rule: &&Seen| rule.jump.as_deref() == Some(subnet.chain.as_str());
        let jumps = shared.iter().filter(marked).filter(leads).count();
        if jumps != 1 || window.rules(&subnet.chain)?.len() != subnet.rules.len() {
            return Some(false);
        }
    }
    Some(true)
}

/// A socket to nf_tables and the buffer that its answers arrive in.
struct Window {
    family: Family,
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Window {
    fn open(family: Family) -> Option<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        );
        Some(Self { family, socket: socket.ok()?, buffer: vec![0; BUFFER] })
    }

    /// The rules of one chain of `nat`.
    fn rules(&mut self, chain: &str) -> Option<Vec<Seen>> {
        let fd = self.socket.as_raw_fd();
        send(fd, &request(self.family, chain), MsgFlags::empty()).ok()?;
        let mut seen = Vec::new();
        loop {
            let length = recv(fd, &mut self.buffer, MsgFlags::empty()).ok()?;
            let mut rest = self.buffer.get(..length).filter(|bytes| !bytes.is_empty())?;
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

fn request(family: Family, chain: &str) -> Vec<u8> {
    let mut message = vec![0; 16];
    // nfgenmsg: family, version, resource id.
    message.extend([if family == Family::V4 { 2 } else { 10 }, 0, 0, 0]);
    for (kind, value) in [(RULE_TABLE, "nat"), (RULE_CHAIN, chain)] {
        let length = u16::try_from(4 + value.len() + 1).unwrap_or(u16::MAX);
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value.as_bytes());
        message.push(0);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&GETRULE.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    message
}

/// Splits off the first message: type, flags, body, what follows.
fn message(bytes: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let flags = u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, flags, body, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
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
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
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
            RULE_USERDATA => seen.comment = seen.comment.take().or_else(|| user_comment(value)),
            _ => {}
        }
    }
    seen
}

fn look_at(expression: &[u8], seen: &mut Seen) {
    let name = attribute(expression, EXPR_NAME).and_then(text);
    let Some(data) = attribute(expression, EXPR_DATA) else { return };
    match name.as_deref() {
        Some("immediate") => {
            let verdict =
                attribute(data, IMMEDIATE_DATA).and_then(|value| attribute(value, DATA_VERDICT));
            seen.jump = verdict.and_then(|value| attribute(value, VERDICT_CHAIN)).and_then(text);
        }
        Some("match") if attribute(data, MATCH_NAME).and_then(text).as_deref() == Some("comment") => {
            seen.comment = attribute(data, MATCH_INFO).and_then(text);
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
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes[..end].to_vec()).ok()
}
