//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_ledger::{Key, TuningRecord};
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, fault, warn};

use crate::inside::ContainerAccess;
use crate::{backup, config};

/// Puts back and forgets. What cannot be put back is told and no error: a second DEL could not do
/// better, and the rest of the chain has to go.
pub(crate) fn give_back(
    context: &Context,
    key: &Key,
    record: Option<&TuningRecord>,
) -> Result<(), Error> {
    let path = match record {
        Some(record) => record.backup.clone(),
        // The reference plugin's work, or ours when the state directory was lost.
        None => backup::path(&config::data_dir(context), key),
    };
    let same = record.is_none_or(|record| record.sandbox == context.sandbox());
    if let (Some(netns), true) = (context.netns_if_alive(), same)
        && let Some(backup) = backup::read(&path)?
    {
        restore(netns, key, &backup);
    }
    fault::point("tuning.restored")?;
    forget(context, key, &path)
}

pub(crate) fn restore(netns: &Netns, key: &Key, backup: &backup::Backup) {
    let put_back = || match ContainerAccess::open(netns) {
        Ok(mut inside) => inside.restore(&key.interface, backup),
        Err(error) => vec![error],
    };
    let mut failures = put_back();
    if !failures.is_empty() {
        // A machine that was out of something for a moment may have it now. What is put back already
        // stays.
        failures = put_back();
    }
    for failure in failures {
        warn(format_args!("tuning: warning: {failure}"));
    }
}

pub(crate) fn forget(context: &Context, key: &Key, path: &Path) -> Result<(), Error> {
    backup::remove(path)?;
    fault::point("tuning.forgotten")?;
    context.state.records_of::<TuningRecord>().remove(key)?;
    Ok(())
}
