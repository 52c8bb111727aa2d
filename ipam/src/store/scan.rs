//! Reading a whole lease directory: how an index is made.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::path::Path;

use pontoon_ledger::files;

use super::{StoreError, lease, spare};
use crate::alive;
use crate::boot::Boot;
use crate::index::{Identity, Index, hash};
use crate::owner;

/// What is to be done about a directory entry.
enum EntryAction {
    /// A lease with content of this hash.
    Lease(u64),
    /// A leftover without an owner.
    Stale,
    /// Older than the boot by its time, with content of this hash.
    Old(u64),
}

/// Reads all leases, removes what is stale, and returns the index of the rest.
/// `new_boot`: the leases were made before the machine was started, except
/// those that a program without knowledge of boots made since.
pub(super) fn scan(
    folder: &Path,
    boot: &Boot,
    new_boot: bool,
    identity: &Identity,
) -> Result<Index, StoreError> {
    let failed = |source| StoreError::Scan {
        folder: folder.to_owned(),
        source,
    };
    lease::remove_unfinished(folder).map_err(failed)?;
    let mut leases: Vec<(u64, IpAddr)> = Vec::new();
    let mut occupied = Vec::new();
    let mut old_leases: Vec<(u64, IpAddr)> = Vec::new();
    let began = Cell::new(None);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(address) = entry.file_name().to_str().and_then(lease::address_of) else {
            continue;
        };
        let old = |file: &File| {
            if began.get().is_none() {
                began.set(Some(boot.began()?));
            }
            Ok(Some(file.metadata()?.modified()?) < began.get())
        };
        if !entry.file_type().map_err(failed)?.is_file() {
            // A symbolic link, a fifo, a directory: whatever it is, it has the name.
            occupied.push(address);
            continue;
        }
        match look(&entry.path(), new_boot, old).map_err(failed)? {
            EntryAction::Lease(key) => leases.push((key, address)),
            EntryAction::Old(key) => old_leases.push((key, address)),
            EntryAction::Stale => {
                super::fault("ipam-stale")?;
                lease::remove(folder, address)?;
            }
        }
    }
    let alive = answering(&old_leases).map_err(failed)?;
    for (key, address) in old_leases {
        if alive.contains(&address) {
            leases.push((key, address));
        } else {
            super::fault("ipam-stale")?;
            lease::remove(folder, address)?;
        }
    }
    let mut index = Index::empty(identity.clone(), leases.len() as u64);
    let damaged = |error: crate::index::IndexError| StoreError::Index {
        folder: folder.to_owned(),
        reason: error.to_string(),
    };
    for (key, address) in leases {
        index.insert(key, address).map_err(damaged)?;
    }
    for address in occupied {
        index.block(address).map_err(damaged)?;
    }
    Ok(index)
}

/// Those of the addresses that live although their leases look older than the boot.
fn answering(leases: &[(u64, IpAddr)]) -> io::Result<HashSet<IpAddr>> {
    if leases.is_empty() {
        return Ok(HashSet::new());
    }
    let addresses: Vec<IpAddr> = leases.iter().map(|(_, address)| *address).collect();
    alive::answering(&addresses).map_err(io::Error::other)
}

fn look(
    path: &Path,
    new_boot: bool,
    old: impl Fn(&File) -> io::Result<bool>,
) -> io::Result<EntryAction> {
    let mut file = match files::open(File::options().read(true), path) {
        Ok(file) => file,
        // Removed by a program that does not take the lock.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(EntryAction::Stale),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.by_ref()
        .take(spare::LONGEST)
        .read_to_end(&mut content)?;
    let key = owner::key_of(&content);
    if key.is_empty() {
        // Made but not filled by one who died: no process can be filling it,
        // because we hold the lock.
        return Ok(EntryAction::Stale);
    }
    if (new_boot || !owner::is_key(key)) && old(&file)? {
        return Ok(EntryAction::Old(hash(key)));
    }
    Ok(EntryAction::Lease(hash(key)))
}
