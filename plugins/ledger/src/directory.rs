//! Directories of the state. They are made for root alone, whatever umask the runtime has: with a umask
//! of 0 every user could write them, with the usual 022 every user could list all containers.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use pontoon_conf::Error;

use crate::error::{FileError, StateError};

/// Only root lists, enters and writes it.
const PRIVATE: u32 = 0o700;
/// Only root lists and writes it. A runtime that opens a container's resolv.conf with the rights of that
/// container's user namespace can still reach a file whose path it was given.
const TRAVERSABLE: u32 = 0o711;
/// Write permission of the group and of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Read permission of the group and of others.
const LISTABLE_BY_OTHERS: u32 = 0o044;
/// How often a directory is made again that the DEL of the last attachment removes at the same time.
const ATTEMPTS: usize = 1000;

/// Makes a directory, and those above it that are missing, with mode 0700.
///
/// # Errors
/// Those of mkdir(2). `NotFound` when one of them was removed meanwhile.
pub fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(PRIVATE).create(dir) {
        // It was there when it was made, and gone when it was looked at.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::symlink_metadata(dir) {
            Err(gone) if gone.kind() == ErrorKind::NotFound => Err(gone),
            _ => Err(error),
        },
        made => made,
    }
}

/// Makes a directory as [`make`] does, and lets every user enter it and its parents up to `root`, without
/// listing them: for the files that a container reads.
///
/// # Errors
/// As [`make`], and those of chmod(2).
pub fn make_traversable(dir: &Path, root: &Path) -> io::Result<()> {
    again_with(dir, || {
        for dir in dir.ancestors().take_while(|dir| dir.starts_with(root)) {
            if fs::metadata(dir)?.mode() & 0o777 != TRAVERSABLE {
                fs::set_permissions(dir, Permissions::from_mode(TRAVERSABLE))?;
            }
        }
        Ok(())
    })
}

/// Calls `act`, and makes `dir` and calls it again when it says `NotFound`: the DEL of the last attachment
/// may remove the directory at any moment.
///
/// # Errors
/// That of `act`, or that of making the directory.
pub fn again_with<T>(dir: &Path, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..ATTEMPTS {
        match act() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
        match make(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    act()
}

/// Removes a directory, unless there is something in it. Tells whether it is gone.
///
/// # Errors
/// With the path.
pub(crate) fn remove_empty(dir: &Path) -> Result<bool, FileError> {
    match fs::remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(FileError::of("remove", dir)(error)),
    }
}

/// Refuses a state directory that is another user's, or that others may write: what stands in it would not
/// be what a plugin has written. One that others may list, as releases before made it, is closed to them.
///
/// # Errors
/// Code 5 with the directory and what to do.
pub(crate) fn check(root: &Path) -> Result<(), Error> {
    let failed = |error| FileError::of("look at", root)(error);
    let there = match fs::metadata(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        there => there.map_err(failed)?,
    };
    let (owner, own, mode) = (there.uid(), geteuid().as_raw(), there.mode() & 0o7777);
    let path = root.to_owned();
    // Root of a user namespace may be shown the state of the host's root as another user's.
    if owner != own && own == 0 {
        return Err(StateError::OtherOwner { path, owner }.into());
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(StateError::WritableByOthers { path, mode }.into());
    }
    if mode & LISTABLE_BY_OTHERS != 0 && owner == own {
        close(root).map_err(failed)?;
    }
    Ok(())
}

/// Takes the directories of an older release out of other users' sight. The root comes last, so that a killed
/// run begins again.
fn close(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let traversable = entry.file_name() == "containers"
            || entry.file_name().to_string_lossy().starts_with("netns-");
        let mode = if traversable { TRAVERSABLE } else { PRIVATE };
        match fs::set_permissions(entry.path(), Permissions::from_mode(mode)) {
            // Removed meanwhile.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::set_permissions(root, Permissions::from_mode(TRAVERSABLE))
}

#[cfg(test)]
mod tests {
    use pontoon_conf::code;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn directories_are_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        make(&root.join("bridge/net")).unwrap();
        assert_eq!(mode(&root.join("bridge")), 0o700);
        make_traversable(&root.join("containers/c1"), &root).unwrap();
        for (path, expected) in [
            ("", 0o711),
            ("bridge", 0o700),
            ("containers", 0o711),
            ("containers/c1", 0o711),
        ] {
            assert_eq!(mode(&root.join(path)), expected, "{path}");
        }
        check(&root).unwrap();
    }

    #[test]
    fn an_older_releases_state_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        for part in ["bridge", "containers", "netns-7"] {
            fs::create_dir_all(root.join(part)).unwrap();
            fs::set_permissions(root.join(part), Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        check(&root).unwrap();
        for (path, expected) in [
            ("", 0o711),
            ("bridge", 0o700),
            ("containers", 0o711),
            ("netns-7", 0o711),
        ] {
            assert_eq!(mode(&root.join(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_state_directory_of_others_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        check(&root).unwrap();
        make(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o770)).unwrap();
        let error = check(&root).unwrap_err();
        assert_eq!(error.code, code::IO);
        assert!(
            error.msg.contains("mode 0770") && error.details.contains("chmod"),
            "{error:?}"
        );
        assert!(error.msg.contains(root.to_str().unwrap()), "{error:?}");
        fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(&root, Some(65_534), None).unwrap();
        let error = check(&root).unwrap_err();
        assert!(error.msg.contains("belongs to user 65534"), "{error:?}");
    }
}
