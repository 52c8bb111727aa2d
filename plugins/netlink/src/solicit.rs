//! Asking routers to advertise themselves (RFC 4861, section 4.1). The kernel asks when a link comes up, and not when an
//! administrator lets it listen again.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
};

const ROUTER_SOLICITATION: u8 = 133;
/// Routers take a solicitation only with this hop limit: it has not been forwarded then.
const HOPS: libc::c_int = 255;
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Sends a router solicitation out of a link of the calling thread's namespace. Its answer is an advertisement, which
/// the kernel treats as any other.
///
/// # Errors
/// Those of the raw socket (packet(7), ipv6(7)).
pub fn solicit_routers(index: u32) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Inet6,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::IcmpV6,
    )?;
    let hops = HOPS;
    // SAFETY: the option reads one integer, which lives until the call returns.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_HOPS,
            (&raw const hops).cast(),
            size_of_val(&hops) as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // The kernel fills in the checksum.
    let message = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    let routers = SockaddrIn6::from(SocketAddrV6::new(ALL_ROUTERS, 0, 0, index));
    sendto(socket.as_raw_fd(), &message, &routers, MsgFlags::empty())?;
    Ok(())
}
