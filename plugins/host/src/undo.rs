//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::rebind;
use pontoon_conf::Error;
use pontoon_ledger::{HostRecord, Key};
use pontoon_plugin::{Context, fault};

pub(crate) fn remove(
    context: &Context,
    key: &Key,
    record: Option<&HostRecord>,
) -> Result<(), Error> {
    if let Some(rebind) = record.and_then(|record| record.rebind.as_ref()) {
        rebind::restore(rebind)?;
    }
    fault::point("host.restored")?;
    context.state.records_of::<HostRecord>().remove(key)?;
    Ok(())
}
