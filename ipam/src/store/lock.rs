//! The lock of a lease directory.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::StoreError;

/// The directory and the `flock` on the file `lock` in it, held until dropped.
/// It has to be `flock`: the reference takes that one, and the kernel keeps
/// it apart from the `fcntl` locks.
#[derive(Debug)]
pub(super) struct Lock {
    folder: File,
    _held: File,
}

impl Lock {
    /// Waits for the lock; makes the directory when it is missing.
    pub(super) fn acquire(folder: &Path) -> Result<Lock, StoreError> {
        loop {
            if let Some(lock) = Lock::acquire_existing(folder)? {
                return Ok(lock);
            }
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(|source| StoreError::Open {
                    folder: folder.to_owned(),
                    source,
                })?;
        }
    }

    /// Waits for the lock; `None` when there is no directory.
    pub(super) fn acquire_existing(folder: &Path) -> Result<Option<Lock>, StoreError> {
        let path = folder.join("lock");
        loop {
            let directory = match File::open(folder) {
                Ok(directory) => directory,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(StoreError::Open {
                        folder: folder.to_owned(),
                        source,
                    });
                }
            };
            let failed = |source| StoreError::Lock {
                folder: folder.to_owned(),
                source,
            };
            let held = match open(&path) {
                Ok(held) => held,
                // Removed since it was opened: look again.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(failed(source)),
            };
            held.lock().map_err(failed)?;
            // Another process may have removed the directory while we waited, and
            // then this is the lock of nothing.
            match fs::metadata(&path) {
                Ok(now) if same_file(&now, &held.metadata().map_err(failed)?) => {
                    return Ok(Some(Lock {
                        folder: directory,
                        _held: held,
                    }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(failed(source)),
            }
        }
    }

    /// The directory itself.
    pub(super) fn folder(&self) -> &File {
        &self.folder
    }
}

/// Read-only and created at once, with the reference's mode.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = File::options();
    options.read(true).mode(0o750).custom_flags(flags.bits());
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the file lock in it is no regular file: remove it",
        ))
    }
}

fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}
