//! Setting the state of `lo`: up for ADD, down for an ADD that fails and for DEL.

use pontoon_attach::sockets;
use pontoon_conf::Error;
use pontoon_netlink::{Link, LinkChange, RouteSocket};
use pontoon_plugin::{Context, kernel_error};

use crate::error::UpError;

/// A socket of the container's namespace, and its loopback interface.
pub(crate) fn open(context: &Context) -> Result<(RouteSocket, Link), Error> {
    let netns = context.netns()?;
    let mut inside = sockets::of_container(netns)?;
    let link = inside
        .link_by_name("lo")
        .map_err(|error| kernel_error("cannot look up lo in the container", error))?
        .ok_or(UpError::Missing)?;
    Ok((inside, link))
}

/// Sets the state of the loopback interface.
pub(crate) fn set(inside: &mut RouteSocket, link: &Link, up: bool) -> Result<(), Error> {
    let change = LinkChange {
        up: Some(up),
        ..LinkChange::default()
    };
    inside
        .set_link(link.index, &change)
        .map_err(|error| kernel_error("cannot change the state of lo in the container", error))
}
