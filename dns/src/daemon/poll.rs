//! epoll with tokens that say what is ready.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::slab::Id;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Datagrams at a gateway.
    Udp(Id),
    /// Connections at a gateway.
    Listener(Id),
    /// A client's connection.
    Client(Id),
    /// A question under way to another server.
    Flight(Id),
    /// Connections at the control socket.
    Control,
    /// A control connection.
    Command(Id),
    /// The record directory.
    Records,
    /// Somebody wants us to end.
    Signal,
}

impl Source {
    fn token(self) -> u64 {
        let (kind, bits) = match self {
            Self::Udp(id) => (0, id.to_bits()),
            Self::Listener(id) => (1, id.to_bits()),
            Self::Client(id) => (2, id.to_bits()),
            Self::Flight(id) => (3, id.to_bits()),
            Self::Control => (4, 0),
            Self::Command(id) => (5, id.to_bits()),
            Self::Records => (6, 0),
            Self::Signal => (7, 0),
        };
        kind << 56 | bits
    }

    fn from_token(token: u64) -> Self {
        let id = Id::from_bits(token & ((1 << 56) - 1));
        match token >> 56 {
            0 => Self::Udp(id),
            1 => Self::Listener(id),
            2 => Self::Client(id),
            3 => Self::Flight(id),
            4 => Self::Control,
            5 => Self::Command(id),
            6 => Self::Records,
            _ => Self::Signal,
        }
    }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    Both,
    /// Errors and the other side's end only.
    Nothing,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::Both => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            Self::Nothing => EpollFlags::empty(),
        }
    }
}

/// Something is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    /// The other side is gone altogether.
    pub(crate) broken: bool,
}

pub(crate) struct Poll(Epoll);

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub(crate) fn add(&self, fd: impl AsFd, source: Source, interest: Interest) -> io::Result<()> {
        let event = EpollEvent::new(interest.flags(), source.token());
        Ok(self.0.add(fd, event)?)
    }

    pub(crate) fn change(
        &self,
        fd: impl AsFd,
        source: Source,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = EpollEvent::new(interest.flags(), source.token());
        Ok(self.0.modify(fd, &mut event)?)
    }

    /// Waits, at most so long.
    pub(crate) fn wait(&self, most: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let timeout = match most {
            None => EpollTimeout::NONE,
            // Rounded up, so as not to wake just before the time.
            Some(time) => {
                EpollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(EpollTimeout::MAX)
            }
        };
        ready.clear();
        let count = match self.0.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        ready.extend(events.iter().take(count).map(|event| Ready {
            source: Source::from_token(event.data()),
            broken: event.events().contains(EpollFlags::EPOLLERR)
                || event.events().contains(EpollFlags::EPOLLHUP),
        }));
        Ok(())
    }
}
