//! DEL and GC: what was before is put back where the container still is, and forgotten.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_ledger::TuningRecord;
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, Key, fault, gc};

use crate::inside::Inside;
use crate::{backup, config};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<TuningRecord> = context.state.read(&key)?;
    give_back(context, &key, record.as_ref())
}

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

fn restore(netns: &Netns, key: &Key, backup: &backup::Backup) {
    let failures = match Inside::open(netns) {
        Ok(mut inside) => inside.restore(&key.interface, backup),
        Err(error) => vec![error],
    };
    for failure in failures {
        eprintln!("tuning: warning: {failure}");
    }
}

fn forget(context: &Context, key: &Key, path: &Path) -> Result<(), Error> {
    backup::remove(path)?;
    fault::point("tuning.forgotten")?;
    context.state.records_of::<TuningRecord>().remove(key)?;
    context.state.prune();
    Ok(())
}

/// Gives back for attachments of the network that are not valid any more. Without a list, only
/// those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    gc::collect(context, |key, record: Option<&TuningRecord>| {
        let Some(record) = record else {
            return Ok(());
        };
        if let Some(netns) = record.sandbox.open()
            && let Some(backup) = backup::read(&record.backup)?
        {
            restore(&netns, key, &backup);
        }
        forget(context, key, &record.backup)
    })
}
