//! The NETLINK_ROUTE socket. What it can do stands in [`link`](crate::link), [`address`](crate::address),
//! [`routing`](crate::routing) and [`setup`](crate::setup), each an `impl` of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{Emitable, NLM_F_DUMP};

use crate::error::Error;
use crate::frame::{Failure, Frame, Frames};
use crate::netns::Netns;
use crate::socket::{ConversationError, Socket};

/// A socket for links, addresses and routes of one network namespace: that of the thread which opened it, or the one it
/// was opened in. Requests block until they are carried out.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub fn open() -> Result<RouteSocket, Error> {
        Self::prepare(Socket::bare(netlink_sys::protocols::NETLINK_ROUTE))
    }

    /// Opens a socket in another namespace. The calling thread enters it for the length of one system call; the process
    /// aborts should the way back fail.
    ///
    /// # Errors
    /// When the socket cannot be opened, or the namespace not entered.
    pub fn open_in(netns: &Netns) -> Result<RouteSocket, Error> {
        let bare = netns.make_inside(|| Socket::bare(netlink_sys::protocols::NETLINK_ROUTE))?;
        Self::prepare(bare)
    }

    fn prepare(bare: std::io::Result<netlink_sys::Socket>) -> Result<RouteSocket, Error> {
        let socket = bare.and_then(Socket::prepare).map_err(Error::io("open"))?;
        // With it the kernel reads the filters of a dump; without it they are ignored and everything comes.
        socket.strict().map_err(Error::io("set strict checking"))?;
        Ok(RouteSocket { socket })
    }

    /// Hands out the descriptor, for [`DetachedChild`](crate::DetachedChild).
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into_fd()
    }

    /// Makes the send buffer large enough for what is sent by the bare descriptor.
    pub(crate) fn make_room(&self, frames: &Frames) {
        self.socket.make_room(frames.as_bytes().len());
    }

    /// Sends frames in one go; every failure comes back.
    pub(crate) fn batch(
        &mut self,
        frames: &mut Frames,
        data: impl FnMut(Frame<'_>),
    ) -> Result<Vec<Failure>, Error> {
        self.socket
            .batch(frames, data)
            .map_err(Error::io("send a batch"))
    }

    /// Sends one message; the failure comes back bare, for the caller to name what it was about.
    pub(crate) fn act(
        &mut self,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
    ) -> Result<Option<Failure>, Error> {
        let mut frames = Frames::new();
        frames.emit(kind, flags, body);
        Ok(self.batch(&mut frames, |_| {})?.into_iter().next())
    }

    /// Sends one request and reads its single answer.
    pub(crate) fn get<T>(
        &mut self,
        kind: u16,
        body: &impl Emitable,
        read: impl FnMut(Frame<'_>) -> Option<T>,
    ) -> Result<Result<Option<T>, Failure>, Error> {
        self.ask(kind, 0, body, read)
            .map(|answer| answer.map(|found| found.into_iter().next()))
    }

    /// Sends a dump request and reads all of it.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        kind: u16,
        body: &impl Emitable,
        read: impl FnMut(Frame<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.ask(kind, NLM_F_DUMP, body, read)?
            .map_err(|failure| Error::kernel("list", what, failure))
    }

    pub(crate) fn ask<T>(
        &mut self,
        kind: u16,
        flags: u16,
        body: &impl Emitable,
        read: impl FnMut(Frame<'_>) -> Option<T>,
    ) -> Result<Result<Vec<T>, Failure>, Error> {
        let build = |frames: &mut Frames, kind, flags| {
            frames.emit(kind, flags, body);
        };
        match self.socket.query(kind, flags, build, read) {
            Ok(found) => Ok(Ok(found)),
            Err(ConversationError::Refused(failure)) => Ok(Err(failure)),
            Err(ConversationError::Unstable) => Err(Error::Unstable),
            Err(ConversationError::Io(source)) => Err(Error::io("ask")(source)),
        }
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
