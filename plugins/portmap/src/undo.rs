//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::{backends, bridge_port, sockets};
use pontoon_conf::Error;
use pontoon_ledger::{Key, Lock, PortmapRecord};
use pontoon_netlink::sysctl;
use pontoon_plugin::{Context, fault};

use crate::error::LoopbackError;
use crate::share::remove_locked;

/// A step that has been done.
#[derive(Debug)]
pub(crate) enum Step {
    /// From here on, removing the attachment undoes everything.
    Record(Box<PortmapRecord>),
    Hairpin(u32),
    RouteLocalnet(String),
}

pub(crate) fn revert(context: &Context, key: &Key, step: Step) -> Result<(), Error> {
    match step {
        Step::Record(record) => remove(context, key, &record),
        Step::Hairpin(index) => bridge_port::absorb(&mut sockets::of_host()?, index),
        Step::RouteLocalnet(path) => {
            // Other containers of the bridge may need it by now.
            if context.state.records_of::<PortmapRecord>().any() {
                return Ok(());
            }
            sysctl::write_if_different(&path, "0")
                .map(drop)
                .map_err(|source| LoopbackError::NotRestored { path, source }.into())
        }
    }
}

/// Removes an attachment's ports.
pub(crate) fn remove(context: &Context, key: &Key, record: &PortmapRecord) -> Result<(), Error> {
    {
        let _ports = context
            .state
            .lock(&context.state.ports_lock(), Lock::exclusive)?;
        remove_locked(context, key, record)?;
    }
    fault::point("portmap.removed")?;
    retire(context)
}

/// Removes what all networks share, if this was the last user of it.
pub(crate) fn retire(context: &Context) -> Result<(), Error> {
    if !context.state.records_of::<PortmapRecord>().any()
        && let Ok(ports) = Lock::exclusive(&context.state.ports_lock())
    {
        ports.remove();
    }
    backends::retire(context, "portmap")
}
