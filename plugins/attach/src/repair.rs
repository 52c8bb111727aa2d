//! Making the flushed rules of a network again, from the records of those who are
//! attached. What is there already stays.
//!
//! `pontoon repair` does it when asked. An ADD does it when it finds missing what the containers
//! before it had made: then theirs is missing too, and no other ADD would make it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pontoon_conf::Error;
use pontoon_ledger::{
    AttachmentRecord, BridgeBased, BridgeRecord, FirewallRecord, InterfaceSettings, Key, Lock,
    NetworkPolicyRecord, NetworkRecord, OpeningsRecord, OverlayRecord, PerNetworkRecord,
    PortmapRecord, PtpRecord, ReferenceChains, ResolverRecord, State,
};
use pontoon_netfilter::firewalld::Part;
use pontoon_netfilter::{Backend, BackendKind, Link, Member, Policy, Ruleset, SpoofGuard};
use pontoon_plugin::{Context, warn};

use crate::error::ZoneError;
use crate::{foreign_filters, possession, reference, rules};

/// What was done for a network.
#[derive(Debug)]
pub struct RepairResult {
    /// How many sets of rules are there now or were refused.
    pub rules: usize,
    /// What was missing, in words, and is made again unless it was refused.
    pub made: Vec<String>,
    /// What was refused.
    pub failures: Vec<Error>,
}

/// Makes a network's rules again. No ADD or DEL of the network runs meanwhile: a rule that came back after
/// its owner's DEL would stay for ever.
///
/// # Errors
/// Code 5 when a lock cannot be taken.
pub fn repair(state: &State, search: &[PathBuf], network: &str) -> Result<RepairResult, Error> {
    let _network = state.lock_network(network)?;
    let _host = state.lock(&state.host_lock(), Lock::shared)?;
    // portmap and dns do their work under locks of their own, whose files go with the last attachment that
    // needed them.
    let ports = state.lock(&state.ports_lock(), Lock::exclusive)?;
    let resolver = state.lock(&state.resolver_lock(network), Lock::exclusive)?;
    let repaired = repair_locked(state, search, network);
    if !state.records_of::<PortmapRecord>().any() {
        ports.remove();
    }
    if !state.has_network::<ResolverRecord>(network) {
        resolver.remove();
    }
    Ok(repaired)
}

fn repair_locked(state: &State, search: &[PathBuf], network: &str) -> RepairResult {
    let met = foreign_filters::meet(state, search, network);
    let interfaces = interfaces(state, network);
    let (wanted, unreadable) = wanted_beside(state, network, &interfaces);
    let mut repaired = RepairResult {
        rules: wanted.len(),
        made: Vec::new(),
        failures: met.err().into_iter().chain(unreadable).collect(),
    };
    let mut backends: Vec<(BackendKind, Backend)> = Vec::new();
    let mut made: Vec<String> = Vec::new();
    for (kind, ruleset) in wanted {
        if let Some(published) = &ruleset.published {
            let held = possession::hold_ports(state, published);
            repaired.failures.extend(held.err());
        }
        let known = backends.iter().position(|(known, _)| *known == kind);
        let done = match known {
            Some(known) => Ok(known),
            None => rules::open_in(state, search, kind).map(|backend| {
                backends.push((kind, backend));
                backends.len() - 1
            }),
        };
        let done = done.and_then(|known| {
            let backend = &mut backends[known].1;
            // What cannot be compared, as where a table is half gone, is made in any case.
            let missing = backend.verify(&ruleset).unwrap_or_default();
            let done = backend.apply(&ruleset);
            if done.is_ok() {
                made.extend(missing);
            }
            done.map_err(rules::error)
        });
        repaired.failures.extend(done.err());
    }
    for one in interfaces.0 {
        let Some(chains) = one.reference_chains else {
            continue;
        };
        let known = backends.iter_mut();
        let mut known = known.filter(|(kind, _)| *kind == chains.backend);
        if let Some((_, backend)) = known.next() {
            let done = reference::create_chains(chains, backend, &one.key);
            repaired.failures.extend(done.err());
        }
    }
    if let Ok(Some(record)) = state.read_network::<NetworkPolicyRecord>(network)
        && let Some(zone) = &record.zone
    {
        let part = Part::Interface(&record.policy.bridge);
        let done = rules::firewalld().and_then(|mut bus| bus.enter(zone, part));
        repaired.rules += 1;
        repaired
            .failures
            .extend(done.err().map(|error| ZoneError(error).into()));
    }
    // Networks share chains: one that was gone is missed by each set of rules in it.
    let mut told = BTreeSet::new();
    made.retain(|what| told.insert(what.clone()));
    repaired.made = made;
    let sockets = backends.into_iter();
    rules::close_in_detached_child(
        sockets
            .flat_map(|(_, backend)| backend.into_sockets())
            .collect(),
    );
    repaired
}

/// For an ADD that has found missing what its network shares: when others are attached, makes again
/// what they have lost. What cannot be made is said; the ADD itself is complete.
pub fn others(context: &Context, plugin: &str, key: &Key) {
    let network = &key.network;
    let failures = match context.state.records(plugin).is_only(key) {
        Ok(true) => return,
        Ok(false) => match repair(&context.state, &context.search, network) {
            Ok(repaired) => repaired.failures,
            Err(error) => vec![error],
        },
        Err(error) => vec![error],
    };
    for error in failures {
        warn(format_args!(
            "{plugin}: rules of network {network} were flushed, and not all of them could be made again: {error}; try: pontoon repair {network}"
        ));
    }
}

/// What the records of a network ask for: what the network has as a whole first. Beside it the records
/// that cannot be read.
#[must_use]
pub fn wanted(state: &State, network: &str) -> (Vec<(BackendKind, Ruleset)>, Vec<Error>) {
    wanted_beside(state, network, &interfaces(state, network))
}

fn wanted_beside(
    state: &State,
    network: &str,
    (interfaces, unreadable): &(Vec<Interface>, Vec<Error>),
) -> (Vec<(BackendKind, Ruleset)>, Vec<Error>) {
    let mut wanted = Vec::new();
    let mut unreadable = unreadable.clone();
    let mut want = |kind: BackendKind, fill: &dyn Fn(&mut Ruleset)| {
        let mut ruleset = Ruleset::default();
        fill(&mut ruleset);
        wanted.push((kind, ruleset));
    };
    if let Some(record) = of_network::<NetworkPolicyRecord>(state, network, &mut unreadable) {
        want(record.backend, &|all| {
            all.policy = Some(record.policy.clone())
        });
        if let Some((kind, policy)) = &record.companion {
            want(*kind, &|all| all.policy = Some(policy.clone()));
        }
    }
    let made = of_network::<NetworkRecord>(state, network, &mut unreadable);
    for (kind, network) in made.iter().flat_map(|made| &made.rules) {
        want(*kind, &|all| all.network = Some(network.clone()));
    }
    let made = of_network::<ResolverRecord>(state, network, &mut unreadable);
    for (kind, resolver) in made.iter().flat_map(|made| &made.resolvers) {
        want(*kind, &|all| all.resolver = Some(resolver.clone()));
    }
    let made = of_network::<OpeningsRecord>(state, network, &mut unreadable);
    for (kind, opening) in made.iter().flat_map(|made| &made.openings) {
        want(*kind, &|all| all.opening = Some(opening.clone()));
    }
    let lost: BTreeSet<&Key> = interfaces
        .iter()
        .filter(|one| one.is_lost)
        .map(|one| &one.key)
        .collect();
    let mut attached = records::<FirewallRecord>(state, network, &mut unreadable);
    attached.retain(|(key, _)| !lost.contains(key));
    for (key, one) in &attached {
        if one.bridge.is_none() {
            let member = Member {
                owner: key.owner(),
                addresses: one.addresses.clone(),
                admin_chain: match &one.admin_chain {
                    Some(name) => name.clone(),
                    None => Policy::open("", "").admin_chain,
                },
            };
            for kind in [Some(one.backend), one.companion].into_iter().flatten() {
                want(kind, &|all| all.member = Some(member.clone()));
            }
        }
        if let Some(separation) = &one.separation {
            want(BackendKind::Nftables, &|all| {
                all.separation = Some(separation.clone());
            });
        }
        let links = links(key, one, &attached);
        if !links.is_empty() {
            want(one.backend, &|all| all.links.clone_from(&links));
        }
    }
    for (key, one) in records::<PortmapRecord>(state, network, &mut unreadable) {
        if !one.published.has_address() || lost.contains(&key) {
            continue;
        }
        match possession::has_lost_port(state, &one.published) {
            Ok(false) => {}
            // Its ADD was killed before it had the ports, and its DEL is due.
            Ok(true) => continue,
            Err(error) => {
                unreadable.push(error);
                continue;
            }
        }
        want(one.backend, &|all| {
            all.published = Some(one.published.clone())
        });
    }
    for guard in interfaces.iter().filter_map(|one| one.spoof_guard.clone()) {
        want(BackendKind::Nftables, &|all| {
            all.spoof_guard = Some(guard.clone());
        });
    }
    (wanted, unreadable)
}

fn of_network<R: PerNetworkRecord>(
    state: &State,
    network: &str,
    unreadable: &mut Vec<Error>,
) -> Option<R> {
    let read = state.read_network(network);
    read.unwrap_or_else(|error| {
        unreadable.push(error.into());
        None
    })
}

fn records<R: AttachmentRecord>(
    state: &State,
    network: &str,
    unreadable: &mut Vec<Error>,
) -> Vec<(Key, R)> {
    let mut found = Vec::new();
    let keys = state.records_of::<R>().attachments(network);
    for key in keys.unwrap_or_else(|error| {
        unreadable.push(error);
        Vec::new()
    }) {
        match state.read(&key) {
            Ok(Some(record)) => found.push((key, record)),
            // Its DEL came in between.
            Ok(None) => {}
            Err(error) => unreadable.push(error.into()),
        }
    }
    found
}

/// What the plugin that made a container's interface has recorded.
struct Interface {
    key: Key,
    reference_chains: Option<ReferenceChains>,
    spoof_guard: Option<SpoofGuard>,
    /// Another attachment has an address of it.
    is_lost: bool,
}

/// The interfaces of a network, by the records of all plugins that make some with rules of their own. Beside them
/// what cannot be read.
fn interfaces(state: &State, network: &str) -> (Vec<Interface>, Vec<Error>) {
    let mut unreadable = Vec::new();
    let mut bridged = records::<BridgeRecord>(state, network, &mut unreadable);
    let overlaid = records::<OverlayRecord>(state, network, &mut unreadable);
    bridged.extend(
        overlaid
            .into_iter()
            .map(|(key, one)| (key, one.bridge().clone())),
    );
    let routed = records::<PtpRecord>(state, network, &mut unreadable);
    let mut judge = |key: &Key, leases: &Option<PathBuf>, settings: &Option<InterfaceSettings>| {
        let lost = possession::has_lost_address(key, leases.as_deref(), settings.as_ref());
        lost.unwrap_or_else(|error| {
            unreadable.push(error);
            false
        })
    };
    let mut all = Vec::new();
    for (key, one) in bridged {
        let is_lost = judge(&key, &one.leases, &one.settings);
        all.push(Interface {
            key,
            reference_chains: one.reference_chains,
            spoof_guard: one.spoof_guard,
            is_lost,
        });
    }
    for (key, one) in routed {
        let is_lost = judge(&key, &one.leases, &one.settings);
        all.push(Interface {
            key,
            reference_chains: one.reference_chains,
            spoof_guard: None,
            is_lost,
        });
    }
    (all, unreadable)
}

/// The links of one container to all containers that have the names it asks for.
fn links(key: &Key, one: &FirewallRecord, all: &[(Key, FirewallRecord)]) -> Vec<Link> {
    let Some(bridge) = one.bridge.as_ref().filter(|_| one.separation.is_some()) else {
        return Vec::new();
    };
    let mut links = Vec::new();
    for request in &one.links {
        let named = all
            .iter()
            .filter(|(other, record)| other != key && record.names.contains(&request.container));
        for to in named.flat_map(|(_, record)| &record.addresses) {
            for from in one
                .addresses
                .iter()
                .filter(|from| from.is_ipv4() == to.is_ipv4())
            {
                links.extend(request.ports.iter().map(|&(protocol, port)| Link {
                    owner: key.owner(),
                    bridge: bridge.clone(),
                    from: *from,
                    to: *to,
                    protocol,
                    port,
                }));
            }
        }
    }
    links
}
