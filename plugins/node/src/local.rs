//! One look at this host: its configurations, leases and addresses, the files of its networks, and the kernel. What
//! has to be done about them is decided by [`plan`](crate::plan), and done here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pontoon_conf::{Cidr, OperationError};
use pontoon_ledger::State;
use pontoon_ledger::overlay::{self, OverlayFiles, OverlayNetwork};
use pontoon_ledger::record::names::RemoteNames;
use pontoon_netfilter::nft::TableChange;
use pontoon_netlink::RouteSocket;
use pontoon_overlay::tunnel::{self, Changes, Wanted};

use crate::balance::{Balance, Balancer};
use crate::claims::{Own, lost};
use crate::names::{self, Names};
use crate::plan::{Here, Plan, plan};
use crate::shared::Shared;
use crate::usage::{Leases, by_block};
use crate::{choose, conflists, say, underlay};

/// For how long a block is in no file before it is given back: an ADD that has read the file before is over then.
const RETIREMENT: Duration = Duration::from_secs(5);

/// What is kept between two looks.
pub(crate) struct Local {
    shared: Rc<Shared>,
    state: State,
    files: OverlayFiles,
    socket: RouteSocket,
    leases: Leases,
    /// The networks with a configuration, and the folders of their leases.
    configured: BTreeMap<String, PathBuf>,
    /// Records of names, as they were last read.
    names: Names,
    /// Services in the kernel.
    balancer: Balancer,
    /// The names of other hosts' containers and of services that the resolver was told, by network.
    told: BTreeMap<String, RemoteNames>,
    /// Tunnels that the last attempt could not make as wanted, and why.
    unmade: BTreeMap<String, String>,
    /// Blocks that this host had, and the hosts that have them now.
    lost: BTreeMap<(String, Cidr), String>,
    /// Since when blocks of this host are in no file.
    retiring: BTreeMap<(String, Cidr), Instant>,
}

impl Local {
    pub(crate) fn new(
        shared: Rc<Shared>,
        state: State,
        files: OverlayFiles,
        socket: RouteSocket,
    ) -> Self {
        Self {
            shared,
            state,
            files,
            socket,
            leases: Leases::default(),
            configured: BTreeMap::new(),
            names: Names::default(),
            balancer: Balancer::default(),
            told: BTreeMap::new(),
            unmade: BTreeMap::new(),
            lost: BTreeMap::new(),
            retiring: BTreeMap::new(),
        }
    }

    /// Looks at everything. `audit` compares the kernel with what is wanted even where nothing has changed.
    pub(crate) fn look(&mut self, audit: bool) {
        let mut warnings = BTreeMap::new();
        self.read_configurations(&mut warnings);
        self.find_underlay(&mut warnings);
        let mut own = BTreeMap::new();
        for network in self.networks(&mut warnings) {
            match self.look_at(&network, audit, &mut warnings) {
                Ok(found) => drop(own.insert(network, found)),
                // What is not known now is claimed and given back by what was known before.
                Err(error) => {
                    warnings.insert(format!("network {network}"), error);
                    let before = self.shared.own.borrow().get(&network).cloned();
                    own.extend(before.map(|before| (network, before)));
                }
            }
        }
        let networks: BTreeSet<String> = own
            .keys()
            .map(|it| format!("tunnel of network {it}"))
            .collect();
        self.unmade.retain(|about, _| networks.contains(about));
        warnings.extend(self.unmade.clone());
        self.shared.with_cluster(|cluster| {
            let unreadable = cluster.unreadable.iter();
            warnings.extend(unreadable.map(|(key, why)| {
                (
                    format!("key {key}"),
                    format!("its value cannot be read: {why}"),
                )
            }));
        });
        self.find_devices(own.keys());
        self.look_at_names(&own, audit, &mut warnings);
        *self.shared.own.borrow_mut() = own;
        if audit {
            self.shared.count(|counts| counts.audits += 1);
        }
        self.tell(warnings);
        self.shared.local_changed.notify_one();
    }

    /// Tells new warnings once, and what is over.
    fn tell(&self, warnings: BTreeMap<String, String>) {
        let mut told = self.shared.warnings.borrow_mut();
        for (about, text) in &warnings {
            if told.get(about) != Some(text) {
                say!("{about}: {text}");
            }
        }
        for about in told.keys().filter(|about| !warnings.contains_key(*about)) {
            say!("{about}: all is well again");
        }
        *told = warnings;
    }

    fn read_configurations(&mut self, warnings: &mut BTreeMap<String, String>) {
        let folder = &self.shared.settings.conflists;
        match conflists::networks(folder) {
            Ok(networks) => self.configured = networks,
            Err(error) => {
                let about = format!("folder {}", folder.display());
                warnings.insert(about, format!("cannot be listed: {error}"));
            }
        }
    }

    fn find_underlay(&mut self, warnings: &mut BTreeMap<String, String>) {
        let settings = &self.shared.settings.underlay;
        let about = || "underlay".to_owned();
        match underlay::find(&mut self.socket, settings) {
            Ok(found) if found.tunnel().is_some() => self.shared.underlay.set(found),
            Ok(_) => {
                let what = settings.interface.as_deref();
                let what = what.map_or("the interface of the default route".to_owned(), |name| {
                    format!("interface {name}")
                });
                let next = "write `underlay.interface` or `underlay.addresses`";
                warnings.insert(about(), format!("{what} has no global address: {next}"));
            }
            Err(error) => drop(warnings.insert(about(), error.to_string())),
        }
    }

    /// What etcd is told of this host's containers, and the kernel and the resolver of all of them.
    fn look_at_names(
        &mut self,
        own: &BTreeMap<String, Own>,
        audit: bool,
        warnings: &mut BTreeMap<String, String>,
    ) {
        let shared = Rc::clone(&self.shared);
        let mut endpoints = BTreeMap::new();
        for network in own.keys() {
            match self.names.of(&self.state, network) {
                Ok(found) => drop(endpoints.insert(network.clone(), found)),
                // What is not known now stays told.
                Err(error) => {
                    warnings.insert(format!("names of network {network}"), error);
                    let before = shared.endpoints.borrow().get(network).cloned();
                    endpoints.extend(before.map(|before| (network.clone(), before)));
                }
            }
        }
        *shared.endpoints.borrow_mut() = endpoints;
        let host = &shared.settings.host;
        // As long as etcd has said nothing, table and files of before stay.
        let balance = shared.with_cluster(|cluster| {
            let endpoints = shared.endpoints.borrow();
            let mut numbers = shared.numbers.borrow_mut();
            Balance::of(cluster, host, own, &endpoints, &mut numbers)
        });
        let Some(mut balance) = balance else { return };
        warnings.append(&mut balance.warnings);
        if let Some(denied) = shared.denied.borrow().clone() {
            warnings.insert("addresses of services".to_owned(), denied);
        }
        match self.balancer.apply(&balance, audit) {
            Ok(TableChange::None) => {}
            Ok(TableChange::Made) => shared.count(|counts| counts.added += 1),
            Ok(TableChange::Replaced) => shared.count(|counts| counts.changed += 1),
            Err(error) => drop(warnings.insert("services".to_owned(), error)),
        }
        *shared.services.borrow_mut() = std::mem::take(&mut balance.services);
        let told = shared.with_cluster(|cluster| {
            let names = own
                .keys()
                .map(|network| (network.clone(), names::of_others(cluster, network, host)));
            names.collect::<BTreeMap<_, _>>()
        });
        if let Some(mut wanted) = told {
            for (network, records) in balance.records {
                wanted.entry(network).or_default().records.extend(records);
            }
            let files = self.state.networks::<RemoteNames>().unwrap_or_default();
            for network in files.into_iter().chain(self.told.keys().cloned()) {
                wanted.entry(network).or_default();
            }
            for (network, names) in wanted {
                if let Err(error) = self.tell_resolver(&network, names) {
                    warnings.insert(format!("names of other hosts on network {network}"), error);
                }
            }
        }
    }

    fn tell_resolver(&mut self, network: &str, names: RemoteNames) -> Result<(), String> {
        let text = |error: pontoon_conf::Error| error.to_string();
        let before = match self.told.get(network) {
            Some(before) => Some(before.clone()),
            None => self.state.read_network(network).ok().flatten(),
        };
        let there = self.state.has_network::<RemoteNames>(network);
        if before.as_ref() != Some(&names) || there == names.records.is_empty() {
            match names.records.is_empty() {
                true if !there => {}
                true => self
                    .state
                    .remove_network::<RemoteNames>(network)
                    .map_err(text)?,
                false => self.state.write_network(network, &names).map_err(text)?,
            }
        }
        match names.records.is_empty() {
            true => drop(self.told.remove(network)),
            false => drop(self.told.insert(network.to_owned(), names)),
        }
        Ok(())
    }

    /// A device that is made again has another number.
    fn find_devices<'n>(&mut self, networks: impl Iterator<Item = &'n String>) {
        let mut devices = BTreeSet::new();
        for network in networks {
            let link = self.socket.link_by_name(&overlay::device(network));
            devices.extend(link.ok().flatten().map(|link| link.index));
        }
        *self.shared.devices.borrow_mut() = devices;
    }

    /// The networks that this host has something to do with.
    fn networks(&self, warnings: &mut BTreeMap<String, String>) -> BTreeSet<String> {
        let mut networks: BTreeSet<String> = self.configured.keys().cloned().collect();
        match self.files.networks() {
            Ok(names) => networks.extend(names),
            Err(error) => drop(warnings.insert("files".to_owned(), error.to_string())),
        }
        // Blocks of networks that this host has forgotten are given back.
        let host = &self.shared.settings.host;
        self.shared.with_cluster(|cluster| {
            let held = cluster.networks_with_blocks();
            let held = held.filter(|network| !cluster.blocks_of(network, host).is_empty());
            networks.extend(held.map(str::to_owned));
        });
        networks
    }

    fn look_at(
        &mut self,
        network: &str,
        audit: bool,
        warnings: &mut BTreeMap<String, String>,
    ) -> Result<Own, String> {
        let shared = Rc::clone(&self.shared);
        let host = &shared.settings.host;
        let file = self.files.read_network(network);
        let file = file.map_err(|error| format!("{error}; {}", error.next_step()))?;
        let on_disk: BTreeSet<Cidr> = file.iter().flat_map(|it| &it.blocks).copied().collect();
        let held = shared.with_cluster(|cluster| cluster.blocks_of(network, host));
        let held = held.unwrap_or_default();
        let known: Vec<Cidr> = on_disk
            .iter()
            .copied()
            .chain(held.iter().copied())
            .collect();
        let leases = self.configured.get(network).cloned();
        let configured = leases.is_some();
        let leases = leases.unwrap_or_else(|| conflists::usual_leases(network));
        let addresses = self.leases.of(&leases).map_err(|error| {
            format!(
                "the leases in {} cannot be counted: {error}",
                leases.display()
            )
        })?;
        let addresses = addresses.to_vec();
        let mut used = by_block(&known, &addresses);
        let recorded = self.state.records(conflists::PLUGIN).has_network(network);
        let in_use = recorded || used.values().any(|used| *used > 0);
        if recorded && used.values().all(|used| *used == 0) {
            // Its containers have leases elsewhere: how many is not known.
            used.clear();
        }
        let draining = shared.with_cluster(|cluster| cluster.draining.contains(host));
        let draining = draining.unwrap_or_default();
        let mut own = Own {
            host: host.clone(),
            seed: choose::seed(host, network),
            on_disk,
            used,
            retired: BTreeSet::new(),
            wanted: configured && !draining,
        };
        let here = Here {
            network: network.to_owned(),
            configured,
            in_use,
            draining,
            underlay: shared.underlay.get(),
            file,
        };
        let planned = {
            let cluster = shared.cluster.borrow();
            if let Some(cluster) = &*cluster {
                let missing = configured && !cluster.networks.contains_key(network);
                if missing {
                    let next = format!("make it with `pontoon network create {network}`");
                    warnings.insert(
                        format!("network {network}"),
                        format!("etcd has no such network: {next}"),
                    );
                }
                for (block, owner) in lost(cluster, network, &own) {
                    let key = (network.to_owned(), block);
                    self.lost.insert(key, owner.to_owned());
                }
            }
            plan(cluster.as_ref(), &here, &own)
        };
        self.warn_of_lost(network, &addresses, warnings);
        let in_file = self.carry_out(&here, planned, audit)?;
        own.on_disk = in_file.iter().flat_map(|it| &it.blocks).copied().collect();
        own.retired = self.retire(network, &held, &own);
        Ok(own)
    }

    /// Containers with addresses of a block that is another host's are not reached from elsewhere.
    fn warn_of_lost(
        &mut self,
        network: &str,
        addresses: &[IpAddr],
        warnings: &mut BTreeMap<String, String>,
    ) {
        let inside = |block: &Cidr| addresses.iter().filter(|it| block.contains(**it)).count();
        self.lost
            .retain(|(of, block), _| of != network || inside(block) > 0);
        for ((_, block), owner) in self.lost.iter().filter(|((of, _), _)| of == network) {
            let about = format!("block {block} of network {network}");
            let text = format!(
                "host {owner} has it now, and {} containers of this host have addresses of it: they are not reached \
                 from other hosts any more, restart them",
                inside(block)
            );
            warnings.insert(about, text);
        }
    }

    /// Does it; what the file says then.
    fn carry_out(
        &mut self,
        here: &Here,
        planned: Plan,
        audit: bool,
    ) -> Result<Option<OverlayNetwork>, String> {
        let text = |error: pontoon_conf::Error| error.to_string();
        let network = &here.network;
        let (wanted, peers) = match planned {
            Plan::Nothing => return Ok(None),
            Plan::Remove => {
                let subnets = here.file.iter().flat_map(|file| &file.subnets);
                let subnets: Vec<Cidr> = subnets.map(|it| it.subnet).collect();
                let removed = tunnel::remove(&mut self.socket, network, &subnets);
                self.files.remove(network).map_err(text)?;
                say!("network {network}: its files and its tunnel are removed");
                self.count(&removed.map_err(|error| with_causes(&error))?);
                return Ok(None);
            }
            Plan::Keep => {
                let Some(mut file) = here.file.clone() else {
                    return Ok(None);
                };
                if here.underlay.tunnel().is_some() {
                    file.underlay = here.underlay;
                }
                (file, None)
            }
            Plan::Write(file, peers) => (file, Some(peers)),
        };
        let before = self.files.read_peers(network);
        let (peers, other_peers) = match (peers, before) {
            // A list that cannot be read is written again.
            (Some(peers), before) => {
                let same = before.is_ok_and(|before| before.as_ref() == Some(&peers));
                if !same {
                    self.files.write_peers(network, &peers).map_err(text)?;
                }
                (peers, !same)
            }
            (None, Ok(before)) => (before.unwrap_or_default(), false),
            (None, Err(error)) => return Err(format!("{error}; {}", error.next_step())),
        };
        let rewritten = here.file.as_ref() != Some(&wanted);
        if rewritten {
            self.files.write_network(&wanted).map_err(text)?;
        }
        if audit || other_peers || rewritten {
            let wanted = Wanted {
                network: wanted.clone(),
                peers,
            };
            let applied = tunnel::apply(&mut self.socket, &wanted);
            let about = format!("tunnel of network {network}");
            let failed = match applied {
                Ok(changes) => {
                    self.count(&changes);
                    changes.failed.join("; ")
                }
                Err(error) => with_causes(&error),
            };
            self.unmade.remove(&about);
            if !failed.is_empty() {
                self.unmade.insert(about, failed);
            }
        }
        Ok(Some(wanted))
    }

    fn count(&self, changes: &Changes) {
        self.shared.count(|counts| {
            counts.added += changes.added as u64;
            counts.changed += changes.changed as u64;
            counts.removed += changes.removed as u64;
        });
    }

    /// Removes what is left of networks that ended while no agent ran.
    pub(crate) fn sweep(&mut self) {
        let read = || -> Result<Vec<Wanted>, pontoon_conf::Error> {
            let mut known = Vec::new();
            for network in self.files.networks()? {
                known.extend(Wanted::read(&self.files, &network)?);
            }
            Ok(known)
        };
        let swept = read().map_err(|error| error.to_string()).and_then(|known| {
            let swept = tunnel::sweep(&mut self.socket, &known);
            swept.map_err(|error| with_causes(&error))
        });
        match swept {
            Ok(changes) => self.count(&changes),
            Err(error) => say!("what earlier networks left is not removed: {error}"),
        }
    }

    /// The blocks of this host that no ADD takes an address from any more.
    fn retire(&mut self, network: &str, held: &[Cidr], own: &Own) -> BTreeSet<Cidr> {
        let idle = |block: &&Cidr| {
            !own.on_disk.contains(*block) && own.used.get(*block).copied() == Some(0)
        };
        let idle: BTreeSet<Cidr> = match own.wanted {
            // A new block is in the file with the next look.
            true => BTreeSet::new(),
            false => held.iter().filter(idle).copied().collect(),
        };
        self.retiring
            .retain(|(of, block), _| of != network || idle.contains(block));
        for block in idle {
            let key = (network.to_owned(), block);
            self.retiring.entry(key).or_insert_with(Instant::now);
        }
        let over = self
            .retiring
            .iter()
            .filter(|((of, _), since)| of == network && since.elapsed() >= RETIREMENT);
        over.map(|((_, block), _)| *block).collect()
    }
}

/// An error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
