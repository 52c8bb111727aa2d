//! Clients that ask over TCP: bounded in number, in questions at a time, and in idle time.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Client, PacketOutcome};
use super::connections::Client as Counted;
use super::framing::{frame, queue};
use super::state::Daemon;

/// Most questions of one connection under way.
const PENDING: usize = 16;
/// Bytes of replies that may wait for a client who does not read.
const UNREAD: usize = 256 * 1024;
/// Bytes of questions that are taken in before those before them are answered.
const UNANSWERED: usize = 128 * 1024;
/// For how long a connection may say nothing complete (RFC 7766 section 6.2.3 wants seconds).
const IDLE: Duration = Duration::from_secs(10);
/// For how long no connection is accepted when there is no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as the address is a gateway. Those that are there stay.
pub(crate) async fn serve(daemon: Rc<Daemon>, listener: TcpListener, gateway: IpAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let whose = Counted::of(&daemon.zone.borrow(), peer.ip(), gateway);
                if !daemon.connections.borrow_mut().enter(&whose) {
                    daemon.stats.borrow_mut().over_limit += 1;
                    continue;
                }
                let daemon = Rc::clone(&daemon);
                tokio::task::spawn_local(async move {
                    converse(&daemon, stream, peer).await;
                    daemon.connections.borrow_mut().leave(&whose);
                });
            }
            // A connection that cannot be accepted stays ready: asking at once would be all we do.
            Err(_) => {
                daemon.stats.borrow_mut().over_limit += 1;
                sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, until its end.
async fn converse(daemon: &Rc<Daemon>, mut stream: TcpStream, peer: SocketAddr) {
    let (mut reader, mut writer) = stream.split();
    let (sender, mut replies) = mpsc::channel::<Vec<u8>>(PENDING);
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut buffer = Vec::with_capacity(4096);
    let (mut pending, mut ended) = (0usize, false);
    let mut active = Instant::now();
    loop {
        while pending < PENDING && output.len() <= UNREAD {
            let Some(message) = frame(&mut input) else {
                break;
            };
            active = Instant::now();
            let begun = daemon.begin_turn();
            daemon.stats.borrow_mut().tcp_queries += 1;
            let client = || Client::Tcp(sender.clone());
            let outcome = daemon.answer(&message, peer, None, client, &mut buffer);
            daemon.end_turn(begun);
            match outcome {
                PacketOutcome::Reply => queue(&mut output, &buffer),
                PacketOutcome::Pending => pending += 1,
                // Who sends no DNS over this stream has nothing to hope for.
                PacketOutcome::Dropped => return,
            }
            buffer.clear();
        }
        if ended && pending == 0 && output.is_empty() {
            return;
        }
        let reading =
            !ended && pending < PENDING && output.len() <= UNREAD && input.len() < UNANSWERED;
        tokio::select! {
            got = reader.read_buf(&mut input), if reading => match got {
                Ok(0) => ended = true,
                Ok(_) => {}
                Err(_) => return,
            },
            sent = writer.write(&output), if !output.is_empty() => match sent {
                Ok(count) if count > 0 => drop(output.drain(..count)),
                _ => return,
            },
            reply = replies.recv(), if pending > 0 => {
                pending -= 1;
                active = Instant::now();
                if let Some(reply) = reply {
                    queue(&mut output, &reply);
                }
            }
            () = sleep_until(active + IDLE), if pending == 0 => return,
        }
    }
}
