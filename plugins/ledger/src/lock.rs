//! `flock` on a file that goes away with its last holder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{directory, files};

/// A held lock. Dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for exclusive possession of the lock file, which is created when it is missing.
    ///
    /// # Errors
    /// When the file or its directory cannot be made, or locking is not possible there.
    pub fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, File::lock)
    }

    /// Waits until no process holds the lock exclusively.
    ///
    /// # Errors
    /// As [`Lock::exclusive`].
    pub fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, File::lock_shared)
    }

    /// Removes the file and releases the lock. Only for an exclusive holder: a process that waits for the
    /// removed file sees that the path no longer leads to it, and starts again.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn take(path: &Path, lock: fn(&File) -> io::Result<()>) -> io::Result<Self> {
        loop {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let file = directory::again_with(parent, || open(path))?;
            lock(&file)?;
            if leads_to(path, &file)? {
                return Ok(Self {
                    file,
                    path: path.to_owned(),
                });
            }
        }
    }

    /// Removes the file of a lock that no process holds; one that is held stays.
    pub(crate) fn remove_unheld(path: &Path) {
        let Ok(file) = files::open(File::options().read(true), path) else {
            return;
        };
        if file.try_lock().is_ok() && leads_to(path, &file).unwrap_or(false) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether the path still leads to this file: its last holder may have removed it.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(seen) => Ok((seen.dev(), seen.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    files::open(options.mode(0o600), path)
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_holder_at_a_time_even_when_the_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let inside = AtomicUsize::new(0);
        let turns = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (path, inside, turns) = (&path, &inside, &turns);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let lock = Lock::exclusive(path).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        if number % 2 == 0 {
                            lock.remove()
                        } else {
                            drop(lock)
                        }
                    }
                });
            }
        });
        assert_eq!(turns.load(Ordering::SeqCst), 800);
    }
}
