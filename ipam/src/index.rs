//! The index over a lease directory: owner -> addresses, and which addresses
//! are taken, without listing the directory.
//!
//! The lease files are the truth; this is a cache of them that may be thrown
//! away at any time. It lives in the runtime state directory, one file per
//! lease directory:
//!
//! ```text
//! header | owner slots, 32 bytes each | block slots, 32 bytes each | blocks
//! ```
//!
//! Owner slots are an open-addressing hash table from the hash of a lease's
//! content to its address. A block is a bitmap over 4,096 consecutive
//! addresses, found through the block slots, so that a sparse /64 costs no
//! more than a dense /20. Everything is read and written in place, a few
//! hundred bytes per operation; what outgrows its table is copied once into
//! one of twice the size.
//!
//! Whether the index speaks of the directory as it is now is decided by the
//! header's stamp, see [`Header`].

mod blocks;
mod header;
mod owners;
mod pages;

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use pontoon_ledger::files;

pub(crate) use header::{Header, Identity, Stamp};
use pages::Pages;

use crate::span::Span;

/// Why the index could not be used. Never shown to a user as such: the store
/// answers every one of them by rebuilding from the lease files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("cannot read or write the lease index")]
    Access(#[from] io::Error),
    #[error("the lease index is damaged: {0}")]
    Damaged(&'static str),
}

const HEADER_SIZE: u64 = 4096;
const SLOT: u64 = 32;
const BLOCK_BYTES: u64 = 512;
const LEAST_OWNERS: u64 = 512;
const LEAST_BLOCKS: u64 = 64;

/// The index of one lease directory.
#[derive(Debug)]
pub(crate) struct Index {
    pages: Pages,
    header: Header,
}

impl Index {
    /// An empty one, in memory, with room for so many leases.
    pub(crate) fn empty(identity: Identity, leases: u64) -> Index {
        let owner_slots = (leases * 2).next_power_of_two().max(LEAST_OWNERS);
        Index::sized(identity, owner_slots, LEAST_BLOCKS)
    }

    fn sized(identity: Identity, owner_slots: u64, block_slots: u64) -> Index {
        let header = Header::new(identity, owner_slots, block_slots);
        Index {
            pages: Pages::memory(header.size()),
            header,
        }
    }

    /// Opens the file if it is whole and belongs to this directory as it is.
    /// Anything else, a missing file included, is `None`: rebuild.
    pub(crate) fn open(path: &Path, identity: &Identity, stamp: Stamp) -> Option<Index> {
        let file = files::open(File::options().read(true).write(true), path).ok()?;
        let pages = Pages::file(file);
        let header = Header::read(&pages).ok()??;
        let current = header.identity == *identity && header.stamp == stamp;
        (current && pages.len().ok()? >= header.size()).then_some(Index { pages, header })
    }

    /// Number of leases it knows of.
    pub(crate) fn leases(&self) -> u64 {
        self.header.leases
    }

    /// Writes the header with the directory's new stamp; an index in memory
    /// becomes the file. From here on the index is valid again.
    pub(crate) fn commit(&mut self, path: &Path, stamp: Stamp) -> Result<(), IndexError> {
        self.header.stamp = stamp;
        self.header.write(&mut self.pages)?;
        Ok(self.pages.keep_at(path)?)
    }

    /// Removes the index at this path, and what a killed writer has left of it.
    pub(crate) fn delete(path: &Path) {
        pages::delete(path);
    }

    /// The addresses whose lease has content of this hash.
    pub(crate) fn owned_by(&self, hash: u64) -> Result<Vec<IpAddr>, IndexError> {
        owners::find(&self.pages, &self.header, hash)
    }

    /// Every lease, as hash of its content and address.
    pub(crate) fn entries(&self) -> Result<Vec<(u64, IpAddr)>, IndexError> {
        owners::all(&self.pages, &self.header)
    }

    /// Records a lease.
    pub(crate) fn insert(&mut self, hash: u64, address: IpAddr) -> Result<(), IndexError> {
        if owners::crowded(&self.header) || blocks::crowded(&self.header) {
            self.grow()?;
        }
        owners::insert(&mut self.pages, &mut self.header, hash, address)?;
        blocks::mark(&mut self.pages, &mut self.header, address, true)?;
        self.header.leases += 1;
        Ok(())
    }

    /// Marks an address as taken by something that is no lease.
    pub(crate) fn block(&mut self, address: IpAddr) -> Result<(), IndexError> {
        if blocks::crowded(&self.header) {
            self.grow()?;
        }
        blocks::mark(&mut self.pages, &mut self.header, address, true)
    }

    /// Forgets a lease.
    pub(crate) fn remove(&mut self, hash: u64, address: IpAddr) -> Result<(), IndexError> {
        if owners::remove(&mut self.pages, &mut self.header, hash, address)? {
            blocks::mark(&mut self.pages, &mut self.header, address, false)?;
            self.header.leases = self.header.leases.saturating_sub(1);
        }
        Ok(())
    }

    /// The lowest address of the span that is not taken.
    pub(crate) fn first_free(&self, span: &Span) -> Result<Option<IpAddr>, IndexError> {
        blocks::first_free(&self.pages, &self.header, span)
    }

    /// Copies what is alive into larger tables, in memory; `commit` then puts
    /// them in place of the old file. Needed once per doubling, so the cost
    /// per operation stays constant.
    fn grow(&mut self) -> Result<(), IndexError> {
        self.pages.load()?;
        let owner_slots = ((self.header.leases + 1) * 4)
            .next_power_of_two()
            .max(LEAST_OWNERS);
        let blocks = blocks::all(&self.pages, &self.header)?;
        let block_slots = (blocks.len() as u64 * 4)
            .next_power_of_two()
            .max(LEAST_BLOCKS);
        let mut larger = Index::sized(self.header.identity.clone(), owner_slots, block_slots);
        for (hash, address) in self.entries()? {
            owners::insert(&mut larger.pages, &mut larger.header, hash, address)?;
        }
        for block in &blocks {
            blocks::adopt(&mut larger, self, block)?;
        }
        larger.header.leases = self.header.leases;
        larger.header.stamp = self.header.stamp;
        *self = larger;
        Ok(())
    }
}

/// FNV-1a: spreads container ids well enough, and a collision only costs a
/// look at one more lease file.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// FNV leaves the low bits of similar inputs similar; tables are addressed by
/// low bits.
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
#[path = "index/tests.rs"]
mod tests;
