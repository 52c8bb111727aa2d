//! Things with numbers: a number is never taken for that of a thing which has gone.

/// A place in a slab, and the how manieth thing in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    index: u32,
    turn: u32,
}

/// What fits into the token of an epoll event beside the kind.
const BITS: u32 = 28;
const MASK: u32 = (1 << BITS) - 1;

impl Id {
    /// As 56 bits.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.turn) << BITS | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32 & MASK,
            turn: (bits >> BITS) as u32 & MASK,
        }
    }
}

/// Things by number.
pub(crate) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, thing: T) -> Id {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.1 = Some(thing);
        Id {
            index,
            turn: slot.0,
        }
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 == id.turn {
            slot.1.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.0 == id.turn {
            slot.1.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.0 != id.turn {
            return None;
        }
        let thing = slot.1.take()?;
        slot.0 = slot.0.wrapping_add(1) & MASK;
        self.free.push(id.index);
        self.len -= 1;
        Some(thing)
    }

    pub(crate) fn ids(&self) -> Vec<Id> {
        let there = |(index, slot): (usize, &(u32, Option<T>))| {
            slot.1.as_ref().map(|_| Id {
                index: index as u32,
                turn: slot.0,
            })
        };
        self.slots.iter().enumerate().filter_map(there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_number_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        let read = Id::from_bits(second.to_bits());
        assert_eq!(slab.get_mut(read), Some(&mut "b"));
        assert_eq!((slab.len(), slab.ids()), (1, vec![second]));
    }
}
