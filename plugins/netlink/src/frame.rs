//! Netlink messages as bytes: framing what is sent, walking what is received, and reading the kernel's answers.

use std::sync::atomic::{AtomicU32, Ordering};

use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST};
use nix::errno::Errno;

use crate::attr::{self, Attrs, align};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// Sequence numbers are unique in the process, so that an answer to an abandoned request is never taken for another's.
static SEQUENCE: AtomicU32 = AtomicU32::new(1);

/// Messages that go to the kernel in one `send`.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Sequence number and start of each message.
    messages: Vec<(u32, usize)>,
}

impl Frames {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Frames {
        Frames::default()
    }

    /// An empty batch that holds one message of so many bytes without asking for memory.
    pub(crate) fn with_room(bytes: usize) -> Frames {
        Frames {
            bytes: Vec::with_capacity(bytes),
            messages: Vec::with_capacity(1),
        }
    }

    /// Empties the batch and keeps its room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
    }

    /// Appends a message: `NLM_F_REQUEST` and `flags`, the fixed header of its family, then attributes. Returns the
    /// sequence number by which [`Failure`] names it.
    pub fn push(
        &mut self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut Attrs),
    ) -> u32 {
        self.message(kind, flags, |bytes| {
            bytes.extend_from_slice(fixed);
            bytes.resize(align(bytes.len()), 0);
            let mut attrs = Attrs::continuing(std::mem::take(bytes));
            fill(&mut attrs);
            *bytes = attrs.into_bytes();
        })
    }

    /// Appends a message built from netlink-packet-route's types.
    pub(crate) fn emit(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> u32 {
        self.message(kind, flags, |bytes| {
            let start = bytes.len();
            bytes.resize(start + body.buffer_len(), 0);
            body.emit(&mut bytes[start..]);
        })
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) -> u32 {
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(&mut self.bytes);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(align(self.bytes.len()), 0);
        self.messages.push((sequence, start));
        sequence
    }

    /// Asks for an answer to this message even if it succeeds. One is enough for a batch: failures always answer, and
    /// answers come in order.
    pub(crate) fn acknowledge(&mut self, position: usize) {
        let Some((_, start)) = self.messages.get(position) else {
            return;
        };
        let flags = &mut self.bytes[start + 6..start + 8];
        let value = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
        flags.copy_from_slice(&value.to_ne_bytes());
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Position in the batch of the message with this sequence number.
    #[must_use]
    pub fn position(&self, sequence: u32) -> Option<usize> {
        // Numbers are given in ascending order.
        self.messages
            .binary_search_by_key(&sequence, |(known, _)| *known)
            .ok()
    }
}

/// A message as received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// What a received message means to the conversation.
#[derive(Debug)]
pub(crate) enum MessageMeaning {
    /// The message did what it was sent for.
    Acknowledged,
    /// The message failed.
    Failed(Failure),
    /// A dump is complete.
    Done,
    /// Part of an answer.
    Data,
}

/// The kernel's answer to a message that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which message, by the number that [`Frames::push`] gave.
    pub sequence: u32,
    /// The error number.
    pub errno: Errno,
    /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it has any.
    pub message: Option<String>,
    /// Offset in the message of the attribute it did not like.
    pub offset: Option<u32>,
}

impl<'a> Frame<'a> {
    /// Walks the messages of a datagram.
    pub(crate) fn walk(mut bytes: &'a [u8]) -> impl Iterator<Item = Frame<'a>> {
        std::iter::from_fn(move || {
            let header = bytes.get(..HEADER)?;
            let word = |at: usize| {
                u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let length = usize::try_from(word(0)).ok()?;
            let frame = Frame {
                kind: u16::from_ne_bytes([header[4], header[5]]),
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: word(8),
                payload: bytes.get(HEADER..length)?,
            };
            bytes = bytes.get(align(length)..).unwrap_or_default();
            Some(frame)
        })
    }

    pub(crate) fn meaning(&self) -> MessageMeaning {
        match self.kind {
            NLMSG_ERROR => match self.code() {
                0 => MessageMeaning::Acknowledged,
                // The error repeats the header of the message it answers, or all of it unless NETLINK_CAP_ACK is set.
                code => {
                    let capped = self.flags & NLM_F_CAPPED != 0;
                    let quoted = self
                        .payload
                        .get(4..8)
                        .map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
                    let skip = if capped {
                        HEADER
                    } else {
                        align(quoted as usize)
                    };
                    MessageMeaning::Failed(self.failure(code, 4 + skip))
                }
            },
            NLMSG_DONE => match self.code() {
                0 => MessageMeaning::Done,
                // A dump that fails half-way says so in its last message.
                code => MessageMeaning::Failed(self.failure(code, 4)),
            },
            _ => MessageMeaning::Data,
        }
    }

    fn code(&self) -> i32 {
        self.payload
            .get(..4)
            .map_or(0, |b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn failure(&self, code: i32, attributes: usize) -> Failure {
        let mut failure = Failure {
            sequence: self.sequence,
            errno: Errno::from_raw(code.saturating_neg()),
            message: None,
            offset: None,
        };
        if self.flags & NLM_F_ACK_TLVS != 0 {
            for attr in attr::read(self.payload.get(attributes..).unwrap_or_default()) {
                match attr.kind {
                    NLMSGERR_ATTR_MSG => failure.message = Some(attr.text()),
                    NLMSGERR_ATTR_OFFS => failure.offset = attr.u32(),
                    _ => {}
                }
            }
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(flags: u16, code: i32, quoted: &[u8], tlvs: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&77u32.to_ne_bytes());
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(quoted);
        bytes.extend_from_slice(tlvs);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<(Errno, Option<&str>, Option<u32>)>) {
        let frame = Frame::walk(bytes).next().expect("a frame");
        match (frame.meaning(), expected) {
            (MessageMeaning::Acknowledged, None) => {}
            (MessageMeaning::Failed(failure), Some((errno, message, offset))) => {
                assert_eq!(
                    failure,
                    Failure {
                        sequence: 77,
                        errno,
                        message: message.map(String::from),
                        offset
                    }
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn extended_acknowledgements_are_read() {
        let mut tlvs = Attrs::default();
        tlvs.cstr(NLMSGERR_ATTR_MSG, "no such thing");
        tlvs.u32(NLMSGERR_ATTR_OFFS, 36);
        let mut header = vec![0; HEADER];
        header[..4].copy_from_slice(&20u32.to_ne_bytes());
        let mut whole = header.clone();
        whole.extend_from_slice(&[1, 2, 3, 4]);

        check(&error(NLM_F_CAPPED, 0, &header, &[]), None);
        check(
            &error(NLM_F_CAPPED, -17, &header, &[]),
            Some((Errno::EEXIST, None, None)),
        );
        let both = Some((Errno::EEXIST, Some("no such thing"), Some(36)));
        check(
            &error(NLM_F_CAPPED | NLM_F_ACK_TLVS, -17, &header, tlvs.as_bytes()),
            both,
        );
        check(&error(NLM_F_ACK_TLVS, -17, &whole, tlvs.as_bytes()), both);
    }

    #[test]
    fn a_batch_is_framed_and_walked() {
        let mut frames = Frames::new();
        let first = frames.push(0x10, 0x400, &[1, 2, 3, 4], |attrs| attrs.u8(1, 5));
        let second = frames.push(0x11, 0, &[9], |_| {});
        frames.acknowledge(1);
        let seen: Vec<_> = Frame::walk(frames.as_bytes())
            .map(|f| (f.kind, f.flags, f.sequence, f.payload.len()))
            .collect();
        assert_eq!(
            seen,
            [(0x10, 0x401, first, 12), (0x11, NLM_F_ACK | 1, second, 4)]
        );
        assert_eq!(
            (frames.position(second), frames.position(0), frames.len()),
            (Some(1), None, 2)
        );
    }
}
