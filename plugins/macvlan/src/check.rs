//! CHECK: the link is there, of the right mode, with its addresses and routes. STATUS: an ADD could
//! succeed.

use pontoon_attach::container_link::{self, differs, listed, same_mac};
use pontoon_attach::sockets;
use pontoon_conf::{Error, code};
use pontoon_ipam::delegation;
use pontoon_plugin::{Context, kernel_error};

use crate::add;
use crate::config::{Config, Mode};
use crate::error::NoPrevResult;
use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let (_, name) = context.attachment()?;
    if let Some(ipam) = &config.ipam {
        delegation::check(context, ipam)?;
    }
    let previous = context.config.prev_result.as_ref().ok_or(NoPrevResult)?;
    let (_, master) =
        add::master(context, &config).map_err(|error| error.with_code(code::CHECK_FAILED))?;
    let mut inside = sockets::of_container(context.netns()?)?;
    let link = inside
        .link_by_name(name.as_ref())
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?
        .ok_or_else(|| differs(format!("{name} is gone from the container")))?;
    if link.kind.as_deref() != Some("macvlan") {
        return Err(differs(format!(
            "error: Container interface {name} not of type macvlan"
        )));
    }
    if link.peer != Some(master.index) {
        return Err(differs(format!("{name} is not on {}", master.name)));
    }
    let mode = link.macvlan_mode.unwrap_or_default();
    if mode != config.mode as u32 {
        return Err(differs(format!(
            "container macvlan mode {} does not match expected value: {}",
            Mode::name(mode),
            Mode::name(config.mode as u32)
        )));
    }
    if let Some(mtu) = plan::mtu(config.mtu, master.mtu)?.filter(|mtu| *mtu != link.mtu) {
        return Err(differs(format!("{name} has MTU {}, not {mtu}", link.mtu)));
    }
    same_mac(&link, listed(previous, name.as_ref(), true))?;
    if !config.accept_ra {
        container_link::refuse_foreign_routes(&mut inside, &link, previous)?;
    }
    container_link::compare(&mut inside, &link, previous)
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    // A master in the container comes with the container.
    if !config.link_in_container {
        let unavailable = |error: Error| error.with_code(code::NOT_AVAILABLE);
        let (_, master) = add::master(context, &config).map_err(unavailable)?;
        plan::mtu(config.mtu, master.mtu)?;
    }
    match &config.ipam {
        None => Ok(()),
        Some(ipam) => delegation::status(context, ipam),
    }
}
