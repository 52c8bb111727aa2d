//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_conf::Error;
use pontoon_ledger::{Key, MacvlanRecord};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, kernel_error};

use crate::plan::temporary_name;

/// Removes the attachment's link, under its final name or its temporary one. One with the note of
/// another attachment stays; the reference plugin writes none.
pub(crate) fn remove(inside: &mut RouteSocket, key: &Key) -> Result<(), Error> {
    for name in [key.interface.clone(), temporary_name(key)] {
        let failed =
            |error| kernel_error(format!("cannot remove {name} from the container"), error);
        let found = inside.link_by_name(&name).map_err(failed)?;
        let Some(link) = found.filter(|link| link.kind.as_deref() == Some("macvlan")) else {
            continue;
        };
        if key.may_own(&link) {
            inside.delete_link(link.index).map_err(failed)?;
        }
    }
    Ok(())
}

pub(crate) fn forget(context: &Context, key: &Key) -> Result<(), Error> {
    let records = context.state.records_of::<MacvlanRecord>();
    records.remove(key).map(drop)
}
