//! The index file's header: whose index it is, and of which moment.

use std::io;

use super::pages::Pages;
use super::{BLOCK_BYTES, HEADER_SIZE, SLOT, hash};

const MAGIC: [u8; 8] = *b"pontoon1";
const FIELDS: usize = 10;
/// Magic, fields, and a checksum over both.
const USED: usize = 8 + FIELDS * 8 + 8;

/// A modification time of the lease directory. After each of its own changes the
/// directory's mtime is set to a moment in the past that it never had before,
/// and the same is noted here. Another program that makes or removes a lease moves the
/// mtime to the present, and the two differ from then on. So they do when we
/// are killed half way: the order is leases, index, mtime, header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

/// The directory and the boot an index belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) boot: u64,
}

/// The first page of an index.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) identity: Identity,
    pub(crate) stamp: Stamp,
    pub(super) leases: u64,
    pub(super) owner_slots: u64,
    /// Slots in use, those of removed leases included.
    pub(super) owners_filled: u64,
    pub(super) block_slots: u64,
    pub(super) blocks: u64,
}

impl Header {
    pub(super) fn new(identity: Identity, owner_slots: u64, block_slots: u64) -> Header {
        Header {
            identity,
            stamp: Stamp::default(),
            leases: 0,
            owner_slots,
            owners_filled: 0,
            block_slots,
            blocks: 0,
        }
    }

    pub(super) fn owner_at(&self, slot: u64) -> u64 {
        HEADER_SIZE + slot * SLOT
    }

    pub(super) fn block_at(&self, slot: u64) -> u64 {
        self.owner_at(self.owner_slots) + slot * SLOT
    }

    pub(super) fn bitmap_at(&self, block: u64) -> u64 {
        self.block_at(self.block_slots) + block * BLOCK_BYTES
    }

    /// Bytes up to the end of the last block.
    pub(super) fn size(&self) -> u64 {
        self.bitmap_at(self.blocks)
    }

    fn fields(&self) -> [u64; FIELDS] {
        [
            self.identity.device,
            self.identity.inode,
            self.identity.boot,
            self.stamp.seconds.cast_unsigned(),
            self.stamp.nanoseconds.cast_unsigned(),
            self.leases,
            self.owner_slots,
            self.owners_filled,
            self.block_slots,
            self.blocks,
        ]
    }

    /// `None` for a header that Pontoon has not written, or not whole.
    pub(super) fn read(pages: &Pages) -> io::Result<Option<Header>> {
        let bytes: [u8; USED] = pages.read(0)?;
        let field = |number: usize| -> u64 {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[8 + number * 8..16 + number * 8]);
            u64::from_le_bytes(word)
        };
        if bytes[..8] != MAGIC || hash(&bytes[..USED - 8]) != field(FIELDS) {
            return Ok(None);
        }
        Ok(Some(Header {
            identity: Identity {
                device: field(0),
                inode: field(1),
                boot: field(2),
            },
            stamp: Stamp {
                seconds: field(3).cast_signed(),
                nanoseconds: field(4).cast_signed(),
            },
            leases: field(5),
            owner_slots: field(6),
            owners_filled: field(7),
            block_slots: field(8),
            blocks: field(9),
        }))
    }

    pub(super) fn write(&self, pages: &mut Pages) -> io::Result<()> {
        let mut bytes = [0; USED];
        bytes[..8].copy_from_slice(&MAGIC);
        for (number, field) in self.fields().iter().enumerate() {
            bytes[8 + number * 8..16 + number * 8].copy_from_slice(&field.to_le_bytes());
        }
        let sum = hash(&bytes[..USED - 8]);
        bytes[USED - 8..].copy_from_slice(&sum.to_le_bytes());
        pages.write(0, &bytes)
    }
}
