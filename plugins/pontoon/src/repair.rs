//! `pontoon repair [NET]`: makes the rules again that somebody has flushed, from the records of those
//! who are attached. What is there already stays.

use std::collections::BTreeSet;
use std::net::IpAddr;

use clap::Args;
use pontoon_conf::KnownAs;
use pontoon_netfilter::{BackendKind, Link, Member, Resolver, Ruleset, Separation, SpoofGuard};
use pontoon_plugin::policy::Stance;
use pontoon_plugin::{Key, Lock, State, rules};
use serde::{Deserialize, Serialize};

use crate::facts::{Host, NetworkRecord, PortRecord};
use crate::linked::Wish;
use crate::report::{Failure, Outcome, print};

#[derive(Args)]
pub(crate) struct Options {
    /// Name of the network; all of them without
    network: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What of the record of `firewall` rules are made from.
#[derive(Deserialize)]
struct Held {
    backend: BackendKind,
    bridge: Option<String>,
    addresses: Vec<IpAddr>,
    names: Vec<KnownAs>,
    links: Vec<Wish>,
    separation: Option<Separation>,
}

/// What of the record of `bridge` rules are made from.
#[derive(Deserialize)]
struct Guarded {
    spoof_guard: Option<SpoofGuard>,
}

/// One network's part of the work.
#[derive(Serialize)]
struct Repaired {
    network: String,
    rules: usize,
    failures: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let host = Host::look()?;
    let mut names: BTreeSet<String> = host
        .network_names()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    if let Some(wanted) = &options.network {
        names.retain(|name| name == wanted);
        if names.is_empty() {
            return Err(Failure::NotFound(format!("there is no network {wanted}")));
        }
    }
    let done = names
        .into_iter()
        .map(|name| repair(&host.state, name))
        .collect::<Result<Vec<_>, Failure>>()?;
    print(options.json, &done, || text(&done))?;
    Ok(done.iter().all(|network| network.failures.is_empty()))
}

fn repair(state: &State, network: String) -> Result<Repaired, Failure> {
    // Nobody removes meanwhile what is made here.
    let lock = state.lock(&state.network_lock(&network), Lock::shared)?;
    let _host = state.lock(&state.host_lock(), Lock::shared)?;
    let wanted = wanted(state, &network);
    let mut repaired = Repaired {
        network,
        rules: wanted.len(),
        failures: Vec::new(),
    };
    for (kind, ruleset) in wanted {
        let done =
            rules::open_in(state, &pontoon_plugin::search(), kind).and_then(|mut backend| {
                let done = backend.apply(&ruleset);
                rules::linger(backend.into_sockets());
                done.map_err(|error| rules::error(&error))
            });
        repaired
            .failures
            .extend(done.err().map(|error| error.to_string()));
    }
    drop(lock);
    Ok(repaired)
}

/// What the records of a network ask for: what the network has as a whole first.
pub(crate) fn wanted(state: &State, network: &str) -> Vec<(BackendKind, Ruleset)> {
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
    let names = State::at(&state.dir().join("dns"));
    let resolvers: Option<Vec<(BackendKind, Resolver)>> = names.read_network(network);
    for (kind, resolver) in resolvers.iter().flatten() {
        want(*kind, &|all| all.resolver = Some(resolver.clone()));
    }
    let held = records::<Held>(state, "firewall", network);
    for (key, one) in &held {
        if one.bridge.is_none() {
            let member = Member {
                owner: key.owner(),
                addresses: one.addresses.clone(),
            };
            want(one.backend, &|all| all.member = Some(member.clone()));
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

fn records<T: serde::de::DeserializeOwned>(
    state: &State,
    plugin: &str,
    network: &str,
) -> Vec<(Key, T)> {
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

fn text(done: &[Repaired]) -> String {
    if done.is_empty() {
        return "there are no networks\n".to_owned();
    }
    let line = |one: &Repaired| {
        if one.failures.is_empty() {
            return format!("{}: {} sets of rules are there\n", one.network, one.rules);
        }
        let failures = one.failures.iter();
        failures
            .map(|failure| format!("{}: {failure}\n", one.network))
            .collect()
    };
    done.iter().map(line).collect()
}
