//! Single files of a lease directory: leases and the round-robin cursors.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use pontoon_ledger::files;

use super::spare::LONGEST;
use super::{StoreError, spare};

/// Name of a lease that is being written where the filesystem has no unnamed
/// files. The lock is held, so one name is enough.
const UNFINISHED: &str = ".pontoon-lease";

/// The address that a file name stands for, if it is one as Go prints it
/// (which for IPv6 is RFC 5952, and so is Rust's `Display`).
pub(super) fn address_of(name: &str) -> Option<IpAddr> {
    let address: IpAddr = name.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if Ipv6Addr::to_ipv4_mapped(&v6).is_some());
    (!mapped && address.to_string() == name).then_some(address)
}

fn path_of(folder: &Path, address: IpAddr) -> PathBuf {
    folder.join(address.to_string())
}

/// Makes a lease, whole or not at all; false when the name is there already.
pub(super) fn create(folder: &Path, address: IpAddr, content: &[u8]) -> Result<bool, StoreError> {
    let path = path_of(folder, address);
    // Some filesystems have no O_TMPFILE, some sandboxes no /proc; whatever
    // the reason, a second name serves as well.
    spare::take(folder, &path, content)
        .and_then(|taken| match taken {
            Some(new) => Ok(new),
            None => link_unnamed(folder, &path, content),
        })
        .or_else(|_| link_named(folder, &path, content))
        .map_err(|source| StoreError::Write { path, source })
}

fn link_unnamed(folder: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = File::options()
        .write(true)
        .mode(0o600)
        .custom_flags(OFlag::O_TMPFILE.bits())
        .open(folder)?;
    file.write_all(content)?;
    super::fault("ipam-written").map_err(io::Error::other)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Through /proc, because AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH.
    match linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    ) {
        Ok(()) => Ok(true),
        Err(nix::Error::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn link_named(folder: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
    let unfinished = folder.join(UNFINISHED);
    // One left by a kill may be a lease by its other name: it must not be
    // written to, only lose this name.
    remove_unfinished(folder)?;
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(content)?;
    super::fault("ipam-written").map_err(io::Error::other)?;
    let linked = match fs::hard_link(&unfinished, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    };
    super::fault("ipam-two-names").map_err(io::Error::other)?;
    remove_unfinished(folder)?;
    linked
}

/// Takes away the second name of a lease, or half a lease.
pub(super) fn remove_unfinished(folder: &Path) -> io::Result<()> {
    gone(fs::remove_file(folder.join(UNFINISHED)))
}

/// The content of a lease; `None` when there is none.
pub(super) fn read(folder: &Path, address: IpAddr) -> Result<Option<Vec<u8>>, StoreError> {
    let path = path_of(folder, address);
    let mut content = Vec::new();
    let opened = files::open(File::options().read(true), &path);
    match opened.and_then(|file| file.take(LONGEST).read_to_end(&mut content)) {
        Ok(_) => Ok(Some(content)),
        // What is no regular file is no lease.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(source) => Err(StoreError::Read { path, source }),
    }
}

/// Removes a lease; one that is gone is no error.
pub(super) fn remove(folder: &Path, address: IpAddr) -> Result<(), StoreError> {
    let path = path_of(folder, address);
    match spare::keep(folder, &path) {
        Ok(true) => Ok(()),
        _ => gone(fs::remove_file(&path)).map_err(|source| StoreError::Remove { path, source }),
    }
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn cursor(folder: &Path, set: usize) -> PathBuf {
    folder.join(format!("last_reserved_ip.{set}"))
}

/// The cursor of a range set; one that holds no address is none.
pub(super) fn last_reserved(folder: &Path, set: usize) -> Result<Option<IpAddr>, StoreError> {
    cursor_at(cursor(folder, set))
}

/// The address in a cursor file.
pub(crate) fn cursor_at(path: PathBuf) -> Result<Option<IpAddr>, StoreError> {
    match files::read(&path, LONGEST) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().parse().ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read { path, source }),
    }
}

/// Writes the cursor in place: new text over old, then cut to length. A kill
/// in between leaves the cursor elsewhere, which costs nothing.
pub(super) fn set_last_reserved(
    folder: &Path,
    set: usize,
    address: IpAddr,
) -> Result<(), StoreError> {
    let path = cursor(folder, set);
    let text = address.to_string();
    let write = || {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = files::open(&mut options, &path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    };
    write().map_err(|source| StoreError::Write {
        path: path.clone(),
        source,
    })
}
