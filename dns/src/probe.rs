//! Which servers do not answer, seen from the network namespace of the caller.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// For how long all of them together are waited for.
pub const PATIENCE: Duration = Duration::from_millis(700);

/// Asks every server for the servers of the root, and returns those that say nothing at all. To be
/// run in the namespace that is asked about.
#[must_use]
pub fn silent(servers: &[IpAddr]) -> Vec<IpAddr> {
    const QUERY: &[u8] = &[0x50, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let ask = |server: &IpAddr| -> std::io::Result<UdpSocket> {
        let any = if server.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(*server, 53))?;
        socket.send(QUERY)?;
        Ok(socket)
    };
    let sockets: Vec<_> = servers
        .iter()
        .map(|server| (*server, ask(server)))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let answers = |socket: &UdpSocket| {
        // All were asked at once; the time of one is the time of all.
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let mut reply = [0; 512];
        socket.set_read_timeout(Some(left)).is_ok()
            && socket
                .recv(&mut reply)
                .is_ok_and(|length| length >= 12 && reply[..2] == QUERY[..2])
    };
    sockets
        .into_iter()
        .filter(|(_, socket)| !socket.as_ref().is_ok_and(answers))
        .map(|(server, _)| server)
        .collect()
}
