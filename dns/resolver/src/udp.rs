//! Questions over UDP: a task for each gateway.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::rc::Rc;

use tokio::io::unix::AsyncFd;

use super::batch::Batch;
use super::client::{Client, PacketOutcome};
use super::state::Daemon;

/// Serves a socket for as long as its address is a gateway.
pub(crate) async fn serve(daemon: Rc<Daemon>, socket: Rc<AsyncFd<UdpSocket>>, gateway: IpAddr) {
    loop {
        let Ok(mut guard) = socket.readable().await else {
            return;
        };
        if take_in(&daemon, &socket, gateway) {
            // Forwarded questions, connections and commands get their turn after every batch.
            tokio::task::yield_now().await;
        } else {
            // What comes from now on makes it ready again.
            guard.clear_ready();
        }
    }
}

/// One batch: what has come is answered. Whether there may be more.
fn take_in(daemon: &Rc<Daemon>, socket: &Rc<AsyncFd<UdpSocket>>, gateway: IpAddr) -> bool {
    let mut batch = daemon.batch.borrow_mut();
    match batch.receive(socket.get_ref(), gateway.is_ipv4()) {
        Ok(more) => {
            answer(daemon, &mut batch, socket, gateway);
            more
        }
        // An error that a reply before has met: the next look tells.
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

fn answer(
    daemon: &Rc<Daemon>,
    batch: &mut Batch,
    socket: &Rc<AsyncFd<UdpSocket>>,
    gateway: IpAddr,
) {
    let begun = daemon.begin_turn();
    let mut replies = std::mem::take(&mut batch.replies);
    for index in 0..batch.arrived.len() {
        let (length, from) = batch.arrived[index];
        let packet = batch.packet(index, length);
        let Some(out) = replies.get_mut(batch.to.len()) else {
            break;
        };
        let client = || Client::Udp(Rc::clone(socket), from);
        if daemon.answer(packet, from, Some(gateway), client, out) == PacketOutcome::Reply {
            batch.to.push(Some(from.into()));
        }
    }
    batch.replies = replies;
    let failed = batch.send(socket.get_ref());
    let mut stats = daemon.stats.borrow_mut();
    stats.udp_queries += batch.arrived.len() as u64;
    stats.send_failures += failed;
    drop(stats);
    daemon.end_turn(begun);
}
