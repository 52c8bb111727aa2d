//! Datagrams by the dozen: one system call takes in what has come, another one sends the replies.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::daemon::{Daemon, Fate};
use super::forward::Client;

/// Datagrams of one socket that are answered before others get their turn.
const MOST: usize = 64;
/// Bytes of a query that are looked at: a name, a question and some options have some hundred.
const LONGEST: usize = 4096;

/// Room for what comes and what goes.
pub(crate) struct Batch {
    input: Box<[u8]>,
    arrived: Vec<(usize, SocketAddr)>,
    /// The kernel writes the length of an address where it has read how much room there is: one set
    /// of headers for each family.
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
    replies: Vec<Vec<u8>>,
    to: Vec<Option<SockaddrStorage>>,
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
        }
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has.
    fn receive(&mut self, socket: &UdpSocket, v4: bool) -> io::Result<()> {
        self.arrived.clear();
        self.to.clear();
        let mut chunks = self.input.chunks_exact_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let headers = if v4 { &mut self.v4 } else { &mut self.v6 };
        let got = recvmmsg(
            socket.as_raw_fd(),
            headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        for message in got {
            // Whoever has no address gets no reply, but the place in the row counts.
            let from = message.address.as_ref().and_then(address);
            let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
            self.arrived.push((message.bytes, from.unwrap_or(nobody)));
        }
        Ok(())
    }

    /// Sends all replies; returns how many the kernel did not take.
    fn send(&mut self, socket: &UdpSocket) -> u64 {
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

/// Serves a socket for as long as its address is a gateway.
pub(crate) async fn serve(daemon: Rc<Daemon>, socket: Rc<UdpSocket>, gateway: IpAddr) {
    loop {
        if socket.readable().await.is_err() {
            return;
        }
        take_in(&daemon, &socket, gateway);
        // Forwarded questions, connections and commands get their turn after every batch.
        tokio::task::yield_now().await;
    }
}

/// One batch: what has come is answered.
fn take_in(daemon: &Rc<Daemon>, socket: &Rc<UdpSocket>, gateway: IpAddr) {
    let mut batch = daemon.batch.borrow_mut();
    let got = socket.try_io(Interest::READABLE, || {
        batch.receive(socket, gateway.is_ipv4())
    });
    if got.is_ok() {
        answer(daemon, &mut batch, socket, gateway);
    }
}

fn answer(daemon: &Rc<Daemon>, batch: &mut Batch, socket: &Rc<UdpSocket>, gateway: IpAddr) {
    let begun = daemon.begin_turn();
    let mut replies = std::mem::take(&mut batch.replies);
    for index in 0..batch.arrived.len() {
        let (length, from) = batch.arrived[index];
        let start = index * LONGEST;
        let packet = &batch.input[start..start + length.min(LONGEST)];
        let Some(out) = replies.get_mut(batch.to.len()) else {
            break;
        };
        let client = || Client::Udp(Rc::clone(socket), from);
        if daemon.answer(packet, from, Some(gateway), client, out) == Fate::Reply {
            batch.to.push(Some(from.into()));
        }
    }
    batch.replies = replies;
    let failed = batch.send(socket);
    let mut stats = daemon.stats.borrow_mut();
    stats.udp_queries += batch.arrived.len() as u64;
    stats.send_failures += failed;
    drop(stats);
    daemon.end_turn(begun);
}
