//! DEL and GC: what was before is put back where the container still is, and forgotten.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, Key, Sandbox, fault};

use crate::add::Record;
use crate::inside::Inside;
use crate::{backup, config};

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let record: Option<Record> = context.state.records("tuning").read(&key);
    give_back(context, &key, record.as_ref())
}

/// Puts back and forgets. What cannot be put back is told and no error: a second DEL could not do
/// better, and the rest of the chain has to go.
pub(crate) fn give_back(
    context: &Context,
    key: &Key,
    record: Option<&Record>,
) -> Result<(), Error> {
    let path = match record {
        Some(record) => record.backup.clone(),
        // The reference plugin's work, or ours when the state directory was lost.
        None => backup::path(&config::data_dir(context), key),
    };
    let same = record.is_none_or(|record| record.sandbox == Sandbox::of(context));
    if let (Some(netns), Some(backup), true) = (context.netns_if_alive(), backup::read(&path), same)
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
    context.state.records("tuning").remove(key)?;
    context.state.prune();
    Ok(())
}

/// Gives back for attachments of the network that are not valid any more. Without a list, only
/// those whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("tuning");
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        let sandbox = record.as_ref().map(|record| &record.sandbox);
        if context.is_valid(&key, sandbox) {
            continue;
        }
        let done = match &record {
            None => records.remove(&key).map(drop),
            Some(record) => {
                if !record.sandbox.is_gone()
                    && let Ok(netns) = Netns::open(Path::new(&record.sandbox.path))
                    && let Some(backup) = backup::read(&record.backup)
                {
                    restore(&netns, &key, &backup);
                }
                forget(context, &key, &record.backup)
            }
        };
        result = result.and(done);
    }
    records.remove_drafts(&network);
    result
}
