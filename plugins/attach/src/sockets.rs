//! Route sockets, with the error that the runtime should see.

use pontoon_conf::Error;
use pontoon_netlink::{Netns, RouteSocket};
use pontoon_plugin::kernel_error;

/// A route socket of the namespace that the plugin runs in.
///
/// # Errors
/// Code 100 when it cannot be opened.
pub fn of_host() -> Result<RouteSocket, Error> {
    RouteSocket::open().map_err(|error| kernel_error("cannot open a route socket", error))
}

/// A route socket of the container's namespace.
///
/// # Errors
/// Code 100 when it cannot be opened.
pub fn of_container(netns: &Netns) -> Result<RouteSocket, Error> {
    RouteSocket::open_in(netns)
        .map_err(|error| kernel_error("cannot open a route socket in the container", error))
}
