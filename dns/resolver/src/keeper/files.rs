//! What of the state directory the worker may see: opened for it below that directory only, component
//! by component, without following a link.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, statat};

use crate::plugin_records::KINDS;

/// What a path of the state directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    File,
    Directory,
    /// A record of another plugin: the worker is told whether it is there, and not what is in it.
    Hidden,
}

/// The components of a path that the worker may ask for; `None` for any other.
pub(super) fn components(path: &str) -> Option<(Vec<&str>, PathKind)> {
    let components: Vec<&str> = path.split('/').collect();
    let plain =
        |part: &&str| !part.is_empty() && !matches!(*part, "." | "..") && !part.contains('\0');
    if !components.iter().all(plain) {
        return None;
    }
    let shape = match components[..] {
        ["dns", "records"] | ["dns", "records", _] | ["dns", "remote"] => PathKind::Directory,
        ["dns", "records", _, _] | ["dns", "remote", _] | ["policy" | "network", _] => {
            PathKind::File
        }
        [kind] | [kind, _] if KINDS.contains(&kind) => PathKind::Directory,
        [kind, _, _] if KINDS.contains(&kind) => PathKind::Hidden,
        _ => return None,
    };
    Some((components, shape))
}

/// Opens a path below the state directory. `None` when it is not there.
///
/// # Errors
/// The system call's, or that it is of another kind: a link, a FIFO.
pub(super) fn open(
    state: &Path,
    components: &[&str],
    shape: PathKind,
) -> io::Result<Option<OwnedFd>> {
    match walk(state, components, shape) {
        Ok(file) => {
            let kind = FileType::from_raw_mode(fstat(&file)?.st_mode);
            let criteria = match shape {
                PathKind::Directory => FileType::Directory,
                PathKind::File | PathKind::Hidden => FileType::RegularFile,
            };
            if kind == criteria {
                Ok(Some(file))
            } else {
                Err(io::Error::other("it is no regular file"))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something is there, a link included.
pub(super) fn exists(state: &Path, components: &[&str]) -> bool {
    let Some((last, parents)) = components.split_last() else {
        return false;
    };
    directory(state, parents)
        .is_ok_and(|dir| statat(&dir, *last, AtFlags::SYMLINK_NOFOLLOW).is_ok())
}

fn walk(state: &Path, components: &[&str], shape: PathKind) -> io::Result<OwnedFd> {
    let Some((last, parents)) = components.split_last() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let dir = directory(state, parents)?;
    // A FIFO is not waited for.
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    flags.set(OFlags::DIRECTORY, shape == PathKind::Directory);
    Ok(openat(&dir, *last, flags, Mode::empty())?)
}

/// A directory below the state directory, which itself may be reached by links of the admin's.
pub(super) fn directory(state: &Path, components: &[&str]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, state, flags, Mode::empty())?;
    for part in components {
        dir = openat(&dir, *part, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn see(state: &Path, path: &str) -> Result<bool, String> {
        let (parts, shape) = components(path).ok_or("refused")?;
        open(state, &parts, shape)
            .map(|file| file.is_some())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_outside_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        for path in [
            "dns/records/net",
            "dns/remote",
            "policy",
            "bridge/net",
            "network",
        ] {
            fs::create_dir_all(state.join(path)).unwrap();
        }
        for path in [
            "dns/records/net/c:eth0",
            "dns/remote/net",
            "policy/net",
            "bridge/net/c:eth0",
            "secret",
        ] {
            fs::write(state.join(path), "x").unwrap();
        }
        fs::write(dir.path().join("secret"), "x").unwrap();
        for path in [
            "dns/records",
            "dns/records/net",
            "dns/records/net/c:eth0",
            "dns/remote",
            "dns/remote/net",
            "policy/net",
            "bridge",
        ] {
            assert_eq!(see(&state, path), Ok(true), "{path}");
        }
        assert_eq!(see(&state, "policy/other"), Ok(false));
        for path in [
            "",
            "/",
            "/etc/shadow",
            "..",
            "../secret",
            "secret",
            "dns/records/../../secret",
            "dns/control",
            "dns/records/net/..",
            "dns//records",
            "dns/remote/net/x",
            "lock/.dns",
            "policy/net/x",
            "policy/.",
            "policy",
            "portmap/net",
            "policy/a\0b",
        ] {
            assert_eq!(see(&state, path), Err("refused".to_owned()), "{path}");
        }
        // Links, wherever they stand, lead nowhere.
        symlink(dir.path().join("secret"), state.join("policy/link")).unwrap();
        symlink(dir.path(), state.join("dns/records/out")).unwrap();
        for path in ["policy/link", "dns/records/out", "dns/records/out/secret"] {
            assert!(see(&state, path).is_err(), "{path}");
        }
        // Nor is a FIFO waited for, or handed over.
        nix::unistd::mkfifo(&state.join("policy/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(see(&state, "policy/fifo").is_err());
        assert!(exists(&state, &["bridge", "net", "c:eth0"]));
        assert!(!exists(&state, &["bridge", "net", "d:eth0"]));
    }
}
