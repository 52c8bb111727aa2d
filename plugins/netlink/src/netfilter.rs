//! The NETLINK_NETFILTER socket, for the encoders of nf_tables and conntrack messages.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use crate::error::Error;
use crate::frame::{Failure, Frame, Frames};
use crate::netns::Netns;
use crate::socket::{ConversationError, Socket};

/// A socket to the netfilter subsystems of one network namespace.
///
/// Closing one takes 4 to 18 ms for some time after anything was deleted from nf_tables in its namespace, and others'
/// transactions wait for it: give the descriptor to [`DetachedChild`](crate::DetachedChild) then.
#[derive(Debug)]
pub struct NetfilterSocket {
    socket: Socket,
}

/// A message of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `nlmsg_type`: subsystem in the high byte, message in the low one.
    pub kind: u16,
    /// What follows the netlink header: `struct nfgenmsg`, then attributes.
    pub payload: Vec<u8>,
}

impl Reply {
    pub(crate) fn of(frame: Frame<'_>) -> Reply {
        Reply {
            kind: frame.kind,
            payload: frame.payload.to_vec(),
        }
    }

    /// The attributes behind `struct nfgenmsg`.
    #[must_use]
    pub fn attrs(&self) -> crate::attr::AttrReader<'_> {
        crate::attr::read(self.payload.get(4..).unwrap_or_default())
    }
}

/// A batch or request was refused.
#[derive(Debug, thiserror::Error)]
pub enum NetfilterError {
    /// The kernel refused messages. Of a batch nothing was carried out.
    #[error("the kernel refused {} netfilter message(s), the first with: {}", .0.len(), .0.first().map(describe).unwrap_or_default())]
    Refused(Vec<Failure>),
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] Error),
}

fn describe(failure: &Failure) -> String {
    let words = failure
        .message
        .as_deref()
        .map(|m| format!(" ({m})"))
        .unwrap_or_default();
    format!("{}{words}", failure.errno.desc())
}

impl NetfilterError {
    /// The failures by message, if the kernel refused.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        match self {
            NetfilterError::Refused(failures) => failures,
            NetfilterError::Socket(_) => &[],
        }
    }

    /// The first error number.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetfilterError::Refused(failures) => failures.first().map(|failure| failure.errno),
            NetfilterError::Socket(error) => error.errno(),
        }
    }
}

/// Takes a datagram that is there already; what is longer than `room` bytes is cut. The room is not filled with zeros
/// first, since untouched memory costs nothing.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    room: usize,
) -> Result<(), Errno> {
    buffer.clear();
    buffer.reserve_exact(room);
    // SAFETY: the kernel writes at most `room` bytes, for which there is capacity, and says how many it has written.
    unsafe {
        let start = buffer.as_mut_ptr().cast();
        let written = libc::recv(socket.as_raw_fd(), start, room, libc::MSG_DONTWAIT);
        buffer.set_len(usize::try_from(Errno::result(written)?).unwrap_or_default());
    }
    Ok(())
}

impl AsFd for NetfilterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl NetfilterSocket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Io`]: the kernel has no netfilter netlink.
    pub fn open() -> Result<NetfilterSocket, Error> {
        Self::prepare(Socket::bare(netlink_sys::protocols::NETLINK_NETFILTER))
    }

    /// Opens a socket for questions whose errors are not reported: without the extended acknowledgements, which cost two
    /// system calls.
    ///
    /// # Errors
    /// [`Error::Io`]: the kernel has no netfilter netlink.
    pub fn open_for_questions() -> Result<NetfilterSocket, Error> {
        let bare = Socket::bare(netlink_sys::protocols::NETLINK_NETFILTER);
        let socket = bare.map(Socket::plain).map_err(Error::io("open"))?;
        Ok(NetfilterSocket { socket })
    }

    /// Opens a socket in another namespace, as [`RouteSocket::open_in`](crate::RouteSocket::open_in) does.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Namespace`]: that namespace cannot be entered.
    pub fn open_in(netns: &Netns) -> Result<NetfilterSocket, Error> {
        let bare = netns.make_inside(|| Socket::bare(netlink_sys::protocols::NETLINK_NETFILTER))?;
        Self::prepare(bare)
    }

    fn prepare(bare: io::Result<netlink_sys::Socket>) -> Result<NetfilterSocket, Error> {
        let socket = bare.and_then(Socket::prepare).map_err(Error::io("open"))?;
        Ok(NetfilterSocket { socket })
    }

    /// Carries out a transaction: `frames` begin with NFNL_MSG_BATCH_BEGIN and end with NFNL_MSG_BATCH_END, all or
    /// nothing happens. Failures name their message by sequence number, and the attribute by its offset.
    ///
    /// # Errors
    /// [`NetfilterError::Refused`]: the kernel refused these messages. A refusal of the first one is about the transaction
    /// as a whole.
    pub fn send_batch(&mut self, frames: &mut Frames) -> Result<(), NetfilterError> {
        let failures = self
            .socket
            .transaction(frames)
            .map_err(Error::io("carry out a netfilter batch"))?;
        if failures.is_empty() {
            Ok(())
        } else {
            Err(NetfilterError::Refused(failures))
        }
    }

    /// Sends messages that stand for themselves, without a transaction.
    ///
    /// # Errors
    /// [`NetfilterError::Refused`] with every failure; the other messages were carried out.
    pub fn send(&mut self, frames: &mut Frames) -> Result<(), NetfilterError> {
        let failures = self
            .socket
            .batch(frames, |_| {})
            .map_err(Error::io("send netfilter messages"))?;
        if failures.is_empty() {
            Ok(())
        } else {
            Err(NetfilterError::Refused(failures))
        }
    }

    /// Asks for single objects, 16 in a `send`: `build` appends the question of each number. Each answer is one message, or
    /// the kernel's refusal, in the order of the questions.
    ///
    /// # Errors
    /// [`Error::Io`]: the socket failed.
    pub fn questions(
        &mut self,
        count: usize,
        build: impl FnMut(&mut Frames, usize),
    ) -> Result<Vec<Result<Reply, Failure>>, Error> {
        self.socket
            .ask(count, build, Reply::of)
            .map_err(Error::io("ask netfilter"))
    }

    /// Asks for one object. `fixed` is `struct nfgenmsg`.
    ///
    /// # Errors
    /// [`NetfilterError::Refused`]: there is no such object, or the question is not a valid one.
    pub fn request(
        &mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl Fn(&mut crate::attr::Attrs),
    ) -> Result<Vec<Reply>, NetfilterError> {
        self.ask(kind, 0, fixed, fill)
    }

    /// Asks for all objects, or those that pass the filter which `fill` writes. A dump during which the table changed is
    /// asked for again.
    ///
    /// # Errors
    /// [`NetfilterError::Refused`], or [`Error::Unstable`] after a hundred attempts.
    pub fn dump(
        &mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl Fn(&mut crate::attr::Attrs),
    ) -> Result<Vec<Reply>, NetfilterError> {
        self.ask(kind, NLM_F_DUMP, fixed, fill)
    }

    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        fill: impl Fn(&mut crate::attr::Attrs),
    ) -> Result<Vec<Reply>, NetfilterError> {
        let build = |frames: &mut Frames, kind, flags| {
            frames.push(kind, flags, fixed, &fill);
        };
        self.socket
            .query(kind, flags, build, |frame| Some(Reply::of(frame)))
            .map_err(|broken| match broken {
                ConversationError::Refused(failure) => NetfilterError::Refused(vec![failure]),
                ConversationError::Unstable => Error::Unstable.into(),
                ConversationError::Io(source) => Error::io("ask netfilter")(source).into(),
            })
    }

    /// Hands out the descriptor, for [`DetachedChild`](crate::DetachedChild).
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into_fd()
    }
}
