//! The blocking conversation with the kernel that all netlink families share.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use netlink_packet_core::NLM_F_DUMP_INTR;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::frame::{Failure, Frame, Frames, MessageMeaning};

/// The kernel builds dumps in pieces of at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// What the default send buffer (212,992 bytes, of which overhead is taken) carries for certain.
const COMFORTABLE: usize = 100 * 1024;
/// A table that changes under every one of this many dumps is not going to hold still.
const DUMP_ATTEMPTS: usize = 100;
/// Questions sent at once. Each answer takes up to 9 kB of the default receive buffer of 208 kB.
const QUESTIONS: usize = 16;

/// A netlink socket. Its namespace is that of the thread which made it, whatever the thread does later.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    kernel: netlink_sys::SocketAddr,
    /// The last datagram, cut to what there is room for. Most of the room is never touched, and memory that is not
    /// touched costs nothing: filling it with zeros first would take a page fault for every 4 KiB.
    buffer: Vec<u8>,
    room: usize,
}

/// Why a conversation ended early.
#[derive(Debug)]
pub(crate) enum ConversationError {
    /// The kernel refused a message.
    Refused(Failure),
    /// The table changed during every attempt to read it.
    Unstable,
    /// A system call failed.
    Io(io::Error),
}

impl From<io::Error> for ConversationError {
    fn from(error: io::Error) -> Self {
        ConversationError::Io(error)
    }
}

impl Socket {
    /// Only the `socket` call: what must happen inside a foreign namespace is kept as short as that.
    pub(crate) fn bare(protocol: isize) -> io::Result<netlink_sys::Socket> {
        netlink_sys::Socket::new(protocol)
    }

    pub(crate) fn prepare(inner: netlink_sys::Socket) -> io::Result<Socket> {
        // Explanations in words, and errors that do not quote the whole message back.
        inner.set_ext_ack(true)?;
        inner.set_cap_ack(true)?;
        Ok(Socket::plain(inner))
    }

    /// Without extended acknowledgements.
    pub(crate) fn plain(inner: netlink_sys::Socket) -> Socket {
        Socket {
            inner,
            kernel: netlink_sys::SocketAddr::new(0, 0),
            buffer: Vec::new(),
            room: BUFFER,
        }
    }

    pub(crate) fn strict(&self) -> io::Result<()> {
        self.inner.set_netlink_get_strict_chk(true)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        // SAFETY: `into_raw_fd` gives up ownership of a descriptor that is open, and no other owner has it.
        unsafe { OwnedFd::from_raw_fd(self.inner.into_raw_fd()) }
    }

    /// Sends all frames at once and gathers the answers; `data` sees what is echoed. Returns every failure, in the order
    /// of the frames: a batch is not atomic, later frames are carried out even when earlier ones failed.
    pub(crate) fn batch(
        &mut self,
        frames: &mut Frames,
        data: impl FnMut(Frame<'_>),
    ) -> io::Result<Vec<Failure>> {
        self.exchange(frames, frames.len().saturating_sub(1), false, data)
    }

    /// Sends a netfilter transaction, which is atomic. Its closing message never answers, so the one before it must.
    /// A failure of its opening message is the only one: it is about the transaction as a whole.
    pub(crate) fn transaction(&mut self, frames: &mut Frames) -> io::Result<Vec<Failure>> {
        self.exchange(frames, frames.len().saturating_sub(2), true, |_| {})
    }

    /// Sends questions, many at a time, and hands over the answer to each, or its failure, in the order of the questions.
    /// `build` appends the question of this number. A question succeeds by its answer alone, without an acknowledgement.
    pub(crate) fn ask<T>(
        &mut self,
        count: usize,
        mut build: impl FnMut(&mut Frames, usize),
        mut read: impl FnMut(Frame<'_>) -> T,
    ) -> io::Result<Vec<Result<T, Failure>>> {
        let mut answers = Vec::with_capacity(count);
        let mut frames = Frames::new();
        while answers.len() < count {
            let start = answers.len();
            let end = count.min(start + QUESTIONS);
            frames.clear();
            (start..end).for_each(|index| build(&mut frames, index));
            self.send(frames.as_bytes())?;
            // Answers come in order.
            while answers.len() < end {
                self.receive(libc::MSG_DONTWAIT)?;
                for frame in Frame::walk(&self.buffer) {
                    if frames.position(frame.sequence) != Some(answers.len() - start) {
                        continue;
                    }
                    answers.push(match frame.meaning() {
                        MessageMeaning::Failed(failure) => Err(failure),
                        _ => Ok(read(frame)),
                    });
                }
            }
        }
        Ok(answers)
    }

    fn exchange(
        &mut self,
        frames: &mut Frames,
        last: usize,
        atomic: bool,
        mut data: impl FnMut(Frame<'_>),
    ) -> io::Result<Vec<Failure>> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        frames.acknowledge(last);
        self.send(frames.as_bytes())?;
        let mut failures = Vec::new();
        loop {
            // The kernel has worked through the batch inside `send`: its answers are here, or never will be. Of a
            // transaction that fails as a whole only the opening message is answered.
            let length = match self.receive(libc::MSG_DONTWAIT) {
                Err(_) if !failures.is_empty() => return Ok(failures),
                other => other?,
            };
            debug_assert!(length <= self.room, "answers to a batch are short");
            for frame in Frame::walk(&self.buffer) {
                let Some(position) = frames.position(frame.sequence) else {
                    continue;
                };
                match frame.meaning() {
                    MessageMeaning::Acknowledged if position == last => return Ok(failures),
                    MessageMeaning::Acknowledged | MessageMeaning::Done => {}
                    MessageMeaning::Failed(failure) => {
                        failures.push(failure);
                        if position == last || (atomic && position == 0) {
                            return Ok(failures);
                        }
                    }
                    MessageMeaning::Data => data(frame),
                }
            }
        }
    }

    /// Sends one request and hands over each message of the answer, of which a dump has many. A dump during which the
    /// table changed is thrown away and asked for again.
    pub(crate) fn query<T>(
        &mut self,
        kind: u16,
        flags: u16,
        build: impl Fn(&mut Frames, u16, u16),
        mut read: impl FnMut(Frame<'_>) -> Option<T>,
    ) -> Result<Vec<T>, ConversationError> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut frames = Frames::new();
            build(&mut frames, kind, flags);
            frames.acknowledge(0);
            self.send(frames.as_bytes())?;
            let mut found = Vec::new();
            if self.collect(&frames, &mut found, &mut read)? {
                return Ok(found);
            }
        }
        Err(ConversationError::Unstable)
    }

    /// True when the answer is complete and consistent.
    fn collect<T>(
        &mut self,
        frames: &Frames,
        found: &mut Vec<T>,
        read: &mut impl FnMut(Frame<'_>) -> Option<T>,
    ) -> Result<bool, ConversationError> {
        let mut consistent = true;
        loop {
            let length = self.receive(0)?;
            if length > self.room {
                // The rest is lost: asked for again, with room for it, once this answer is at its end.
                self.room = length.next_power_of_two();
                consistent = false;
            }
            for frame in Frame::walk(&self.buffer) {
                if frames.position(frame.sequence).is_none() {
                    continue;
                }
                consistent &= frame.flags & NLM_F_DUMP_INTR == 0;
                match frame.meaning() {
                    MessageMeaning::Acknowledged | MessageMeaning::Done => return Ok(consistent),
                    MessageMeaning::Failed(failure)
                        if matches!(failure.errno, Errno::EINTR | Errno::EAGAIN) =>
                    {
                        return Ok(false);
                    }
                    MessageMeaning::Failed(failure) => {
                        return Err(ConversationError::Refused(failure));
                    }
                    MessageMeaning::Data => found.extend(read(frame)),
                }
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len());
        loop {
            match self.inner.send_to(bytes, &self.kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Raises both buffers beyond the system's limit, which CAP_NET_ADMIN may. A refusal shows in `send`.
    pub(crate) fn make_room(&self, bytes: usize) {
        if bytes > COMFORTABLE {
            let wanted = bytes.saturating_mul(4);
            let _ = setsockopt(&self.inner, sockopt::SndBufForce, &wanted);
            let _ = setsockopt(&self.inner, sockopt::RcvBufForce, &wanted);
        }
    }

    /// Takes the next datagram into the buffer. Its length can exceed the room; then it was cut.
    fn receive(&mut self, flags: i32) -> io::Result<usize> {
        loop {
            self.buffer.clear();
            self.buffer.reserve_exact(self.room);
            match self.inner.recv(&mut self.buffer, flags | libc::MSG_TRUNC) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self.inner` lives, which the borrow guarantees.
        unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) }
    }
}
