//! Datagrams by the dozen: one system call takes in what has come, another one sends the replies.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg,
};

/// Datagrams of one socket that are answered before others get their turn.
const MOST: usize = 64;
/// So many are taken in at least.
const FEWEST: usize = 4;
/// Bytes of a query that are looked at: a name, a question and some options have some hundred.
const LONGEST: usize = 4096;

/// Room for what comes and what goes.
pub(crate) struct Batch {
    input: Box<[u8]>,
    pub(crate) arrived: Vec<(usize, SocketAddr)>,
    /// The kernel writes the length of an address where it has read how much room there is: one set
    /// of headers for each family.
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) to: Vec<Option<SockaddrStorage>>,
    /// How many are taken in at a time: room for each has to be made ready.
    room: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let headers = || MultiHeaders::preallocate(MOST, None);
        Self {
            input: vec![0; MOST * LONGEST].into(),
            arrived: Vec::with_capacity(MOST),
            v4: headers(),
            v6: headers(),
            sending: headers(),
            replies: vec![Vec::new(); MOST],
            to: Vec::with_capacity(MOST),
            room: FEWEST,
        }
    }

    /// The datagram in this place of those that have arrived.
    pub(crate) fn packet(&self, index: usize, length: usize) -> &[u8] {
        let start = index * LONGEST;
        &self.input[start..start + length.min(LONGEST)]
    }

    /// Takes in what has come; whether there may be more.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, v4: bool) -> io::Result<bool> {
        self.arrived.clear();
        self.to.clear();
        let mut chunks = self.input.chunks_exact_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let headers = if v4 { &mut self.v4 } else { &mut self.v6 };
        let got = recvmmsg(
            socket.as_raw_fd(),
            headers,
            slices.iter_mut().take(self.room),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        for message in got {
            // A sender without an address gets no reply, but the place in the row counts.
            let from = message.address.as_ref().and_then(address);
            let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
            self.arrived
                .push((message.bytes, from.unwrap_or(unspecified)));
        }
        let more = self.arrived.len() == self.room;
        self.room = (2 * self.arrived.len()).clamp(FEWEST, MOST);
        Ok(more)
    }

    /// Sends all replies; returns how many the kernel did not take.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> u64 {
        let mut failed = 0;
        let mut done = 0;
        while let Some(to) = self.to.get(done..).filter(|rest| !rest.is_empty()) {
            let replies = self.replies.get(done..).unwrap_or_default();
            let slices: [[IoSlice<'_>; 1]; MOST] = array::from_fn(|index| {
                [IoSlice::new(replies.get(index).map_or(&[], Vec::as_slice))]
            });
            let none: [ControlMessage<'_>; 0] = [];
            let sent = sendmmsg(
                socket.as_raw_fd(),
                &mut self.sending,
                slices.iter(),
                to,
                none,
                MsgFlags::MSG_DONTWAIT,
            );
            match sent.map(Iterator::count) {
                Ok(count) if count > 0 => done += count,
                // The first of them is the one that cannot be sent.
                _ => {
                    failed += 1;
                    done += 1;
                }
            }
        }
        failed
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
        (_, Some(v6)) => Some(std::net::SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}
