//! DEL and GC: the names go first, then what led to them.

use pontoon_conf::Error;
use pontoon_netfilter::{BackendKind, Resolver, Ruleset};
use pontoon_plugin::{Context, Key, Lock, Records, State, backends, beside, fault, repair, rules};
use serde::{Deserialize, Serialize};

use crate::add::Entry;
use crate::{files, resolver};

/// Where the records lie that the resolver reads.
pub(crate) fn records(context: &Context) -> Records {
    context.state.records("dns/records")
}

/// What was made for a network as a whole.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made(Vec<(BackendKind, Resolver)>);

/// Notes about networks, beside those of other plugins.
fn notes(context: &Context) -> State {
    beside::names(&context.state)
}

/// Notes a rule that is about to be made.
/// Tells whether it is the network's first.
pub(crate) fn note(context: &Context, kind: BackendKind, wanted: &Resolver) -> Result<bool, Error> {
    let notes = notes(context);
    let mut made: Made = notes.read_network(&wanted.network).unwrap_or_default();
    let first = made.0.is_empty();
    let entry = (kind, wanted.clone());
    if made.0.contains(&entry) {
        return Ok(false);
    }
    made.0.push(entry);
    notes.write_network(&wanted.network, &made)?;
    Ok(first)
}

/// The port of the resolver that a network's questions are led to, as noted.
pub(crate) fn noted_port(context: &Context, network: &str) -> Option<u16> {
    let made: Made = notes(context).read_network(network)?;
    Some(made.0.last()?.1.port)
}

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let entry: Option<Entry> = records(context).read(&key);
    remove(context, &key, entry.as_ref())
}

/// Removes everything of an attachment. The record goes last but for the network's rules, which have
/// a note of their own: whatever is left can be found again.
fn remove(context: &Context, key: &Key, entry: Option<&Entry>) -> Result<(), Error> {
    let etc_netns = entry.and_then(|entry| entry.etc_netns.as_deref());
    let first = files::remove(context, key, etc_netns);
    let second = fault::point("dns.unwritten").and_then(|()| forget(context, key, entry));
    context.state.prune();
    first.and(second)
}

/// Removes the record, waits until the resolver knows, and removes the network's rules with the last
/// one.
pub(crate) fn forget(context: &Context, key: &Key, entry: Option<&Entry>) -> Result<(), Error> {
    records(context).remove(key)?;
    fault::point("dns.forgotten")?;
    if entry.is_some()
        && let Err(error) = resolver::sync(context, key)
    {
        // It follows the directory, and will see it when it wakes up.
        eprintln!("dns: warning: {error}");
    }
    retire(context, &key.network)
}

/// Removes the rules of a network without records, and what all networks share when nothing needs it.
fn retire(context: &Context, network: &str) -> Result<(), Error> {
    unlead(context, network)?;
    backends::retire(context, "dns")
}

fn unlead(context: &Context, network: &str) -> Result<(), Error> {
    let notes = notes(context);
    if records(context).has_network(network) || notes.read_network::<Made>(network).is_none() {
        return Ok(());
    }
    let lock = context.state.lock(
        &repair::resolver_lock(&context.state, network),
        Lock::exclusive,
    )?;
    if records(context).has_network(network) {
        // An ADD came in between.
        return Ok(());
    }
    let made: Made = notes.read_network(network).unwrap_or_default();
    for (kind, resolver) in made.0 {
        let ruleset = Ruleset {
            resolver: Some(resolver),
            ..Ruleset::default()
        };
        rules::withdraw(context, kind, &ruleset)?;
    }
    for (kind, opening) in beside::openings(&context.state, network) {
        let ruleset = Ruleset {
            opening: Some(opening),
            ..Ruleset::default()
        };
        rules::withdraw(context, kind, &ruleset)?;
    }
    notes.remove_policy(network)?;
    notes.remove_network(network)?;
    lock.remove();
    // The resolver's own directory, when it is gone already.
    let _ = std::fs::remove_dir(context.state.dir().join("dns"));
    Ok(())
}

/// Removes the names of attachments that are not valid any more. Without a list, only of those whose
/// namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = records(context);
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let entry: Option<Entry> = records.read(&key);
        if context.is_valid(&key, entry.as_ref().map(|entry| &entry.sandbox)) {
            continue;
        }
        result = result.and(remove(context, &key, entry.as_ref()));
    }
    records.remove_drafts(&network);
    result.and(retire(context, &network))
}
