//! The links of an attachment: those that it asks for, and those that others ask for to it.

use pontoon_attach::rules;
use pontoon_conf::{Error, KnownAs};
use pontoon_ledger::links::LinksIndex;
use pontoon_ledger::{FirewallRecord, Key, Lock};
use pontoon_netfilter::{Backend, Link, Ruleset};
use pontoon_plugin::{Context, fault, warn};

use crate::plan;

/// Which attachments a link to a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameMatch {
    /// Every attachment of the name: those that links may lead to already.
    All,
    /// The container whose id the name is, where there is one: no alias stands in for another's id.
    IdFirst,
}

/// Whether a name is the container's id, or its first twelve characters.
fn is_id(key: &Key, name: &KnownAs) -> bool {
    let id = key.container.to_ascii_lowercase();
    id == name.as_str() || id.get(..12) == Some(name.as_str())
}

/// The attachments that links to the name lead to.
fn named(index: &LinksIndex, name: &KnownAs, which: NameMatch) -> Result<Vec<Key>, Error> {
    let mut keys = index.named(name)?;
    if which == NameMatch::IdFirst && keys.iter().any(|key| is_id(key, name)) {
        keys.retain(|key| is_id(key, name));
    }
    Ok(keys)
}

/// The lock of the index.
pub(crate) fn lock(context: &Context) -> Result<Lock, Error> {
    let state = &context.state;
    let path = state.links_lock(context.config.name.as_ref());
    state.lock(&path, Lock::exclusive)
}

/// The index of the network that the verb is about. Its caller holds the lock.
pub(crate) fn index(context: &Context) -> LinksIndex {
    LinksIndex::of(&context.state, context.config.name.as_ref())
}

/// Every link that the attachment has a part in, and the names that no other attachment has yet.
pub(crate) fn of(
    context: &Context,
    index: &LinksIndex,
    key: &Key,
    record: &FirewallRecord,
    which: NameMatch,
) -> Result<(Vec<Link>, Vec<KnownAs>), Error> {
    let Some(bridge) = record.bridge.as_deref() else {
        return Ok((Vec::new(), Vec::new()));
    };
    let (mut links, mut waiting) = (Vec::new(), Vec::new());
    for request in &record.links {
        let mut found = records(context, named(index, &request.container, which)?)?;
        found.retain(|(other, _)| other != key);
        if found.is_empty() && !record.names.contains(&request.container) {
            waiting.push(request.container.clone());
        }
        for (_, other) in &found {
            let from = (key, &record.addresses[..]);
            links.extend(plan::links(bridge, from, request, &other.addresses));
        }
    }
    for name in &record.names {
        if which == NameMatch::IdFirst && !named(index, name, which)?.contains(key) {
            continue;
        }
        for (asking, other) in records(context, index.wished(name)?)? {
            if asking == *key {
                continue;
            }
            for request in other.links.iter().filter(|link| link.container == *name) {
                let from = (&asking, &other.addresses[..]);
                links.extend(plan::links(bridge, from, request, &record.addresses));
            }
        }
    }
    // One container may be meant by two of its names.
    let mut seen = std::collections::HashSet::new();
    links.retain(|link| seen.insert(link.clone()));
    Ok((links, waiting))
}

fn records(context: &Context, keys: Vec<Key>) -> Result<Vec<(Key, FirewallRecord)>, Error> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(record) = context.state.read(&key)? {
            found.push((key, record));
        }
    }
    Ok(found)
}

/// Makes the links that the attachment has a part in.
pub(crate) fn link(
    context: &Context,
    backend: &mut Backend,
    key: &Key,
    record: &FirewallRecord,
) -> Result<(), Error> {
    let _lock = lock(context)?;
    let index = index(context);
    index.enter(key, record)?;
    fault::point("firewall.entered")?;
    let (links, waiting) = of(context, &index, key, record, NameMatch::IdFirst)?;
    for name in waiting {
        warn(format_args!(
            "firewall: container {}: the link to \"{name}\" waits: no container of network {} has that name",
            key.container, key.network
        ));
    }
    if links.is_empty() {
        return Ok(());
    }
    backend
        .apply(&Ruleset {
            links,
            ..Ruleset::default()
        })
        .map(drop)
        .map_err(rules::error)
}

/// Takes the links that the attachment has a part in away again.
pub(crate) fn unlink(context: &Context, key: &Key, record: &FirewallRecord) -> Result<(), Error> {
    if record.separation.is_none() {
        return Ok(());
    }
    let _lock = lock(context)?;
    let index = index(context);
    let (links, _) = of(context, &index, key, record, NameMatch::All)?;
    if !links.is_empty() {
        let mut backend = rules::open(context, record.backend)?;
        let done = backend.withdraw(&Ruleset {
            links,
            ..Ruleset::default()
        });
        rules::close_in_detached_child(backend.into_sockets());
        done.map_err(rules::error)?;
    }
    index.remove(key, record)
}
