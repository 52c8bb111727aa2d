//! One end of a socket pair between two processes of a resolver: whole messages, and descriptors with
//! them.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, sendmsg, shutdown, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::request::FILES;

/// Longest message, in bytes: [`FILES`] paths of the longest names.
const LONGEST: usize = 64 * 1024;

/// One end.
pub(crate) struct MessageSocket {
    socket: OwnedFd,
    /// Room for one message.
    room: RefCell<Vec<u8>>,
}

impl MessageSocket {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            room: RefCell::default(),
        }
    }

    /// Both ends of a new pair.
    pub(crate) fn both() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::new(own), other))
    }

    /// For how long a message is waited for.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(
            &self.socket,
            Timeout::Recv,
            Some(patience),
        )?)
    }

    /// Ends the pair for all who have a copy of one of its ends.
    pub(crate) fn end(&self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Sends without waiting: a process that does not take its messages is not waited for.
    pub(crate) fn send(
        &self,
        outcome: &impl Serialize,
        files: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(outcome).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.socket, &[IoSlice::new(&text)], &mut control, flags)?;
        Ok(())
    }

    /// The next message; `None` when the other end is closed. With `wait`, waits for it.
    pub(crate) fn receive<T: DeserializeOwned>(
        &self,
        wait: bool,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut room = self.room.borrow_mut();
        room.resize(LONGEST, 0);
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let mut into = [IoSliceMut::new(&mut room)];
        let got = recvmsg(&self.socket, &mut into, &mut control, flags)?;
        let files: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect();
        // No message is empty.
        if got.bytes == 0 {
            return Ok(None);
        }
        // Descriptors may be fewer than were sent: this process may have no more room for them.
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let outcome = serde_json::from_slice(&room[..got.bytes])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((outcome, files)))
    }
}

impl AsFd for MessageSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for MessageSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors_and_the_end_is_seen() {
        let (own, other) = MessageSocket::both().unwrap();
        let other = MessageSocket::new(other);
        let file = std::fs::File::open("/dev/null").unwrap();
        own.send(&"one", &[file.as_fd(), file.as_fd()]).unwrap();
        own.send(&"two", &[]).unwrap();
        let (outcome, files) = other.receive::<String>(true).unwrap().unwrap();
        assert_eq!((outcome.as_str(), files.len()), ("one", 2));
        let (outcome, files) = other.receive::<String>(true).unwrap().unwrap();
        assert_eq!((outcome.as_str(), files.len()), ("two", 0));
        let error = other.receive::<String>(false).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        own.send(&7, &[]).unwrap();
        let error = other.receive::<String>(true).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // A copy elsewhere keeps it open; an end ends it for the copy too.
        let copy = own.as_fd().try_clone_to_owned().unwrap();
        drop(own);
        assert!(other.receive::<String>(false).is_err());
        MessageSocket::new(copy).end();
        assert!(other.receive::<String>(true).unwrap().is_none());
    }
}
