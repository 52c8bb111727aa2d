//! nfnetlink messages and batches of them: one batch is one transaction of the kernel, applied as a
//! whole or not at all.

use std::borrow::Cow;

use super::attr;

/// Message numbers within the nf_tables subsystem (linux/netfilter/nf_tables.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Verb {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    DelChain = 5,
    NewRule = 6,
    GetRule = 7,
    DelRule = 8,
    NewSet = 9,
    NewElements = 12,
    GetElements = 13,
    DelElements = 14,
    GetGeneration = 16,
}

/// Address families of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Family {
    Unspecified = 0,
    Inet = 1,
    Ipv4 = 2,
    Ipv6 = 10,
    Bridge = 7,
}

impl Family {
    /// The family of this number, as nft writes it.
    pub(super) fn named(number: u8) -> &'static str {
        let all = [Self::Inet, Self::Ipv4, Self::Ipv6, Self::Bridge];
        let found = all.into_iter().find(|family| *family as u8 == number);
        found.unwrap_or(Self::Unspecified).name()
    }

    /// As nft writes it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
            Self::Bridge => "bridge",
        }
    }
}

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const EXCL: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

/// Length of the netlink header and the nfnetlink header after it.
pub(super) const HEADERS: usize = 16 + 4;

/// Appends one message.
pub(super) fn message(
    out: &mut Vec<u8>,
    verb: Verb,
    family: Family,
    flags: u16,
    sequence: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let kind = (SUBSYSTEM << 8) | verb as u16;
    frame(out, kind, family as u8, 0, REQUEST | flags, sequence, fill);
}

fn frame(
    out: &mut Vec<u8>,
    kind: u16,
    family: u8,
    resource: u16,
    flags: u16,
    sequence: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    fill(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// A transaction in the making. Remembers what each message is about, so that a refusal can name
/// it.
#[derive(Default)]
pub(super) struct Batch {
    messages: Vec<u8>,
    last: usize,
    subjects: Vec<Subject>,
    deletes: bool,
}

/// What a message of a batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// What was tried.
    pub(super) verb: Verb,
    /// The object's name in nft's words.
    pub(super) object: Cow<'static, str>,
}

impl Batch {
    pub(super) fn push(
        &mut self,
        verb: Verb,
        family: Family,
        flags: u16,
        object: impl Into<Cow<'static, str>>,
        fill: impl FnOnce(&mut Vec<u8>),
    ) {
        self.last = self.messages.len();
        // Sequence numbers are given when the batch is sent; until then the index stands there.
        let index = u32::try_from(self.subjects.len()).unwrap_or(u32::MAX);
        message(&mut self.messages, verb, family, flags, index, fill);
        self.subjects.push(Subject {
            verb,
            object: object.into(),
        });
        self.deletes |= matches!(verb, Verb::DelTable | Verb::DelChain | Verb::DelElements);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    pub(super) fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Something in it makes the kernel wait for a grace period when the socket is closed.
    pub(super) fn deletes(&self) -> bool {
        self.deletes
    }

    /// For rules that are flushed on the way, which is only a delete when there were any.
    pub(super) fn mark_deleting(&mut self) {
        self.deletes = true;
    }

    /// The bytes to send: begin has the sequence number `first`, message n `first + 1 + n`. Only
    /// the last message asks for an answer; a refused one answers in any case.
    pub(super) fn into_bytes(mut self, first: u32) -> Vec<u8> {
        let mut at = 0;
        while let Some(length) = self.messages.get(at..at + 4) {
            let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
            let sequence = &mut self.messages[at + 8..at + 12];
            let index = u32::from_ne_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
            sequence.copy_from_slice(&first.wrapping_add(1).wrapping_add(index).to_ne_bytes());
            at += length as usize;
        }
        if let Some(flags) = self.messages.get_mut(self.last + 6..self.last + 8) {
            let value = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&value.to_ne_bytes());
        }
        let mut out = Vec::with_capacity(self.messages.len() + 2 * HEADERS);
        frame(&mut out, BATCH_BEGIN, 0, SUBSYSTEM, REQUEST, first, |_| {});
        out.extend_from_slice(&self.messages);
        let end = first
            .wrapping_add(1)
            .wrapping_add(self.subjects.len() as u32);
        frame(&mut out, BATCH_END, 0, SUBSYSTEM, REQUEST, end, |_| {});
        out
    }
}

/// Names the table, first attribute of nearly every message (NFTA_*_TABLE is always 1).
pub(super) fn table(out: &mut Vec<u8>) {
    attr::put_str(out, 1, super::TABLE);
}
