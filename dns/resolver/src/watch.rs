//! Readiness of descriptors, by tokio.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness can be waited for, and nothing but that: tokio's own UDP socket wakes its
/// program for every datagram that has left too.
pub(crate) fn watch<T: AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "`register` is unsafe, and what is given here keeps what that asks for: its descriptor stays open for as long as it lives"
    )]
    AsyncFd::with_interest(inner, interest)
}
