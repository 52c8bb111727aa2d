//! The lock around read-and-write: only the paths that make or remove what is shared take it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::Error;

/// A holder runs two or three programs, each bounded.
const PATIENCE: Duration = Duration::from_secs(20);
const NAP: Duration = Duration::from_millis(2);

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _held: Flock<File>,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Lock {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let start = Instant::now();
        loop {
            if let Some(held) = attempt(&options, path).map_err(failed)? {
                return Ok(Self { _held: held });
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::LockBusy {
                    path: path.to_owned(),
                    seconds: PATIENCE.as_secs(),
                });
            }
            sleep(NAP);
        }
    }
}

/// The lock, when no process holds it. The file and its directory go with the last record of the host, and may do so
/// between any two calls: then this is the lock of nothing.
fn attempt(options: &OpenOptions, path: &Path) -> io::Result<Option<Flock<File>>> {
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            return match made {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(None),
            };
        }
        opened => opened?,
    };
    let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => held,
        Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    let own = held.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(now) => Ok(((now.dev(), now.ino()) == (own.dev(), own.ino())).then_some(held)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_comes_again_with_its_directory_and_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock/.iptables");
        let held = Lock::take(&path).unwrap();
        let mut other = OpenOptions::new();
        other.create(true).write(true);
        assert!(attempt(&other, &path).unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        // The first holder has the lock of nothing now.
        let next = Lock::take(&path).unwrap();
        drop(held);
        assert!(attempt(&other, &path).unwrap().is_none());
        drop(next);
        assert!(attempt(&other, &path).unwrap().is_some());
    }
}
