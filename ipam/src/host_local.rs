//! The verbs of host-local, for the binary and for plugins that call them in
//! process.

use std::net::IpAddr;
use std::path::Path;

use pontoon_conf::{AddResult, Attachment, Cidr, Error, Invocation, IpConfig, NetworkConfig, code};
use pontoon_ledger::{State, THIRD_PARTY, files};

use crate::allocator::{Grant, Pool};
use crate::auto::{DEFAULT_POOLS, choose, facts};
use crate::boot::Boot;
use crate::config::{self, Settings};
use crate::error::{AllocateError, CheckError};
use crate::owner::{Owner, Owners};
use crate::range::RangeSet;
use crate::resolv;
use crate::store::{Store, StoreError};

/// Takes one address of each range set for the attachment. Whatever fails,
/// nothing that this call took stays taken.
///
/// # Errors
/// Code 4 for an attachment without container or interface, code 5 when the lease directory cannot
/// be used, code 7 for a configuration that gives out no address, code 101 when no address is left.
pub fn add(
    invocation: &Invocation,
    config: &NetworkConfig,
    state: &Path,
) -> Result<AddResult, Error> {
    let owner = owner(invocation)?;
    let settings = Settings::read(invocation, config)?;
    // Nothing is made on disk, and nothing locked, for a configuration that cannot work.
    let known = match settings.is_auto() {
        true => None,
        false => Some(settings.pool(None)?),
    };
    let dns = match &settings.resolv_conf {
        None => Default::default(),
        Some(path) => {
            let bytes = files::read_following(path, files::RESOLV_CONF).map_err(|source| {
                let path = path.clone();
                AllocateError::ResolvConf { path, source }
            })?;
            resolv::parse(&String::from_utf8_lossy(&bytes))
        }
    };
    let folder = config::lease_folder(config)?;
    let mut store = Store::open(&folder, state, boot()?)?;
    let pool = match known {
        Some(pool) => pool,
        None => settings.pool(Some(&remembered(&mut store, config, &settings.data_dir)?))?,
    };
    let mut taken = Vec::new();
    let outcome = allocate(&mut store, &pool, &owner, &settings.requested, &mut taken);
    let outcome = outcome.and_then(|()| remember_subnets(&mut store, &pool));
    if let Err(mut error) = outcome {
        for grant in &taken {
            if let Err(undo) = store.give_back(grant.address, &owner) {
                let (address, undo) = (grant.address, Error::from(undo));
                error = error.with_more(format_args!(
                    "and {address} could not be given back: {undo}"
                ));
            }
        }
        // The first error is the one to tell; the index heals itself.
        store.commit();
        return Err(error);
    }
    store.commit();
    let ips = taken.iter().map(ip_config).collect::<Result<_, _>>()?;
    Ok(AddResult {
        ips,
        routes: settings.routes,
        dns,
        ..AddResult::default()
    })
}

/// The addresses that ADDs of a network may take. `chosen` is the subnet in the place of `auto`.
///
/// # Errors
/// As ADD refuses the configuration; also where `auto` stands and no subnet is given for it.
pub fn pool(config: &NetworkConfig, chosen: Option<&str>) -> Result<Pool, Error> {
    Ok(Settings::of_network(config)?.pool(chosen)?)
}

/// Releases the addresses of the attachment, if it has any. Looks at nothing
/// of the configuration but where the leases are.
///
/// # Errors
/// Code 4 for an attachment without container or interface, code 5 when the lease directory cannot
/// be used.
pub fn del(invocation: &Invocation, config: &NetworkConfig, state: &Path) -> Result<(), Error> {
    let owner = owner(invocation)?;
    let folder = config::lease_folder(config)?;
    let Some(mut store) = Store::open_existing(&folder, state, boot()?)? else {
        return Ok(());
    };
    store.release_all(&owner)?;
    store.commit();
    Ok(())
}

/// Fails when the attachment has no address.
///
/// # Errors
/// Code 4 for an attachment without container or interface, code 5 when the lease directory cannot
/// be used, code 104 when the attachment has no address.
pub fn check(invocation: &Invocation, config: &NetworkConfig, state: &Path) -> Result<(), Error> {
    let owner = owner(invocation)?;
    let folder = config::lease_folder(config)?;
    let mut found = Vec::new();
    if let Some(mut store) = Store::open_existing(&folder, state, boot()?)? {
        found = store.owned_by(&owner)?;
        store.commit();
    }
    if found.is_empty() {
        let owner = owner.legacy_key().to_owned();
        return Err(CheckError::NoLease { owner, folder }.into());
    }
    Ok(())
}

/// Fails when an ADD would find no address.
///
/// # Errors
/// Code 7 for a configuration that gives out no address, code 50 when none is left.
pub fn status(invocation: &Invocation, config: &NetworkConfig, state: &Path) -> Result<(), Error> {
    let settings = Settings::read(invocation, config)?;
    let folder = config::lease_folder(config)?;
    let unavailable = |error: Error| error.with_code(code::NOT_AVAILABLE);
    let Some(mut store) = Store::open_existing(&folder, state, boot()?)? else {
        // No lease yet: only a configuration that leaves no address can fail.
        let chosen = settings
            .is_auto()
            .then(|| facts::choose(&settings.data_dir, &folder))
            .transpose();
        let pool = settings.pool(chosen.map_err(unavailable)?.as_deref())?;
        return match pool
            .sets()
            .iter()
            .find(|set| pool.candidates(set, None).is_empty())
        {
            Some(set) => Err(unavailable(full(set).into())),
            None => Ok(()),
        };
    };
    let chosen = match store.note()?.auto() {
        _ if !settings.is_auto() => None,
        Some(subnet) => Some(subnet.to_owned()),
        None => Some(facts::choose(&settings.data_dir, &folder).map_err(unavailable)?),
    };
    let pool = settings.pool(chosen.as_deref())?;
    for set in pool.sets() {
        let next = pool.next(set, None, |span| store.first_free(span))?;
        if next.is_none() {
            store.commit();
            return Err(unavailable(full(set).into()));
        }
    }
    store.commit();
    Ok(())
}

/// Refuses a configuration by which no address can be given out.
///
/// # Errors
/// Code 7 for a configuration that gives out no address.
pub fn judge(invocation: &Invocation, config: &NetworkConfig) -> Result<(), Error> {
    // Any subnet stands for the one that would be chosen.
    let chosen = choose(&DEFAULT_POOLS, &[]);
    let settings = Settings::read(invocation, config)?;
    settings.pool(chosen.as_deref())?;
    Ok(())
}

/// Releases what belongs to no valid attachment of the network. Without a
/// list of them only what is left of earlier boots and crashes is released.
///
/// `pontoon gc NETWORK --all-dead` names the attachments without a record that
/// are spared: then every lease goes whose owner has no record at this moment.
/// The lock of the network is held meanwhile, which ADD holds from before its
/// lease until its record is written, so that no ADD under way loses one.
///
/// # Errors
/// Code 5 when the lease directory cannot be used.
pub fn gc(_invocation: &Invocation, config: &NetworkConfig, state: &Path) -> Result<(), Error> {
    let folder = config::lease_folder(config)?;
    let (None, Some(spared)) = (&config.valid_attachments, &config.spared_attachments) else {
        return release_others(&folder, state, config.valid_attachments.as_deref());
    };
    let records = State::at(state);
    let network = config.name.as_str();
    let _network = records.lock_network(network)?;
    let mut kept = spared.clone();
    kept.extend(recorded(&records, network)?);
    release_others(&folder, state, Some(&kept))
}

/// Releases the leases of all but these attachments, and what is left of earlier boots and crashes.
fn release_others(folder: &Path, state: &Path, kept: Option<&[Attachment]>) -> Result<(), Error> {
    let Some(mut store) = Store::open_existing(folder, state, boot()?)? else {
        return Ok(());
    };
    store.rescan()?;
    if let Some(kept) = kept {
        store.retain(&Owners::new(kept))?;
    }
    store.commit();
    Ok(())
}

/// The attachments of a network of which the plugin has a record that gave them their interface: what a
/// chained plugin has noted of one that is removed may be there still.
fn recorded(state: &State, network: &str) -> Result<Vec<Attachment>, Error> {
    let mut all = state.attachments()?;
    all.retain(|one| one.key.network == network && one.mode != THIRD_PARTY);
    let attachments = all.into_iter().filter_map(|one| {
        Some(Attachment {
            container_id: one.key.container.parse().ok()?,
            ifname: one.key.interface.parse().ok()?,
        })
    });
    Ok(attachments.collect())
}

/// One address of each set into `taken`, which tells what to undo on failure.
fn allocate(
    store: &mut Store,
    pool: &Pool,
    owner: &Owner,
    requested: &[IpAddr],
    taken: &mut Vec<Grant>,
) -> Result<(), Error> {
    let (assigned, left) = pool.assign(requested);
    for (number, (set, asked)) in pool.sets().iter().zip(assigned).enumerate() {
        let grant = match asked {
            Some(address) => take_requested(store, pool, set, owner, address),
            None => take_next(store, pool, number, set, owner),
        }
        .map_err(|error| error.within(&format!("failed to allocate for range {number}")))?;
        taken.push(grant);
        store.set_last_reserved(number, grant.address)?;
    }
    if left.is_empty() {
        return Ok(());
    }
    // A message has room for the beginning.
    const SHOWN: usize = 8;
    let mut words: Vec<_> = left.iter().take(SHOWN).map(IpAddr::to_string).collect();
    if let Some(more) = left.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        words.push(format!("and {more} more"));
    }
    let asked = words.join(" ");
    Err(AllocateError::InNoSet { asked }.into())
}

fn take_requested(
    store: &mut Store,
    pool: &Pool,
    set: &RangeSet,
    owner: &Owner,
    address: IpAddr,
) -> Result<Grant, Error> {
    let grant = pool.requested(set, address);
    let grant = grant.map_err(AllocateError::Requested)?;
    if store.reserve(address, owner)? {
        return Ok(grant);
    }
    let set = set.to_string();
    Err(AllocateError::Taken { address, set }.into())
}

fn take_next(
    store: &mut Store,
    pool: &Pool,
    number: usize,
    set: &RangeSet,
    owner: &Owner,
) -> Result<Grant, Error> {
    let own = store.owned_by(owner)?;
    if let Some(address) = own.iter().find(|address| set.range_of(**address).is_some()) {
        return Err(AllocateError::Twice {
            address: *address,
            owner: owner.legacy_key().to_owned(),
        }
        .into());
    }
    let last = store.last_reserved(number)?;
    loop {
        let grant = pool.next(set, last, |span| store.first_free(span))?;
        let Some(grant) = grant else {
            return Err(full(set).into());
        };
        // False when the index was wrong; it has learnt, so this ends.
        if store.reserve(grant.address, owner)? {
            return Ok(grant);
        }
    }
}

/// The subnet chosen for the network; the first ADD chooses. The lock on the
/// directory of all networks keeps two of them from choosing the same.
fn remembered(store: &mut Store, config: &NetworkConfig, data_dir: &Path) -> Result<String, Error> {
    let mut note = store.note()?;
    if let Some(subnet) = note.auto() {
        return Ok(subnet.to_owned());
    }
    let _choosing = facts::lock(data_dir)?;
    let subnet = facts::choose(data_dir, &data_dir.join(config.name.as_str()))?;
    note.set_auto(subnet.clone());
    store.set_note(&note)?;
    Ok(subnet)
}

/// Leaves word of the network's subnets for those who choose one. Only a call
/// that has read the whole directory anyway looks whether it has changed.
fn remember_subnets(store: &mut Store, pool: &Pool) -> Result<(), Error> {
    if !store.rebuilt() {
        return Ok(());
    }
    let ranges = pool.sets().iter().flat_map(RangeSet::ranges);
    let mut subnets: Vec<_> = ranges
        .map(|range| format!("{}/{}", range.subnet(), range.prefix()))
        .collect();
    // A subnet that is split into ranges is one.
    subnets.dedup();
    let mut note = store.note()?;
    if note.subnets() != subnets {
        note.set_subnets(subnets);
        store.set_note(&note)?;
    }
    Ok(())
}

fn owner(invocation: &Invocation) -> Result<Owner, Error> {
    let (container, interface) = invocation.attachment()?;
    Ok(Owner::new(container, interface))
}

fn boot() -> Result<Boot, Error> {
    Ok(Boot::current().map_err(StoreError::Boot)?)
}

fn ip_config(grant: &Grant) -> Result<IpConfig, Error> {
    let address = Cidr::new(grant.address, grant.prefix).map_err(AllocateError::Prefix)?;
    Ok(IpConfig {
        interface: None,
        address,
        gateway: Some(grant.gateway),
    })
}

fn full(set: &RangeSet) -> AllocateError {
    let set = set.to_string();
    AllocateError::Full { set }
}

#[cfg(test)]
#[path = "host_local_tests.rs"]
mod tests;
