//! The container's port of its bridge, on the host.

use pontoon_conf::{AddResult, Error};
use pontoon_netlink::{Link, RouteSocket};
use pontoon_plugin::kernel_error;

/// The port, by the result of the plugins before; `None` when the container is on no bridge.
///
/// # Errors
/// Code 100 when the kernel does not answer.
pub fn of(host: &mut RouteSocket, previous: &AddResult) -> Result<Option<Link>, Error> {
    let failed = |error| kernel_error("cannot look up the container's link on the host", error);
    // The veth comes after the bridge in every result that we know.
    let of_host = previous
        .interfaces
        .iter()
        .rev()
        .filter(|interface| interface.sandbox.as_deref().is_none_or(str::is_empty));
    for interface in of_host {
        let link = host.link_by_name(&interface.name).map_err(failed)?;
        if let Some(link) = link
            && link.kind.as_deref() == Some("veth")
            && link.master.is_some()
        {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Lets a port send a frame back to where it came from, which is the container's way to itself when bridged packets pass
/// netfilter. Whether that was changed.
///
/// # Errors
/// Code 100 when the kernel refuses.
pub fn reflect(host: &mut RouteSocket, port: &Link) -> Result<bool, Error> {
    if port.port.is_none_or(|flags| flags.hairpin) {
        return Ok(false);
    }
    host.set_hairpin(port.index, true).map_err(|error| {
        kernel_error(format!("cannot set hairpin mode of {}", port.name), error)
    })?;
    Ok(true)
}

/// Takes [`reflect`] back.
///
/// # Errors
/// Code 100 when the kernel refuses.
pub fn absorb(host: &mut RouteSocket, index: u32) -> Result<(), Error> {
    host.set_hairpin(index, false)
        .map_err(|error| kernel_error("cannot restore hairpin mode", error))
}
