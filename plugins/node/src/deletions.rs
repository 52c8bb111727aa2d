//! Deletions by other programs: what is gone of a tunnel is made again at once, and not with the next look.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use pontoon_netlink::{Group, Listener, Received, Reply};
use pontoon_overlay::tunnel::PROTOCOL;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Messages of linux/rtnetlink.h.
const RTM_DELLINK: u16 = 17;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;

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

    /// Waits until something of a tunnel is deleted, or more happened than can be told. `devices` are the numbers of the
    /// tunnels' devices.
    pub(crate) async fn wait(&mut self, devices: &RefCell<BTreeSet<u32>>) {
        loop {
            let Ok(mut guard) = self.socket.readable_mut().await else {
                // A listener that cannot be waited for: the timer does its work.
                return std::future::pending().await;
            };
            match guard.get_inner_mut().0.recv(std::time::Instant::now()) {
                Ok(Received::Messages(messages)) => {
                    let devices = devices.borrow();
                    if messages.iter().any(|it| is_of_a_tunnel(it, &devices)) {
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

/// Whether a message tells that something of a tunnel is gone. Most that goes on a host is of containers.
fn is_of_a_tunnel(message: &Reply, devices: &BTreeSet<u32>) -> bool {
    // `ifi_index` of `struct ifinfomsg` and `ndm_ifindex` of `struct ndmsg` lie at the same place.
    let number = || {
        let bytes = message.payload.get(4..8)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    match message.kind {
        RTM_DELLINK | RTM_DELNEIGH => number().is_some_and(|number| devices.contains(&number)),
        // `rtm_protocol` of `struct rtmsg`.
        RTM_DELROUTE => message.payload.get(5).is_some_and(|it| *it == PROTOCOL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: u16, payload: &[u8], expected: bool) {
        let message = Reply {
            kind,
            payload: payload.to_vec(),
        };
        assert_eq!(is_of_a_tunnel(&message, &[5].into()), expected);
    }

    #[test]
    fn only_what_is_of_a_tunnel_counts() {
        let route = |protocol| [2, 24, 0, 0, 254, protocol, 0, 1];
        check(RTM_DELROUTE, &route(PROTOCOL), true);
        check(RTM_DELROUTE, &route(2), false);
        let of_device = |number: u32| [[0; 4], number.to_ne_bytes()].concat();
        for kind in [RTM_DELLINK, RTM_DELNEIGH] {
            check(kind, &of_device(5), true);
            check(kind, &of_device(6), false);
            check(kind, b"", false);
        }
        // RTM_NEWLINK.
        check(16, &of_device(5), false);
    }
}
