//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::rebind;
use pontoon_conf::Error;
use pontoon_ledger::{ContainerRecord, Key};
use pontoon_plugin::{Context, fault};

use crate::files;

pub(crate) fn remove(
    context: &Context,
    key: &Key,
    record: Option<&ContainerRecord>,
) -> Result<(), Error> {
    if let Some(record) = record {
        files::remove(&record.files)?;
    }
    if let Some(rebind) = record.and_then(|record| record.rebind.as_ref()) {
        rebind::restore(rebind)?;
    }
    fault::point("container.restored")?;
    context.state.records_of::<ContainerRecord>().remove(key)?;
    Ok(())
}
