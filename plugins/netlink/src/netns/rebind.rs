//! A path that leads to another namespace for a while: the other one is mounted over it.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;

use super::{Netns, NetnsError};

const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// The mount that a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetnsMount {
    /// Where it is, without symbolic links.
    pub point: PathBuf,
    /// The namespace, by its inode number.
    pub ino: u64,
    /// The namespace that it covers, when it was mounted over another one.
    pub covers: Option<u64>,
    /// What is mounted over it appears in other mount namespaces too (mount_namespaces(7)).
    pub shared: bool,
}

impl NetnsMount {
    /// The namespace that is mounted at a path, as the calling thread's mount namespace has it. `None` when none is:
    /// nothing is there, something else is, or the namespace is reached through a process (`/proc/PID/ns/net`) and is
    /// mounted nowhere.
    ///
    /// # Errors
    /// When `/proc/self/mountinfo` cannot be read.
    pub fn at(path: &Path) -> Result<Option<NetnsMount>, NetnsError> {
        let file = match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(error) => return Err(NetnsError::io("look at", path)(error.into())),
        };
        let info = PathBuf::from(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd()));
        let info = fs::read_to_string(&info).map_err(NetnsError::io("read", &info))?;
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))
            .map(str::trim)
            .unwrap_or_default();
        let table = fs::read_to_string(MOUNTS);
        let table = table.map_err(NetnsError::io("read", Path::new(MOUNTS)))?;
        Ok(find(&table, id))
    }

    /// Whether init has this mount too. It has not when it was made in a mount namespace whose mounts stay inside, as
    /// `ip netns exec` makes one. `None` when init's mounts are not to be seen.
    #[must_use]
    pub fn is_seen_by_init(&self) -> Option<bool> {
        let table = fs::read_to_string("/proc/1/mountinfo").ok()?;
        Some(has(&table, self))
    }

    /// Takes the mount away again. The namespace itself goes with its last user, files open in it stay open.
    ///
    /// # Errors
    /// When the mount cannot be taken away (umount2(2)).
    pub fn detach(&self) -> Result<(), NetnsError> {
        umount2(&self.point, MntFlags::MNT_DETACH)
            .map_err(|e| NetnsError::io("unmount", &self.point)(e.into()))
    }
}

impl Netns {
    /// Mounts this namespace over the one at `path`, which leads here until [`NetnsMount::detach`].
    ///
    /// # Errors
    /// When the path cannot be mounted over (mount(2)).
    pub fn mount_over(&self, path: &Path) -> Result<(), NetnsError> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        mount(
            Some(own.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(|e| NetnsError::io("mount a network namespace over", path)(e.into()))
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct MountInfoLine<'a> {
    id: &'a str,
    parent: &'a str,
    root: &'a str,
    point: &'a str,
    shared: bool,
}

impl<'a> MountInfoLine<'a> {
    fn parse(line: &'a str) -> Option<MountInfoLine<'a>> {
        let mut words = line.split(' ');
        let (id, parent) = (words.next()?, words.next()?);
        let (_device, root, point) = (words.next()?, words.next()?, words.next()?);
        Some(MountInfoLine {
            id,
            parent,
            root,
            point,
            shared: words
                .take_while(|word| *word != "-")
                .any(|word| word.starts_with("shared:")),
        })
    }

    /// The inode number in `net:[4026531840]`.
    fn ino(&self) -> Option<u64> {
        let number = self.root.strip_prefix("net:[")?.strip_suffix(']')?;
        number.parse().ok()
    }
}

fn find(table: &str, id: &str) -> Option<NetnsMount> {
    let lines = || table.lines().filter_map(MountInfoLine::parse);
    let top = lines().find(|line| line.id == id)?;
    let beneath = lines().find(|line| line.id == top.parent && line.point == top.point);
    Some(NetnsMount {
        point: unescape(top.point),
        ino: top.ino()?,
        covers: beneath.as_ref().and_then(MountInfoLine::ino),
        shared: top.shared,
    })
}

fn has(table: &str, mount: &NetnsMount) -> bool {
    let mut lines = table.lines().filter_map(MountInfoLine::parse);
    lines.any(|line| line.ino() == Some(mount.ino) && unescape(line.point) == mount.point)
}

/// White space and backslashes come as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = (byte == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(byte));
        at += if octal.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
41 27 0:4 net:[11] /run/netns/twice rw - nsfs nsfs rw
42 27 254:0 /run/netns /run/netns rw,relatime shared:1 - ext4 /dev/vda rw
43 42 0:4 net:[11] /run/netns/twice rw shared:2 - nsfs nsfs rw
44 42 0:4 net:[12] /run/netns/a\\040b rw shared:3 master:1 - nsfs nsfs rw
45 44 0:4 net:[10] /run/netns/a\\040b rw shared:4 - nsfs nsfs rw
46 42 0:4 mnt:[12] /run/netns/other rw - nsfs nsfs rw
";

    #[track_caller]
    fn check(id: &str, expected: Option<(&str, u64, Option<u64>, bool)>) {
        let expected = expected.map(|(point, ino, covers, shared)| NetnsMount {
            point: point.into(),
            ino,
            covers,
            shared,
        });
        assert_eq!(find(TABLE, id), expected);
    }

    #[test]
    fn mounts_are_found_with_what_they_cover() {
        check("45", Some(("/run/netns/a b", 10, Some(12), true)));
        check("44", Some(("/run/netns/a b", 12, None, true)));
        // At one path, and yet not one over the other: a copy hidden by the mount of the directory.
        check("43", Some(("/run/netns/twice", 11, None, true)));
        check("41", Some(("/run/netns/twice", 11, None, false)));
        check("42", None);
        check("46", None);
        check("9", None);
    }

    #[test]
    fn a_mount_is_found_in_the_table_of_another_namespace() {
        let over = find(TABLE, "45").unwrap();
        assert!(has(TABLE, &over));
        let without: Vec<&str> = TABLE
            .lines()
            .filter(|line| !line.starts_with("45"))
            .collect();
        assert!(!has(&without.join("\n"), &over));
    }
}
