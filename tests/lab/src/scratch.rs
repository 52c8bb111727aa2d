//! Directories that vanish with their owner.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use super::failure::{Failure, Outcome};

/// A directory of its own, removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory whose name is unique in the machine.
    pub fn new(purpose: &str) -> Outcome<Self> {
        let path = env::temp_dir().join(format!("pontoon-{purpose}-{}", unique()));
        fs::create_dir_all(&path).map_err(Failure::act(format!("create {}", path.display())))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-over files in a temporary directory are no reason to fail what is being reported.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A suffix that no other lab in the machine uses: the process, and a count within it.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
