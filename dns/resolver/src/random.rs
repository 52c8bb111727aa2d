//! Numbers that cannot be guessed, from the kernel.

use std::io::Read;

/// A pool of them.
#[derive(Default)]
pub(crate) struct RandomNumbers {
    pool: Vec<u8>,
}

impl RandomNumbers {
    pub(crate) fn word(&mut self) -> u16 {
        if self.pool.len() < 2 {
            let mut bytes = [0; 256];
            let read = std::fs::File::open("/dev/urandom")
                .and_then(|mut file| file.read_exact(&mut bytes));
            if read.is_err() {
                // The seed of a hash map is the kernel's randomness too.
                use std::hash::{BuildHasher, Hasher};
                for chunk in bytes.chunks_exact_mut(8) {
                    let state = std::collections::hash_map::RandomState::new();
                    chunk.copy_from_slice(&state.build_hasher().finish().to_ne_bytes());
                }
            }
            self.pool.extend_from_slice(&bytes);
        }
        let mut next = || self.pool.pop().unwrap_or_default();
        u16::from_be_bytes([next(), next()])
    }
}
