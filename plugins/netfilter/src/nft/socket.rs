//! The conversation with the kernel: a batch and its verdict, questions and their answers.
//!
//! The kernel handles a message within the `send` itself, so that every answer is already queued
//! when `recv` is called; nothing here waits.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use pontoon_netlink::{NetfilterSocket, receive};

use super::error::Error;
use super::message::{Batch, DUMP, Family, HEADERS, Subject, Verb, message};

/// Larger than any answer: one element, one chain, or a page of a dump.
const ANSWER: usize = 64 * 1024;
/// Questions sent at once. Each answer takes up to 9 kB of the default receive buffer of 208 kB.
const QUESTIONS: usize = 16;
/// Thousands of elements in one batch need a send buffer beyond the default 208 kB.
const SEND_BUFFER: usize = 8 << 20;
/// A batch below this fits the default buffer.
const SMALL: usize = 100 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// A socket of NETLINK_NETFILTER. It stays in the network namespace it was opened in.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    deleted: bool,
    /// The last datagram. The room for it is not filled with zeros first: untouched memory costs nothing.
    buffer: Vec<u8>,
}

/// Why a batch was not applied.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The kernel's reason.
    pub(super) errno: Errno,
    /// The first message refused; `None` when it was the batch as a whole.
    pub(super) subject: Option<Subject>,
}

/// A message as received: its type, and what follows the two headers.
struct Reply {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> Result<Self, Error> {
        // Comes with NETLINK_CAP_ACK: a refused message is not quoted back, which for large batches
        // would overrun the receive buffer.
        let socket = NetfilterSocket::open().map_err(|source| match source.errno() {
            Some(errno @ (Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)) => {
                Error::NoNftables { errno }
            }
            _ => Error::OpenSocket { source },
        })?;
        let fd = socket.into_fd();
        Ok(Self {
            fd,
            sequence: 0,
            deleted: false,
            buffer: Vec::new(),
        })
    }

    /// A batch that deleted something has been applied.
    pub(super) fn deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Applies a batch as a whole, or says which message the kernel would not have. The outer
    /// error is about the socket.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<Result<(), Refusal>, Error> {
        if batch.is_empty() {
            return Ok(Ok(()));
        }
        let begin = self.reserve(batch.subjects().len() + 2);
        let subjects = batch.subjects().to_vec();
        let deletes = batch.deletes();
        let last = begin.wrapping_add(subjects.len() as u32);
        let bytes = batch.into_bytes(begin);
        if bytes.len() > SMALL {
            // Refused only without CAP_NET_ADMIN, and then the batch is refused as well.
            let _ = setsockopt(&self.fd, sockopt::SndBufForce, &SEND_BUFFER);
        }
        self.send(&bytes)?;
        let mut refusal = None;
        loop {
            for reply in self.receive()? {
                let index = reply.sequence.wrapping_sub(begin);
                if index as usize > subjects.len() || reply.kind != NLMSG_ERROR {
                    // Left over from an earlier refused batch.
                    continue;
                }
                let errno = reply.errno();
                if index == 0 {
                    // The batch as a whole: no permission, no subsystem, or a failed commit.
                    return Ok(Err(Refusal {
                        errno,
                        subject: None,
                    }));
                }
                if !reply.is_ack() && refusal.is_none() {
                    let subject = subjects.get(index as usize - 1).cloned();
                    refusal = Some(Refusal { errno, subject });
                }
                if reply.sequence == last {
                    self.deleted |= deletes && refusal.is_none();
                    return Ok(refusal.map_or(Ok(()), Err));
                }
            }
        }
    }

    /// Asks for single objects, many at a time: `count` questions, written by `fill`. Each answer
    /// is the object's attributes, or `None` when there is no such thing.
    pub(super) fn ask(
        &mut self,
        count: usize,
        mut fill: impl FnMut(&mut Vec<u8>, usize, u32),
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            let start = answers.len();
            let ahead = QUESTIONS.min(count - start);
            let first = self.reserve(ahead);
            let mut bytes = Vec::new();
            for index in 0..ahead {
                fill(&mut bytes, start + index, first.wrapping_add(index as u32));
            }
            self.send(&bytes)?;
            answers.resize(start + ahead, None);
            let mut missing = ahead;
            while missing > 0 {
                for reply in self.receive()? {
                    let index = reply.sequence.wrapping_sub(first) as usize;
                    if index >= ahead {
                        continue;
                    }
                    missing = missing.saturating_sub(1);
                    if reply.kind != NLMSG_ERROR {
                        answers[start + index] = Some(reply.body);
                    } else if reply.errno() != Errno::ENOENT {
                        return Err(Error::asking(reply.errno()));
                    }
                }
            }
        }
        Ok(answers)
    }

    /// Lists objects; `None` when what is to be listed does not exist. Starts over when somebody
    /// changes the ruleset meanwhile.
    pub(super) fn list(
        &mut self,
        verb: Verb,
        family: Family,
        fill: impl Fn(&mut Vec<u8>),
    ) -> Result<Option<Vec<Vec<u8>>>, Error> {
        const TRIES: usize = 100;
        'again: for _ in 0..TRIES {
            let sequence = self.reserve(1);
            let mut bytes = Vec::new();
            message(&mut bytes, verb, family, DUMP, sequence, &fill);
            self.send(&bytes)?;
            let mut found = Vec::new();
            let mut torn = false;
            loop {
                for reply in self.receive()? {
                    if reply.sequence != sequence {
                        continue;
                    }
                    torn |= reply.flags & NLM_F_DUMP_INTR != 0;
                    match reply.kind {
                        NLMSG_DONE if torn => continue 'again,
                        NLMSG_DONE => return Ok(Some(found)),
                        NLMSG_ERROR => match reply.errno() {
                            Errno::ENOENT => return Ok(None),
                            Errno::EINTR | Errno::EAGAIN => continue 'again,
                            errno => return Err(Error::asking(errno)),
                        },
                        _ => found.push(reply.body),
                    }
                }
            }
        }
        Err(Error::Unstable {
            what: "a listing of the ruleset".to_owned(),
        })
    }

    fn reserve(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count as u32);
        first
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(source) => {
                    return Err(Error::Send {
                        bytes: bytes.len(),
                        source,
                    });
                }
            }
        }
    }

    /// The messages of one datagram.
    fn receive(&mut self) -> Result<Vec<Reply>, Error> {
        // Not waiting: an answer that is not there yet will never come.
        loop {
            match receive(self.fd.as_fd(), &mut self.buffer, ANSWER) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(source) => return Err(Error::Receive { source }),
            }
        }
        let mut rest = &self.buffer[..];
        let mut replies = Vec::new();
        while let Some(header) = rest.get(..16) {
            let word = |at: usize| {
                u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let size = (word(0) as usize).clamp(16, rest.len());
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            // Errors and the end of a dump carry their code where others have the second header.
            let skip = if matches!(kind, NLMSG_ERROR | NLMSG_DONE) {
                16
            } else {
                HEADERS
            };
            replies.push(Reply {
                kind,
                flags: u16::from_ne_bytes([header[6], header[7]]),
                sequence: word(8),
                body: rest.get(skip..size).unwrap_or_default().to_vec(),
            });
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(replies)
    }
}

impl Reply {
    fn code(&self) -> i32 {
        self.body
            .first_chunk::<4>()
            .map_or(0, |code| i32::from_ne_bytes(*code))
    }

    fn is_ack(&self) -> bool {
        self.code() == 0
    }

    fn errno(&self) -> Errno {
        Errno::from_raw(self.code().saturating_neg())
    }
}
