//! The owner table: hash of a lease's content -> address.
//!
//! Slot: hash 8, address 16, state 1, zeros 3, checksum 4.

use std::net::IpAddr;

use super::header::Header;
use super::pages::Pages;
use super::{IndexError, SLOT, hash, spread};
use crate::span::{Family, number};

const EMPTY: u8 = 0;
/// A lease was here: a search goes on, an insertion may use the slot.
const REMOVED: u8 = 1;
const V4: u8 = 4;
const V6: u8 = 6;

/// Slots read at a time; a probe is seldom longer.
const WINDOW: usize = 8;
const SLOT_BYTES: usize = SLOT as usize;

enum Slot {
    Empty,
    Removed,
    Lease(u64, IpAddr),
}

fn decode(bytes: &[u8]) -> Result<Slot, IndexError> {
    let damaged = || IndexError::Damaged("owner slot");
    let (body, sum) = bytes.split_at_checked(28).ok_or_else(damaged)?;
    let family = match body[24] {
        // An empty slot is all zeros, so that a hole in the file is one.
        EMPTY if bytes.iter().all(|byte| *byte == 0) => return Ok(Slot::Empty),
        REMOVED => return Ok(Slot::Removed),
        V4 => Family::V4,
        V6 => Family::V6,
        _ => return Err(damaged()),
    };
    if sum != checksum(body) {
        return Err(damaged());
    }
    let key = u64::from_le_bytes(body[..8].try_into().map_err(|_| damaged())?);
    let address = u128::from_le_bytes(body[8..24].try_into().map_err(|_| damaged())?);
    Ok(Slot::Lease(key, family.address(address)))
}

fn encode(key: u64, address: IpAddr) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    bytes[8..24].copy_from_slice(&number(address).to_le_bytes());
    bytes[24] = match address {
        IpAddr::V4(_) => V4,
        IpAddr::V6(_) => V6,
    };
    let sum = checksum(&bytes[..28]);
    bytes[28..].copy_from_slice(&sum);
    bytes
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = spread(hash(body)).to_le_bytes();
    [a, b, c, d]
}

/// Visits the slots of a probe in order until `visit` says stop.
fn probe(
    pages: &Pages,
    header: &Header,
    key: u64,
    mut visit: impl FnMut(u64, Slot) -> bool,
) -> Result<(), IndexError> {
    let start = spread(key) & (header.owner_slots - 1);
    let mut slot = start;
    loop {
        let window: [u8; WINDOW * SLOT_BYTES] = pages.read(header.owner_at(slot))?;
        for bytes in window.chunks_exact(SLOT_BYTES) {
            if visit(slot, decode(bytes)?) {
                return Ok(());
            }
            slot += 1;
            if slot == header.owner_slots {
                // The window has run into the block slots: start over.
                slot = 0;
                break;
            }
            if slot == start {
                return Err(IndexError::Damaged("owner table without an empty slot"));
            }
        }
        if slot == start {
            return Err(IndexError::Damaged("owner table without an empty slot"));
        }
    }
}

pub(super) fn crowded(header: &Header) -> bool {
    (header.owners_filled + 1) * 4 > header.owner_slots * 3
}

pub(super) fn find(pages: &Pages, header: &Header, key: u64) -> Result<Vec<IpAddr>, IndexError> {
    let mut found = Vec::new();
    probe(pages, header, key, |_, slot| match slot {
        Slot::Empty => true,
        Slot::Lease(there, address) if there == key => {
            found.push(address);
            false
        }
        Slot::Removed | Slot::Lease(..) => false,
    })?;
    Ok(found)
}

pub(super) fn insert(
    pages: &mut Pages,
    header: &mut Header,
    key: u64,
    address: IpAddr,
) -> Result<(), IndexError> {
    let mut at = None;
    let mut reused = false;
    probe(pages, header, key, |slot, content| match content {
        Slot::Lease(..) => false,
        Slot::Empty | Slot::Removed => {
            at = Some(slot);
            reused = matches!(content, Slot::Removed);
            true
        }
    })?;
    let at = at.ok_or(IndexError::Damaged("owner table without an empty slot"))?;
    pages.write(header.owner_at(at), &encode(key, address))?;
    header.owners_filled += u64::from(!reused);
    Ok(())
}

/// Whether the lease was there.
pub(super) fn remove(
    pages: &mut Pages,
    header: &mut Header,
    key: u64,
    address: IpAddr,
) -> Result<bool, IndexError> {
    let mut at = None;
    let mut last_of_run = false;
    probe(pages, header, key, |slot, content| match (&content, at) {
        // One more step behind the lease, to see whether the run ends there.
        (_, Some(_)) => {
            last_of_run = matches!(content, Slot::Empty);
            true
        }
        (Slot::Empty, None) => true,
        (Slot::Lease(there, leased), None) if *there == key && *leased == address => {
            at = Some(slot);
            false
        }
        _ => false,
    })?;
    let Some(at) = at else {
        return Ok(false);
    };
    let mut bytes = [0; SLOT_BYTES];
    if last_of_run {
        header.owners_filled = header.owners_filled.saturating_sub(1);
    } else {
        bytes[24] = REMOVED;
    }
    pages.write(header.owner_at(at), &bytes)?;
    Ok(true)
}

pub(super) fn all(pages: &Pages, header: &Header) -> Result<Vec<(u64, IpAddr)>, IndexError> {
    let mut found = Vec::new();
    for slot in 0..header.owner_slots {
        let bytes: [u8; SLOT_BYTES] = pages.read(header.owner_at(slot))?;
        if let Slot::Lease(key, address) = decode(&bytes)? {
            found.push((key, address));
        }
    }
    Ok(found)
}
