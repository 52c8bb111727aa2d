//! Which netfilter backends have rules on this host, and for which plugin of which network.
//!
//! ```text
//! backend/KIND/PLUGIN:NETWORK          the backend that the plugin uses for the network
//! backend/KIND/PLUGIN:NETWORK:beside   one that it uses as well, or used before a change
//! ```
//!
//! A claim is an empty file, made under the host's lock together with the record of an attachment. It counts
//! as long as a record says that the network has rules of that plugin: a claim that a killed plugin left
//! keeps nothing. A backend's shared tables and chains go with its last claim, whatever the backend of the
//! attachment that ends last.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use pontoon_conf::Error;
use pontoon_ledger::{FileError, Lock, State, files, mark};
use pontoon_netfilter::BackendKind;
use pontoon_plugin::{Context, warn};

use crate::rules;

/// The plugins that make rules, those first whose choice the others follow: name, records, and the folder
/// in which the rules of a network are noted once for all its containers.
const PLUGINS: [(&str, &str, Option<&str>); 6] = [
    ("bridge", "bridge", Some("network")),
    ("overlay", "overlay", Some("network")),
    ("ptp", "ptp", Some("network")),
    ("firewall", "firewall", Some("policy")),
    ("portmap", "portmap", None),
    ("dns", "dns/records", Some("dns/network")),
];

/// The plugins that come first in a chain: their DEL comes last.
const MAIN: [&str; 3] = ["bridge", "overlay", "ptp"];

/// The folders of claims. The last one is for attachments that have no rules: without a claim, an attachment
/// was made by a Pontoon that wrote none, and may use any backend.
const FOLDERS: [(&str, Option<BackendKind>); 4] = [
    ("nftables", Some(BackendKind::Nftables)),
    ("iptables-nft", Some(BackendKind::IptablesNft)),
    ("iptables-legacy", Some(BackendKind::IptablesLegacy)),
    ("none", None),
];

const BESIDE: &str = ":beside";

/// One file.
struct BackendClaim {
    kind: Option<BackendKind>,
    path: PathBuf,
    plugin: String,
    network: String,
    /// A record says that it counts.
    alive: bool,
}

fn root(state: &State) -> PathBuf {
    state.dir().join("backend")
}

fn folder(state: &State, kind: Option<BackendKind>) -> PathBuf {
    root(state).join(name_of(kind))
}

fn name_of(kind: Option<BackendKind>) -> &'static str {
    let known = FOLDERS.iter().find(|(_, known)| *known == kind);
    known.map_or("none", |(name, _)| name)
}

/// Notes that a plugin uses a backend for the network of the call, or none. The caller holds the host's lock until
/// it has written its record. The claim comes first: one that no record stands for is removed by the next DEL or
/// GC, and so is what only it has kept; a record without a claim would keep a backend's shared rules for ever.
///
/// # Errors
/// Code 5 with the path.
pub fn claim(context: &Context, plugin: &str, kind: Option<BackendKind>) -> Result<(), Error> {
    let name = format!("{plugin}:{}", context.config.name);
    let state = &context.state;
    if !mark(&folder(state, kind).join(&name))? {
        return Ok(());
    }
    // The first time, or the first time since the configuration has changed: containers from before may have
    // rules of the former backend still.
    for (other, known) in FOLDERS {
        let former = root(state).join(other).join(&name);
        if known != kind && files::may_exist(&former) {
            let beside = former.with_file_name(format!("{name}{BESIDE}"));
            fs::rename(&former, &beside).map_err(FileError::of("rename", &former))?;
        }
    }
    Ok(())
}

/// As [`claim`], for a backend that serves the plugin beside the one it has chosen.
///
/// # Errors
/// Code 5 with the path.
pub fn claim_beside(context: &Context, plugin: &str, kind: BackendKind) -> Result<(), Error> {
    claim_for(&context.state, plugin, context.config.name.as_ref(), kind)
}

/// The same for who is no plugin.
pub(crate) fn claim_for(
    state: &State,
    plugin: &str,
    network: &str,
    kind: BackendKind,
) -> Result<(), Error> {
    let name = format!("{plugin}:{network}{BESIDE}");
    mark(&folder(state, Some(kind)).join(name))?;
    Ok(())
}

/// The backend that a network uses: that of the plugin which made its interfaces, else that of another one
/// of its chain.
#[must_use]
pub fn of_network(state: &State, network: &str) -> Option<BackendKind> {
    PLUGINS.iter().find_map(|(plugin, _, _)| {
        let name = format!("{plugin}:{network}");
        let mut kinds = FOLDERS.iter().filter_map(|(_, kind)| *kind);
        kinds.find(|kind| files::may_exist(&folder(state, Some(*kind)).join(&name)))
    })
}

/// As [`rules::select`], for a plugin that works on what another one has made: without a key it uses the backend
/// that the network uses already, so that a network's rules stand in one place.
///
/// # Errors
/// As [`rules::select`].
pub fn follow(context: &Context, asked: Option<&str>) -> Result<BackendKind, Error> {
    let network = context.config.name.as_ref();
    match asked.filter(|asked| !asked.is_empty()) {
        None => {
            of_network(&context.state, network).map_or_else(|| rules::select(context, None), Ok)
        }
        asked => rules::select(context, asked),
    }
}

/// Whether a record says that the network has rules of the plugin.
fn is_alive(state: &State, plugin: &str, network: &str) -> bool {
    PLUGINS
        .iter()
        .filter(|(known, _, _)| *known == plugin)
        .any(|(_, records, notes)| {
            state.records(records).has_network(network)
                || notes
                    .is_some_and(|notes| files::may_exist(&state.dir().join(notes).join(network)))
        })
}

/// All claims. A folder that cannot be read is an error: without its claims, rules in use would be removed.
fn claims(state: &State) -> Result<Vec<BackendClaim>, Error> {
    let mut claims = Vec::new();
    for (name, kind) in FOLDERS {
        let folder = root(state).join(name);
        let fail = |error| FileError::of("list", &folder)(error);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let mut parts = name.to_str().unwrap_or_default().split(':');
            if let (Some(plugin), Some(network)) = (parts.next(), parts.next()) {
                claims.push(BackendClaim {
                    kind,
                    path: entry.path(),
                    plugin: plugin.to_owned(),
                    network: network.to_owned(),
                    alive: is_alive(state, plugin, network),
                });
            }
        }
    }
    Ok(claims)
}

/// Whether an attachment lives that has made no claim.
fn any_unclaimed(state: &State, claims: &[BackendClaim]) -> Result<bool, Error> {
    for (plugin, records, _) in PLUGINS {
        for network in state.records(records).networks()? {
            let mut of_network = claims.iter().filter(|claim| claim.network == network);
            if !of_network.any(|claim| claim.plugin == plugin) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the plugin that comes first in the chain has attachments still and uses what this one used: its
/// DEL comes last, and retires what is unused then.
fn left_to_main(context: &Context, plugin: &str) -> bool {
    let state = &context.state;
    let network = context.config.name.as_ref();
    let main = MAIN
        .iter()
        .find(|main| **main != plugin && state.records(main).has_network(network));
    let holds = |kind, plugin: &str| {
        let path = folder(state, kind).join(format!("{plugin}:{network}"));
        let beside = path.with_file_name(format!("{plugin}:{network}{BESIDE}"));
        files::may_exist(&path) || files::may_exist(&beside)
    };
    main.is_some_and(|main| {
        let mut kinds = FOLDERS.iter().map(|(_, kind)| *kind);
        kinds.all(|kind| !holds(kind, plugin) || holds(kind, main))
    })
}

/// For the end of every DEL and GC of a plugin that makes rules: removes what the networks share in backends
/// that no record needs any more, and what killed plugins have left in the state directory.
///
/// # Errors
/// Whatever a backend refused; its claims stay then.
pub fn retire(context: &Context, plugin: &str) -> Result<(), Error> {
    let state = &context.state;
    let network = context.config.name.as_ref();
    if state.records(records_of(plugin)).has_network(network) || left_to_main(context, plugin) {
        return Ok(());
    }
    for (_, records, _) in PLUGINS {
        state.records(records).tidy(network);
    }
    state.remove_drafts();
    let done = claims(state).and_then(|claims| match claims.iter().all(|claim| claim.alive) {
        true => Ok(()),
        false => retire_unused(context, plugin),
    });
    state.prune();
    done
}

fn records_of(plugin: &str) -> &str {
    let known = PLUGINS.iter().find(|(known, _, _)| *known == plugin);
    known.map_or(plugin, |(_, records, _)| records)
}

fn retire_unused(context: &Context, plugin: &str) -> Result<(), Error> {
    let state = &context.state;
    // An ADD makes its claim and writes its record under this lock: none comes in between.
    let lock = state.lock(&state.host_lock(), Lock::exclusive)?;
    let claims = claims(state)?;
    let unclaimed = any_unclaimed(state, &claims)?;
    let used = |kind| unclaimed || claims.iter().any(|claim| claim.alive && claim.kind == kind);
    let mut done = Ok(());
    for (_, kind) in FOLDERS {
        let dead = || {
            claims
                .iter()
                .filter(|claim| !claim.alive && claim.kind == kind)
        };
        if dead().next().is_none() {
            continue;
        }
        let mut removed = Ok(());
        if let Some(unused) = kind.filter(|_| !used(kind)) {
            // One whose programs have been taken away can be used by no network, and must not stop this one.
            if let Err(error) = rules::open(context, unused) {
                let name = name_of(Some(unused));
                warn(format_args!(
                    "{plugin}: warning: what networks shared in {name} stays: {error}"
                ));
                continue;
            }
            removed = rules::remove_all(context, unused);
        }
        if removed.is_ok() {
            for claim in dead() {
                let _ = fs::remove_file(&claim.path);
            }
            // Fails while others are there.
            let _ = fs::remove_dir(folder(state, kind));
        }
        done = done.and(removed);
    }
    let _ = fs::remove_dir(root(state));
    if done.is_ok() && !unclaimed && claims.iter().all(|claim| !claim.alive) {
        rules::remove_lock(state);
        lock.remove();
    }
    done
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pontoon_ledger::kinds;

    use super::*;

    /// The order of these lists is that of a chain; what they hold is the table's.
    #[test]
    fn the_lists_are_those_of_the_table() {
        let listed: BTreeSet<_> = PLUGINS
            .iter()
            .map(|(name, at, _)| (*name, Some(*at)))
            .collect();
        let rows = kinds::sharing_rules().map(|kind| (kind.name, kind.records));
        assert_eq!(listed, rows.collect());
        let hosted: Vec<&str> = kinds::with_host_end().map(|kind| kind.name).collect();
        assert_eq!(hosted, MAIN);
    }
}
