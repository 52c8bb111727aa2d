//! Files that are complete or absent: written as a draft, then renamed. Drafts lie in a directory of their
//! own, so that a directory of records holds nothing but records whenever a writer is killed.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{directory, files};

/// Only root reads and writes it.
pub const PRIVATE: u32 = 0o600;
/// Root writes it, and every user reads it: a container's resolv.conf and hosts.
pub const READABLE: u32 = 0o644;

/// Drafts of this process so far.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Writes a file in place of an older one. `drafts` is a directory of the same file system. Both directories
/// are made when they are missing.
///
/// # Errors
/// Those of the system calls; nothing has changed then.
pub fn replace(drafts: &Path, path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    put(drafts, path, text, mode, false)
}

/// As [`replace`], and the file is on the disk when this returns: a machine that loses its power a moment later has it.
///
/// # Errors
/// Those of the system calls. When the last one failed, the file is there and may not be on the disk.
pub fn replace_on_disk(drafts: &Path, path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    put(drafts, path, text, mode, true)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn put(drafts: &Path, path: &Path, text: &[u8], mode: u32, to_disk: bool) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    directory::again_with(parent, || {
        let (draft, file) = directory::again_with(drafts, || create(drafts))?;
        let written = || {
            (&file).write_all(text)?;
            if mode != PRIVATE {
                // The mode of open(2) goes through the umask.
                file.set_permissions(Permissions::from_mode(mode))?;
            }
            if to_disk {
                file.sync_all()?;
            }
            fs::rename(&draft, path)
        };
        written().inspect_err(|_| drop(fs::remove_file(&draft)))
    })
}

/// A new draft, locked as long as it is open: [`sweep`] leaves it alone.
fn create(drafts: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let draft = drafts.join(format!("{}-{number}", std::process::id()));
        let mut options = File::options();
        options.write(true).create_new(true).mode(PRIVATE);
        match files::open(&mut options, &draft) {
            // An earlier process of this number was killed, or something else lies there.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::InvalidInput
                ) => {}
            Err(error) => {
                // It may have been made before the failure.
                drop(fs::remove_file(&draft));
                return Err(error);
            }
            Ok(file) => {
                match file.try_lock() {
                    Ok(()) => return Ok((draft, file)),
                    // A sweep came between open and lock, and removes it.
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        drop(fs::remove_file(&draft));
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Removes drafts whose writers were killed: they hold no lock any more.
pub(crate) fn sweep(drafts: &Path) {
    for entry in fs::read_dir(drafts).into_iter().flatten().flatten() {
        let path = entry.path();
        match files::open(File::options().read(true), &path) {
            // Its writer lives, or the system does not tell.
            Ok(file) if file.try_lock().is_err() => {}
            // The lock is held until the file is gone.
            Ok(_file) => drop(fs::remove_file(&path)),
            // Renamed meanwhile, or no file that a plugin makes.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_complete_or_absent_and_only_the_dead_lose_drafts() {
        let dir = tempfile::tempdir().unwrap();
        let (drafts, path) = (dir.path().join("draft"), dir.path().join("a/b/file"));
        replace(&drafts, &path, b"one", PRIVATE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        replace(&drafts, &path, b"two", READABLE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&drafts).unwrap().count(), 0);

        let (living, file) = create(&drafts).unwrap();
        fs::write(drafts.join("1-0"), b"x").unwrap();
        sweep(&drafts);
        assert!(living.exists() && !drafts.join("1-0").exists());
        drop(file);
        sweep(&drafts);
        assert!(!living.exists());
    }

    #[test]
    fn a_planted_draft_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"kept").unwrap();
        let drafts = dir.path().join("draft");
        fs::create_dir(&drafts).unwrap();
        let next = NUMBER.load(Ordering::Relaxed);
        for number in next..next + 64 {
            let planted = drafts.join(format!("{}-{number}", std::process::id()));
            std::os::unix::fs::symlink(&victim, planted).unwrap();
        }
        replace(&drafts, &dir.path().join("file"), b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"new");
    }

    #[test]
    fn writers_and_removers_of_the_directories_meet() {
        let dir = tempfile::tempdir().unwrap();
        let drafts = dir.path().join("state/draft");
        let target = dir.path().join("state/net");
        std::thread::scope(|scope| {
            let (drafts, target) = (&drafts, &target);
            for writer in 0..3 {
                scope.spawn(move || {
                    for _ in 0..300 {
                        let path = target.join(writer.to_string());
                        replace(drafts, &path, b"text", PRIVATE).unwrap();
                        fs::remove_file(&path).unwrap();
                        let _ = fs::remove_dir(target);
                        sweep(drafts);
                        let _ = fs::remove_dir(drafts);
                    }
                });
            }
        });
    }
}
