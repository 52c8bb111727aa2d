//! Namespaces with a name: a file that the namespace is mounted on, as `ip netns` keeps them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{CURRENT, Netns, NetnsError, on_a_thread};

impl Netns {
    /// Makes a namespace and names it by mounting it on a new file. Its loopback interface is down.
    ///
    /// # Errors
    /// When the file cannot be made, the namespace not be made, or not be mounted there.
    pub fn create_at(path: &Path) -> Result<Netns, NetnsError> {
        if let Some(parent) = path.parent() {
            share(parent)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(path);
        file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => NetnsError::Exists {
                path: path.to_owned(),
            },
            _ => NetnsError::io("create", path)(error),
        })?;
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NetnsError::io("make a network namespace for", path)(e.into()))?;
            mount(
                Some(CURRENT),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .map_err(|e| NetnsError::io("mount a network namespace on", path)(e.into()))?;
            Netns::open(path)
        });
        if made.is_err() {
            // The first error is the one to tell; an empty file that stays is found by the next attempt.
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Unmounts the namespace and removes its file. What is gone already is success. The namespace itself ends with its
    /// last user.
    ///
    /// # Errors
    /// When the mount or the file cannot be removed.
    pub fn remove_at(path: &Path) -> Result<(), NetnsError> {
        match umount2(path, MntFlags::MNT_DETACH) {
            // EINVAL: no mount here, as after a crash between the creation of the file and the mount.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(NetnsError::io("unmount", path)(errno.into())),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetnsError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Makes the directory a shared mount, so that a namespace mounted below is seen, and its unmounting too, in other mount
/// namespaces: a copy left behind in one of them would keep the network namespace alive.
fn share(directory: &Path) -> Result<(), NetnsError> {
    // As ip-netns(8) makes it, whatever the umask is.
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory);
    made.map_err(NetnsError::io("create", directory))?;
    let shared = || {
        mount(
            None::<&str>,
            directory,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    let done = match shared() {
        // Not a mount point yet: mount it on itself.
        Err(Errno::EINVAL) => mount(
            Some(directory),
            directory,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .and_then(|()| shared()),
        other => other,
    };
    done.map_err(|e| NetnsError::io("make a shared mount of", directory)(e.into()))
}
