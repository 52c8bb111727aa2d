//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::{backends, bridge_port, rules, sockets};
use pontoon_conf::Error;
use pontoon_ledger::{DnsRecord, Key, Lock, OpeningsRecord, ResolverRecord};
use pontoon_netfilter::Ruleset;
use pontoon_plugin::{Context, fault, warn};

use crate::{files, resolver};

/// A step that has been done.
#[derive(Debug)]
pub(crate) enum Step {
    Record(Box<DnsRecord>),
    Files(Option<String>),
    Hairpin(u32),
}

pub(crate) fn revert(context: &Context, key: &Key, step: Step) -> Result<(), Error> {
    match step {
        Step::Record(entry) => forget(context, key, Some(&entry)),
        Step::Hairpin(index) => bridge_port::absorb(&mut sockets::of_host()?, index),
        Step::Files(netns) => Ok(files::remove(context, key, netns.as_deref())?),
    }
}

/// Removes everything of an attachment. The record goes after the files, of which only it tells, and before the
/// network's rules, which have a note of their own: whatever is left can be found again.
pub(crate) fn remove(context: &Context, key: &Key, entry: Option<&DnsRecord>) -> Result<(), Error> {
    let etc_netns = entry.and_then(|entry| entry.etc_netns.as_deref());
    files::remove(context, key, etc_netns)?;
    fault::point("dns.unwritten")?;
    forget(context, key, entry)
}

/// Removes the record, waits until the resolver knows, and removes the network's rules with the last
/// one.
pub(crate) fn forget(context: &Context, key: &Key, entry: Option<&DnsRecord>) -> Result<(), Error> {
    context.state.records_of::<DnsRecord>().remove(key)?;
    fault::point("dns.forgotten")?;
    if entry.is_some()
        && let Err(error) = resolver::sync(context, key)
    {
        // It follows the directory, and will see it when it wakes up.
        warn(format_args!("dns: warning: {error}"));
    }
    retire(context, &key.network)
}

/// Removes the rules of a network without records, and what all networks share when nothing needs it.
pub(crate) fn retire(context: &Context, network: &str) -> Result<(), Error> {
    remove_redirection(context, network)?;
    resolver::remove_remains(context);
    backends::retire(context, "dns")
}

pub(crate) fn remove_redirection(context: &Context, network: &str) -> Result<(), Error> {
    let state = &context.state;
    let records = state.records_of::<DnsRecord>();
    if records.has_network(network) || !state.has_network::<ResolverRecord>(network) {
        return Ok(());
    }
    let lock = state.lock(&state.resolver_lock(network), Lock::exclusive)?;
    if records.has_network(network) {
        // An ADD came in between.
        return Ok(());
    }
    let made: Option<ResolverRecord> = state.read_network(network)?;
    for (kind, resolver) in made.unwrap_or_default().resolvers {
        let ruleset = Ruleset {
            resolver: Some(resolver),
            ..Ruleset::default()
        };
        rules::withdraw(context, kind, &ruleset)?;
    }
    let made: Option<OpeningsRecord> = state.read_network(network)?;
    for (kind, opening) in made.unwrap_or_default().openings {
        let ruleset = Ruleset {
            opening: Some(opening),
            ..Ruleset::default()
        };
        rules::withdraw(context, kind, &ruleset)?;
    }
    state.remove_network::<OpeningsRecord>(network)?;
    state.remove_network::<ResolverRecord>(network)?;
    lock.remove();
    // The resolver's own directory, when it is gone already.
    let _ = std::fs::remove_dir(state.dir().join("dns"));
    Ok(())
}
