//! DEL and GC: the names go first, then what led to them.

use pontoon_conf::Error;
use pontoon_ledger::{DnsRecord, Key, Lock, OpeningsRecord, ResolverRecord};
use pontoon_netfilter::{BackendKind, Resolver, Ruleset};
use pontoon_plugin::{Context, backends, fault, gc, rules};

use crate::{files, resolver};

/// Notes a rule that is about to be made.
/// Tells whether it is the network's first.
pub(crate) fn note(context: &Context, kind: BackendKind, wanted: &Resolver) -> Result<bool, Error> {
    let known: Option<ResolverRecord> = context.state.read_network(&wanted.network)?;
    let known = known.unwrap_or_default();
    let mut made = known.clone();
    replace(&mut made.resolvers, kind, wanted);
    if made != known {
        context.state.write_network(&wanted.network, &made)?;
    }
    Ok(known.resolvers.is_empty())
}

/// Makes `wanted` the last: the one in force. What it replaces in the kernel, the way from the same
/// gateways, goes from the others.
fn replace(made: &mut Vec<(BackendKind, Resolver)>, kind: BackendKind, wanted: &Resolver) {
    for (_, old) in made.iter_mut().filter(|(known, _)| *known == kind) {
        old.gateways.retain(|old| !wanted.gateways.contains(old));
    }
    made.retain(|(known, old)| *known != kind || !old.gateways.is_empty());
    made.push((kind, wanted.clone()));
}

/// The port of the resolver that a network's questions are led to, as noted.
pub(crate) fn noted_port(context: &Context, network: &str) -> Result<Option<u16>, Error> {
    let made: Option<ResolverRecord> = context.state.read_network(network)?;
    Ok(made.and_then(|made| Some(made.resolvers.last()?.1.port)))
}

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    let entry: Option<DnsRecord> = context.state.read(&key)?;
    remove(context, &key, entry.as_ref())
}

/// Removes everything of an attachment. The record goes last but for the network's rules, which have
/// a note of their own: whatever is left can be found again.
fn remove(context: &Context, key: &Key, entry: Option<&DnsRecord>) -> Result<(), Error> {
    let etc_netns = entry.and_then(|entry| entry.etc_netns.as_deref());
    let first = files::remove(context, key, etc_netns);
    let second = fault::point("dns.unwritten").and_then(|()| forget(context, key, entry));
    context.state.prune();
    first.and(second)
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
        eprintln!("dns: warning: {error}");
    }
    retire(context, &key.network)
}

/// Removes the rules of a network without records, and what all networks share when nothing needs it.
fn retire(context: &Context, network: &str) -> Result<(), Error> {
    remove_redirection(context, network)?;
    backends::retire(context, "dns")
}

fn remove_redirection(context: &Context, network: &str) -> Result<(), Error> {
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

/// Removes the names of attachments that are not valid any more. Without a list, only of those whose
/// namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record| remove(context, key, record));
    result.and(retire(context, context.config.name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_way_to_the_resolver_is_the_one_in_force() {
        let way = |gateway: &str, port| Resolver {
            network: "net".to_owned(),
            gateways: vec![gateway.parse().unwrap()],
            port,
        };
        let kind = BackendKind::Nftables;
        let mut made = Vec::new();
        for port in [1, 2, 1, 1] {
            replace(&mut made, kind, &way("10.1.0.1", port));
            assert_eq!(made, [(kind, way("10.1.0.1", port))]);
        }
        replace(&mut made, kind, &way("10.2.0.1", 1));
        replace(&mut made, BackendKind::IptablesNft, &way("10.1.0.1", 1));
        assert_eq!(made.len(), 3);
    }
}
