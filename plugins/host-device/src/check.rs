//! CHECK: the device is in the container, with its addresses and routes. STATUS: an ADD could
//! succeed.

use pontoon_attach::container_link::{self, Advertisements, differs, listed, same_mac};
use pontoon_attach::sockets;
use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_plugin::{Context, kernel_error};

use crate::config::Config;
use crate::{device, plan};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let (_, name) = context.attachment()?;
    if let Some(ipam) = &config.ipam {
        delegation::check(context, ipam)?;
    }
    let previous = context.required_prev_result()?;
    if device::is_userspace(&config.device) {
        return Ok(());
    }
    let mut inside = sockets::of_container(context.netns()?)?;
    let link = inside
        .link_by_name(name.as_ref())
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?
        .ok_or_else(|| {
            differs(format!(
                "Container Interface name in prevResult: {name} not found"
            ))
        })?;
    same_mac(&link, listed(previous, name.as_ref(), true))?;
    if plan::advertisements(&config) == Advertisements::Refuse {
        container_link::refuse_foreign_routes(&mut inside, &link, previous)?;
    }
    container_link::compare(&mut inside, &link, previous)
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    // The device may be in a container now: that it is away is no fault of the network.
    match &Config::from_context(context)?.ipam {
        None => Ok(()),
        Some(ipam) => delegation::status(context, ipam),
    }
}
