//! Files put aside by released leases, to become leases again.
//!
//! Making a file is slow where files were removed lately: ext4 without a
//! journal passes over every inode that was freed within the last minutes,
//! 0.8 ms after some hundred leases. So the file of a released lease is
//! emptied of its owner and kept under another name, and the next lease is
//! that file. At most [`SPARES`] of them lie in a lease directory.
//!
//! To the reference a spare is a file without an owner: it reads every
//! file of the directory to find an owner's, and compares what is left
//! without white space. Who is killed on the way leaves a spare with an
//! owner in it, which is no lease by its name, or a lease that has the name
//! of a spare as well, which the number of its names tells.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// No container id and interface name are longer than this together; what
/// is, is no lease that could be released.
pub(super) const LONGEST: u64 = 4096;

/// Enough for containers that come and go a few at a time.
const SPARES: usize = 4;

fn spares(folder: &Path) -> impl Iterator<Item = PathBuf> {
    (0..SPARES).map(move |number| folder.join(format!(".pontoon-spare.{number}")))
}

/// Makes a spare file the lease `path`; false when that name is there
/// already, `None` when there is no spare.
pub(super) fn take(folder: &Path, path: &Path, content: &[u8]) -> io::Result<Option<bool>> {
    for spare in spares(folder) {
        let Some((file, length)) = open(&spare) else {
            continue;
        };
        let linked = fill(&file, length, content)
            .and_then(|()| super::fault("ipam-written").map_err(io::Error::other))
            .and_then(|()| match fs::hard_link(&spare, path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            });
        if let Ok(true) = linked {
            super::crash("ipam-two-names");
            // One that keeps this name is seen by the number of its names.
            let _ = fs::remove_file(&spare);
        } else {
            clear(&spare, &file, content.len() as u64);
        }
        return linked.map(Some);
    }
    Ok(None)
}

/// Puts the file of a released lease aside; false when there are enough.
pub(super) fn keep(folder: &Path, path: &Path) -> io::Result<bool> {
    // No other process makes spares: the lock is held.
    let free = spares(folder).find(|spare| spare.symlink_metadata().is_err());
    let Some(spare) = free else {
        return Ok(false);
    };
    match fs::rename(path, &spare) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        outcome => outcome?,
    }
    super::crash("ipam-put-aside");
    if let Some((file, length)) = open(&spare) {
        clear(&spare, &file, length);
    }
    Ok(true)
}

/// A spare and its length. What cannot serve as one goes.
fn open(spare: &Path) -> Option<(File, u64)> {
    let mut options = File::options();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    options.write(true).custom_flags(flags.bits());
    let usable = match options.open(spare) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(_) => None,
        Ok(file) => file
            .metadata()
            .ok()
            .filter(|seen| seen.is_file() && seen.nlink() == 1 && seen.len() <= LONGEST)
            .map(|seen| (file, seen.len())),
    };
    if usable.is_none() {
        let _ = fs::remove_file(spare);
    }
    usable
}

fn fill(file: &File, length: u64, content: &[u8]) -> io::Result<()> {
    file.write_all_at(content, 0)?;
    if length > content.len() as u64 {
        file.set_len(content.len() as u64)?;
    }
    Ok(())
}

/// Writes blanks over the owner, which is cheaper than to give the block of
/// the file back and to take one again.
fn clear(spare: &Path, file: &File, length: u64) {
    let blanks = vec![b'\n'; usize::try_from(length).unwrap_or_default()];
    if file.write_all_at(&blanks, 0).is_err() {
        let _ = fs::remove_file(spare);
    }
}
