//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_conf::Error;
use pontoon_ledger::{Key, NoneRecord};
use pontoon_netlink::{LinkChange, Netns, RouteSocket};
use pontoon_plugin::{Context, fault, kernel_error};

pub(crate) fn remove(
    context: &Context,
    key: &Key,
    record: Option<&NoneRecord>,
) -> Result<(), Error> {
    if let Some(record) = record.filter(|record| !record.was_up)
        && let Some(netns) = record.sandbox.open()?
    {
        set(&netns, false)?;
    }
    fault::point("none.down")?;
    context.state.records_of::<NoneRecord>().remove(key)?;
    Ok(())
}

/// Sets the state of the loopback interface.
pub(crate) fn set(netns: &Netns, up: bool) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot change the state of lo in the container", error);
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    let Some(link) = inside.link_by_name("lo").map_err(failed)? else {
        return Ok(());
    };
    let change = LinkChange {
        up: Some(up),
        ..LinkChange::default()
    };
    inside.set_link(link.index, &change).map_err(failed)
}
