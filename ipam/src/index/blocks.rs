//! Which addresses are taken: bitmaps over 4,096 addresses each.
//!
//! Slot: address / 4,096 (16), state 1, zeros 3, block number 4, used 4,
//! checksum 4. A slot is never removed; growing drops those of empty blocks.

use std::net::IpAddr;

use super::header::Header;
use super::pages::Pages;
use super::{BLOCK_BYTES, Index, IndexError, SLOT, hash, spread};
use crate::span::{Family, Span, number};

/// log2 of the addresses per block.
const SHIFT: u32 = 12;
const ADDRESSES: u32 = 1 << SHIFT;
const SLOT_BYTES: usize = SLOT as usize;
const MAP_BYTES: usize = BLOCK_BYTES as usize;

/// A block slot in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    key: u128,
    state: u8,
    number: u32,
    used: u32,
}

fn damaged() -> IndexError {
    IndexError::Damaged("block slot")
}

impl Block {
    fn decode(bytes: &[u8; SLOT_BYTES]) -> Result<Option<Block>, IndexError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (body, sum) = bytes.split_at(28);
        if sum != checksum(body) {
            return Err(damaged());
        }
        let word = |at: usize| {
            body[at..at + 4]
                .try_into()
                .map(u32::from_le_bytes)
                .map_err(|_| damaged())
        };
        Ok(Some(Block {
            key: body[..16]
                .try_into()
                .map(u128::from_le_bytes)
                .map_err(|_| damaged())?,
            state: body[16],
            number: word(20)?,
            used: word(24)?,
        }))
    }

    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16] = self.state;
        bytes[20..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.used.to_le_bytes());
        let sum = checksum(&bytes[..28]);
        bytes[28..].copy_from_slice(&sum);
        bytes
    }
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = spread(hash(body)).to_le_bytes();
    [a, b, c, d]
}

fn state(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// The slot of a block, or the empty one where it would be put.
fn locate(
    pages: &Pages,
    header: &Header,
    family: Family,
    key: u128,
) -> Result<(u64, Option<Block>), IndexError> {
    let mask = header.block_slots - 1;
    let start = spread(hash(&key.to_le_bytes())) & mask;
    for step in 0..header.block_slots {
        let slot = (start + step) & mask;
        match Block::decode(&pages.read(header.block_at(slot))?)? {
            None => return Ok((slot, None)),
            Some(block) if block.key == key && block.state == state(family) => {
                return Ok((slot, Some(block)));
            }
            Some(_) => {}
        }
    }
    Err(IndexError::Damaged("block table without an empty slot"))
}

pub(super) fn crowded(header: &Header) -> bool {
    (header.blocks + 1) * 4 > header.block_slots * 3
}

/// Sets or clears the bit of an address.
pub(super) fn mark(
    pages: &mut Pages,
    header: &mut Header,
    address: IpAddr,
    taken: bool,
) -> Result<(), IndexError> {
    let family = Family::of(address);
    let key = number(address) >> SHIFT;
    // The low bits of an address, exact by the remainder.
    let bit = (number(address) % u128::from(ADDRESSES)) as u32;
    let (slot, found) = locate(pages, header, family, key)?;
    let mut block = match found {
        Some(block) => block,
        None if !taken => return Ok(()),
        None => {
            let number = u32::try_from(header.blocks).map_err(|_| damaged())?;
            header.blocks += 1;
            // The file ends where the last block ends.
            pages.write(header.bitmap_at(u64::from(number)), &[0; MAP_BYTES])?;
            Block {
                key,
                state: state(family),
                number,
                used: 0,
            }
        }
    };
    let at = header.bitmap_at(u64::from(block.number)) + u64::from(bit / 8);
    let [byte] = pages.read::<1>(at)?;
    let changed = if taken {
        byte | 1 << (bit % 8)
    } else {
        byte & !(1 << (bit % 8))
    };
    if changed != byte {
        pages.write(at, &[changed])?;
        block.used = if taken {
            block.used + 1
        } else {
            block.used.saturating_sub(1)
        };
    }
    Ok(pages.write(header.block_at(slot), &block.encode())?)
}

/// The lowest address of the span whose bit is clear. A full block is passed
/// over by its count; a missing one is all free, which ends the search.
pub(super) fn first_free(
    pages: &Pages,
    header: &Header,
    span: &Span,
) -> Result<Option<IpAddr>, IndexError> {
    let (first, last) = span.numbers();
    let mut from = first;
    loop {
        let key = from >> SHIFT;
        let end = last.min((key << SHIFT) | u128::from(ADDRESSES - 1));
        match locate(pages, header, span.family(), key)?.1 {
            None => return Ok(Some(span.family().address(from))),
            Some(block) if block.used < ADDRESSES => {
                let map: [u8; MAP_BYTES] = pages.read(header.bitmap_at(u64::from(block.number)))?;
                let low = (from % u128::from(ADDRESSES)) as usize;
                let high = (end % u128::from(ADDRESSES)) as usize;
                if let Some(bit) = clear_bit(&map, low, high) {
                    return Ok(Some(span.family().address(key << SHIFT | bit as u128)));
                }
            }
            Some(_) => {}
        }
        if end == last {
            return Ok(None);
        }
        from = end + 1;
    }
}

fn clear_bit(map: &[u8; MAP_BYTES], low: usize, high: usize) -> Option<usize> {
    let mut bit = low;
    while bit <= high {
        if bit.is_multiple_of(8) && map[bit / 8] == 0xff {
            bit += 8;
        } else if map[bit / 8] & 1 << (bit % 8) == 0 {
            return Some(bit);
        } else {
            bit += 1;
        }
    }
    None
}

/// Every block with an address taken.
pub(super) fn all(pages: &Pages, header: &Header) -> Result<Vec<Block>, IndexError> {
    let mut found = Vec::new();
    for slot in 0..header.block_slots {
        found.extend(
            Block::decode(&pages.read(header.block_at(slot))?)?.filter(|block| block.used > 0),
        );
    }
    Ok(found)
}

/// Copies a block of another index into this one, which has room for it.
pub(super) fn adopt(to: &mut Index, from: &Index, block: &Block) -> Result<(), IndexError> {
    let map: [u8; MAP_BYTES] = from
        .pages
        .read(from.header.bitmap_at(u64::from(block.number)))?;
    let family = if block.state == state(Family::V4) {
        Family::V4
    } else {
        Family::V6
    };
    let (slot, _) = locate(&to.pages, &to.header, family, block.key)?;
    let number = u32::try_from(to.header.blocks).map_err(|_| damaged())?;
    to.header.blocks += 1;
    to.pages
        .write(to.header.bitmap_at(u64::from(number)), &map)?;
    Ok(to.pages.write(
        to.header.block_at(slot),
        &Block { number, ..*block }.encode(),
    )?)
}
