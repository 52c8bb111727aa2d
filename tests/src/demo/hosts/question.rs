//! A question of DNS, so that a machine without `dig` can show its names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Bytes of the header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// Bytes of type and class behind a name.
const TYPE_AND_CLASS: usize = 4;
/// What stands before the data of an answer whose name is a pointer: pointer, type, class, TTL, length.
const BEFORE_DATA: usize = 12;
const NO_SUCH_NAME: u8 = 3;

/// Asks a server for the IPv4 address of a name, from the namespace of the calling thread. `None` when there is no
/// such name.
pub(super) fn address_of(server: IpAddr, name: &str, wait: Duration) -> io::Result<Option<IpAddr>> {
    let mut question = vec![0x50, 0x54, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap_or_default());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(wait))?;
    socket.connect((server, 53))?;
    socket.send(&question)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    answer(&reply[..length], name)
}

fn answer(reply: &[u8], name: &str) -> io::Result<Option<IpAddr>> {
    let strange = || io::Error::from(io::ErrorKind::InvalidData);
    match reply.get(3).ok_or_else(strange)? & 0xf {
        0 => {}
        NO_SUCH_NAME => return Ok(None),
        _ => return Err(strange()),
    }
    // The name is labels, each with its length, and the root's.
    let at = HEADER + name.len() + 2 + TYPE_AND_CLASS + BEFORE_DATA;
    let data = reply.get(at..at + 4).ok_or_else(strange)?;
    let data: [u8; 4] = data.try_into().map_err(|_| strange())?;
    Ok(Some(Ipv4Addr::from(data).into()))
}
