//! The lock around read-and-write: only the paths that make or remove what is shared take it.

use std::fs::{File, OpenOptions};
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
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let start = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Self { _held: held }),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(failed(errno.into())),
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
