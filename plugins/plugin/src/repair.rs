//! Making the rules of a network again that somebody has flushed, from the records of those who are
//! attached. What is there already stays.
//!
//! `pontoon repair` does it when asked. An ADD does it when it finds missing what the containers
//! before it had made: then theirs is missing too, and nobody else would come for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use pontoon_conf::{Error, KnownAs, code};
use pontoon_netfilter::firewalld::Part;
use pontoon_netfilter::{
    Backend, BackendKind, Link, Member, NetworkRules, Policy, Protocol, Published, Resolver,
    Ruleset, Separation, SpoofGuard,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::policy::Stance;
use crate::reference::StandIn;
use crate::{Context, Key, Lock, State, beside, kinds, rules};

/// What of the record of `firewall` rules are made from.
#[derive(Deserialize)]
struct Held {
    backend: BackendKind,
    bridge: Option<String>,
    addresses: Vec<IpAddr>,
    names: Vec<KnownAs>,
    links: Vec<Wish>,
    separation: Option<Separation>,
    #[serde(default)]
    admin_chain: Option<String>,
    #[serde(default)]
    companion: Option<BackendKind>,
}

/// What of the records of `bridge` and `ptp` rules are made from.
#[derive(Deserialize)]
struct Guarded {
    #[serde(default)]
    spoof_guard: Option<SpoofGuard>,
    #[serde(default)]
    stand_in: Option<StandIn>,
}

/// A link as it was asked for.
#[derive(Debug, Deserialize)]
pub struct Wish {
    /// Whom the container wishes to reach.
    pub container: KnownAs,
    /// Where.
    pub ports: Vec<(Protocol, u16)>,
}

/// portmap's record of an attachment.
#[derive(Debug, Deserialize)]
pub struct PortRecord {
    /// Who makes its rules.
    pub backend: BackendKind,
    /// What is published.
    pub published: Published,
}

/// What a network has once, as `bridge` and `ptp` note it.
#[derive(Debug, Default, Deserialize)]
pub struct NetworkRecord {
    /// The rules for the way out, by backend.
    pub rules: Vec<(BackendKind, NetworkRules)>,
    /// The network has no way out, so it needs no forwarding.
    #[serde(default)]
    pub internal: bool,
}

/// What was done for a network.
#[derive(Debug)]
pub struct Repaired {
    /// How many sets of rules are there now or were refused.
    pub rules: usize,
    /// What was missing, in words, and is made again unless it was refused.
    pub made: Vec<String>,
    /// What was refused.
    pub failures: Vec<Error>,
}

/// The lock of the port reservations. No network name begins with a dot.
#[must_use]
pub fn ports_lock(state: &State) -> PathBuf {
    state.dir().join("lock/.ports")
}

/// The lock of a network's way to the resolver.
#[must_use]
pub fn resolver_lock(state: &State, network: &str) -> PathBuf {
    state.network_lock(&format!(":dns:{network}"))
}

/// Makes a network's rules again. Nobody attaches or detaches meanwhile: a rule that came back after
/// its owner's DEL would stay for ever.
///
/// # Errors
/// Code 5 when a lock cannot be taken.
pub fn repair(state: &State, search: &[PathBuf], network: &str) -> Result<Repaired, Error> {
    let _network = state.lock(&state.network_lock(network), Lock::exclusive)?;
    let _host = state.lock(&state.host_lock(), Lock::shared)?;
    // These plugins do their work under locks of their own, which go away with whoever needed them.
    let _own = [
        (ports_lock(state), state.records("portmap").any()),
        (
            resolver_lock(state, network),
            resolvers(state, network).is_some(),
        ),
    ]
    .into_iter()
    .filter(|(_, used)| *used)
    .map(|(path, _)| state.lock(&path, Lock::exclusive))
    .collect::<Result<Vec<_>, _>>()?;
    let met = beside::meet(state, search, network);
    let wanted = wanted(state, network);
    let mut repaired = Repaired {
        rules: wanted.len(),
        made: Vec::new(),
        failures: met.err().into_iter().collect(),
    };
    let mut backends: Vec<(BackendKind, Backend)> = Vec::new();
    let mut made: Vec<String> = Vec::new();
    for (kind, ruleset) in wanted {
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
            done.map_err(|error| rules::error(&error))
        });
        repaired.failures.extend(done.err());
    }
    for kind in kinds::with_host_end() {
        for (key, one) in records::<Guarded>(state, kind.name, network) {
            let Some(stand_in) = one.stand_in else {
                continue;
            };
            let known = backends.iter_mut();
            let mut known = known.filter(|(kind, _)| *kind == stand_in.backend);
            if let Some((_, backend)) = known.next() {
                repaired.failures.extend(stand_in.make(backend, &key).err());
            }
        }
    }
    if let Some(stance) = state.read_policy::<Stance>(network)
        && let Some(zone) = &stance.zone
    {
        let part = Part::Interface(&stance.policy.bridge);
        let done = rules::firewalld().and_then(|mut bus| bus.enter(zone, part));
        let done = done.map_err(|error| Error::new(code::RULES, error.to_string()));
        repaired.rules += 1;
        repaired.failures.extend(done.err());
    }
    // Networks share chains: one that was gone is missed by each set of rules in it.
    let mut told = BTreeSet::new();
    made.retain(|what| told.insert(what.clone()));
    repaired.made = made;
    let sockets = backends.into_iter();
    rules::linger(
        sockets
            .flat_map(|(_, backend)| backend.into_sockets())
            .collect(),
    );
    Ok(repaired)
}

/// For an ADD that has found missing what its network shares: when others are attached, makes again
/// what they have lost. What cannot be made is said; the ADD itself is complete.
pub fn others(context: &Context, plugin: &str, key: &Key) {
    if context.state.records(plugin).is_only(key) {
        return;
    }
    let network = &key.network;
    let failures = match repair(&context.state, &context.search, network) {
        Ok(repaired) => repaired.failures,
        Err(error) => vec![error],
    };
    for error in failures {
        eprintln!(
            "{plugin}: rules of network {network} were flushed, and not all of them could be made again: {error}; try: pontoon repair {network}"
        );
    }
}

fn resolvers(state: &State, network: &str) -> Option<Vec<(BackendKind, Resolver)>> {
    state.within("dns").read_network(network)
}

/// What the records of a network ask for: what the network has as a whole first.
#[must_use]
pub fn wanted(state: &State, network: &str) -> Vec<(BackendKind, Ruleset)> {
    let mut wanted = Vec::new();
    let mut want = |kind: BackendKind, fill: &dyn Fn(&mut Ruleset)| {
        let mut ruleset = Ruleset::default();
        fill(&mut ruleset);
        wanted.push((kind, ruleset));
    };
    if let Some(stance) = state.read_policy::<Stance>(network) {
        want(stance.backend, &|all| {
            all.policy = Some(stance.policy.clone())
        });
        if let Some((kind, policy)) = &stance.companion {
            want(*kind, &|all| all.policy = Some(policy.clone()));
        }
    }
    let made: NetworkRecord = state.read_network(network).unwrap_or_default();
    for (kind, network) in &made.rules {
        want(*kind, &|all| all.network = Some(network.clone()));
    }
    for (kind, resolver) in resolvers(state, network).iter().flatten() {
        want(*kind, &|all| all.resolver = Some(resolver.clone()));
    }
    for (kind, opening) in beside::openings(state, network) {
        want(kind, &|all| all.opening = Some(opening.clone()));
    }
    let held = records::<Held>(state, "firewall", network);
    for (key, one) in &held {
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
        let links = links(key, one, &held);
        if !links.is_empty() {
            want(one.backend, &|all| all.links.clone_from(&links));
        }
    }
    for (_, one) in records::<PortRecord>(state, "portmap", network) {
        if !one.published.has_address() {
            continue;
        }
        want(one.backend, &|all| {
            all.published = Some(one.published.clone())
        });
    }
    for (_, one) in records::<Guarded>(state, "bridge", network) {
        if let Some(guard) = &one.spoof_guard {
            want(BackendKind::Nftables, &|all| {
                all.spoof_guard = Some(guard.clone());
            });
        }
    }
    wanted
}

fn records<T: DeserializeOwned>(state: &State, plugin: &str, network: &str) -> Vec<(Key, T)> {
    let records = state.records(plugin);
    let keys = records.attachments(network).into_iter();
    keys.filter_map(|key| Some((key.clone(), records.read(&key)?)))
        .collect()
}

/// The links of one container to whoever bears the names that it wishes to reach.
fn links(key: &Key, one: &Held, all: &[(Key, Held)]) -> Vec<Link> {
    let Some(bridge) = one.bridge.as_ref().filter(|_| one.separation.is_some()) else {
        return Vec::new();
    };
    let mut links = Vec::new();
    for wish in &one.links {
        let bearers = all
            .iter()
            .filter(|(other, held)| other != key && held.names.contains(&wish.container));
        for to in bearers.flat_map(|(_, held)| &held.addresses) {
            for from in one
                .addresses
                .iter()
                .filter(|from| from.is_ipv4() == to.is_ipv4())
            {
                links.extend(wish.ports.iter().map(|&(protocol, port)| Link {
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
