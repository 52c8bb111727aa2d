//! The rules that a network has once, however many containers it has: made by the first ADD, gone a
//! second after the last DEL. What `bridge` and `ptp` share; each has its attachments in records of
//! its own.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pontoon_conf::Error;
use pontoon_ledger::{NetworkPolicyRecord, NetworkRecord};
use pontoon_netfilter::{Backend, BackendKind, NetworkRules, Reach, Ruleset};
use pontoon_netlink::DetachedChild;
use pontoon_plugin::Context;

use crate::{backends, policy, rules};

/// For how long a network without containers keeps its rules.
const GRACE: Duration = Duration::from_secs(1);

/// Rules, and the backend that makes them.
pub type Rules = (BackendKind, NetworkRules);

/// A ruleset of nothing else.
#[must_use]
pub fn ruleset(network: &NetworkRules) -> Ruleset {
    Ruleset {
        network: Some(network.clone()),
        ..Ruleset::default()
    }
}

/// Notes which rules are about to be made before they are, so that the last DEL knows.
///
/// # Errors
/// Code 5 when it cannot be written.
pub fn note(
    context: &Context,
    rules: Option<&Rules>,
    internal: bool,
    reach: Option<&Reach>,
) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    let known: Option<NetworkRecord> = context.state.read_network(network)?;
    let mut made = known.clone().unwrap_or_default();
    if let Some((kind, rules)) = rules {
        replace(&mut made.rules, *kind, rules);
    }
    made.internal = internal;
    made.reach = reach.cloned();
    if known.unwrap_or_default() == made {
        return Ok(());
    }
    context.state.write_network(network, &made)
}

/// Makes `new` the last of the sets that were made by a backend: the one in force. What it has replaced in
/// the kernel goes from the others, so that the sets can be made again in their order; what it has not, such
/// as a subnet of before, stays noted until it is withdrawn.
fn replace(sets: &mut Vec<Rules>, backend: BackendKind, new: &NetworkRules) {
    for (_, old) in sets.iter_mut().filter(|(kind, _)| *kind == backend) {
        old.egress
            .retain(|old| new.egress.iter().all(|new| new.subnet != old.subnet));
    }
    sets.retain(|(kind, old)| {
        *kind != backend || !old.egress.is_empty() || old.bridge != new.bridge
    });
    sets.push((backend, new.clone()));
}

/// What is noted of a network: whether it is internal, and whether packets that leave it are
/// masqueraded. `None` when there is no note.
///
/// # Errors
/// Code 5 or 6 when the note cannot be read.
pub fn noted(context: &Context) -> Result<Option<(bool, bool)>, Error> {
    let network = context.config.name.as_ref();
    let made: Option<NetworkRecord> = context.state.read_network(network)?;
    Ok(made.map(|made| (made.internal, !made.rules.is_empty())))
}

/// Makes the rules, unless they are there. Tells whether they were missing, too.
///
/// # Errors
/// Whatever the backend refused.
pub fn apply(context: &Context, (kind, wanted): &Rules) -> Result<(Backend, bool), Error> {
    let mut backend = rules::open(context, *kind)?;
    let made = backend.apply(&ruleset(wanted)).map_err(rules::error)?;
    Ok((backend, made))
}

/// Removes the record of the call's attachment as
/// [`remove_attachment`](pontoon_ledger::State::remove_attachment) does, and with the last one the rules of its
/// network.
///
/// # Errors
/// As [`remove_attachment`](pontoon_ledger::State::remove_attachment), and whatever the backend refused.
pub fn forget(
    context: &Context,
    plugin: &str,
    withdraw: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let key = context.key()?;
    if context.state.remove_attachment(plugin, &key, withdraw)? {
        retire(context, plugin)
    } else {
        Ok(())
    }
}

/// As [`forget`], but a network's rules go a little later: containers that come and go one at a time
/// do not pay for them each time.
///
/// # Errors
/// As [`forget`].
pub fn release(
    context: &Context,
    plugin: &str,
    withdraw: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let key = context.key()?;
    if !context.state.remove_attachment(plugin, &key, withdraw)? {
        return Ok(());
    }
    let name = context.config.name.as_ref();
    let state = &context.state;
    if !state.has_network::<NetworkRecord>(name) && !state.has_network::<NetworkPolicyRecord>(name)
    {
        return retire(context, plugin);
    }
    let path = context.state.grace_lock(name);
    let waits = std::fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path);
    match waits {
        // Another plugin's child holds it and waits; it hears that there was life.
        Ok(file) if file.try_lock().is_err() => {
            let _ = file.set_modified(SystemTime::now());
            Ok(())
        }
        Ok(file) => {
            let _ = file.set_modified(SystemTime::now());
            let child = DetachedChild::detach(vec![file.into()], || {
                while let Some(rest) = rest(&path) {
                    std::thread::sleep(rest);
                }
                let _ = std::fs::remove_file(&path);
                // What cannot be removed now is there for the next DEL or GC of the network.
                let _ = retire(context, plugin);
            });
            if child.is_ok() {
                Ok(())
            } else {
                retire(context, plugin)
            }
        }
        Err(_) => retire(context, plugin),
    }
}

/// How much of the grace is left since the file was touched.
fn rest(path: &Path) -> Option<Duration> {
    let age = std::fs::metadata(path)
        .ok()?
        .modified()
        .ok()?
        .elapsed()
        .ok()?;
    GRACE.checked_sub(age).filter(|rest| !rest.is_zero())
}

/// Removes the rules of a network without attachments.
///
/// # Errors
/// Whatever the backend refused.
pub fn retire(context: &Context, plugin: &str) -> Result<(), Error> {
    let state = &context.state;
    let network = context.config.name.to_string();
    let records = state.records(plugin);
    let lock = state.lock_network(&network)?;
    if records.has_network(&network) {
        // An ADD came in between: the network is in use again.
        return Ok(());
    }
    policy::retire(context)?;
    if let Some(made) = state.read_network::<NetworkRecord>(&network)? {
        for (kind, network) in &made.rules {
            rules::withdraw(context, *kind, &ruleset(network))?;
        }
        state.remove_network::<NetworkRecord>(&network)?;
    }
    lock.remove();
    // Those of the plugins whose DEL came while the network still had its rules, and was killed.
    state.remove_unused_network_locks(&network)?;
    backends::retire(context, plugin)
}

#[cfg(test)]
mod tests {
    use pontoon_netfilter::{Egress, Snat};

    use super::*;

    fn set(bridge: &str, subnet: &str, out: Option<&str>) -> NetworkRules {
        let snat = out.map(|out| Snat {
            source: "192.0.2.1".parse().unwrap(),
            out: Some(out.to_owned()),
        });
        NetworkRules {
            network: "net".to_owned(),
            bridge: bridge.to_owned(),
            egress: vec![Egress {
                subnet: subnet.parse().unwrap(),
                snat: snat.into_iter().collect(),
            }],
        }
    }

    #[test]
    fn the_last_set_is_the_one_in_force() {
        let first = set("br0", "10.1.0.0/24", None);
        let second = set("br0", "10.1.0.0/24", Some("dev9"));
        let elsewhere = set("br0", "10.2.0.0/24", None);
        let moved = set("br1", "10.2.0.0/24", None);
        let mut sets = Vec::new();
        for new in [&first, &second, &first, &first] {
            replace(&mut sets, BackendKind::Nftables, new);
            assert_eq!(sets, [(BackendKind::Nftables, new.clone())]);
        }
        // Containers of the old subnet may live on.
        replace(&mut sets, BackendKind::Nftables, &elsewhere);
        replace(&mut sets, BackendKind::IptablesNft, &second);
        assert_eq!(sets.len(), 3);
        // The old bridge's element is still to be withdrawn.
        replace(&mut sets, BackendKind::Nftables, &moved);
        assert_eq!(sets.last(), Some(&(BackendKind::Nftables, moved)));
        assert!(
            sets.iter()
                .any(|(_, set)| set.bridge == "br0" && set.egress.is_empty())
        );
        assert!(sets.contains(&(BackendKind::IptablesNft, second)));
    }
}
