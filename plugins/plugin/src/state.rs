//! Runtime state: one small file per attachment and plugin.
//!
//! ```text
//! /run/pontoon/                     of the initial network namespace
//! /run/pontoon/netns-COOKIE/        of any other that plugins run in
//!     PLUGIN/NETWORK/CONTAINER:IFNAME   the plugin's record of an attachment
//!     network/NETWORK                   what was made for the network as a whole
//!     policy/NETWORK                    what the network lets pass
//!     backend/KIND/PLUGIN:NETWORK       which backends have rules, see `backends`
//!     draft/PID                         a file that is being written, until it has its name
//!     lock/NETWORK, lock/.host          flock files, there while somebody needs them
//! ```
//!
//! It lies on a file system that dies with the boot, as namespaces and rules do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pontoon_conf::{Error, code};
use pontoon_netfilter::Owner;
use pontoon_netlink::Netns;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Lock;

const ROOT: &str = "/run/pontoon";

/// No file takes longer to write.
const DRAFT: Duration = Duration::from_secs(60);

/// The state directory of the network namespace that the plugin runs in.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
    drafts: PathBuf,
}

/// An attachment: network, container and interface name together are its key everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Network name.
    pub network: String,
    /// Container id.
    pub container: String,
    /// Interface name in the container.
    pub interface: String,
}

/// The records of one plugin.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
    drafts: PathBuf,
}

impl State {
    /// Finds the state directory. Two hosts on one machine (network namespaces that plugins run
    /// in) never share one: the kernel gives every namespace a cookie that is not used twice
    /// before the next boot (`SO_NETNS_COOKIE`, socket(7)).
    ///
    /// # Errors
    /// Code 100 when the kernel does not tell the cookie (before Linux 5.14).
    pub fn locate() -> Result<Self, Error> {
        let cookie = Netns::cookie().map_err(|error| {
            Error::new(
                code::KERNEL,
                "cannot tell the host's network namespace from others",
            )
            .with_details(format!(
                "{error}; SO_NETNS_COOKIE needs Linux 5.14 or newer"
            ))
        })?;
        let root = Path::new(ROOT);
        Ok(if cookie == 1 {
            Self::at(root)
        } else {
            Self::at(&root.join(format!("netns-{cookie}")))
        })
    }

    /// State in a directory of the caller's choice.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            drafts: dir.join("draft"),
        }
    }

    /// The notes of one plugin, apart from those of the others.
    #[must_use]
    pub fn within(&self, plugin: &str) -> Self {
        Self {
            dir: self.dir.join(plugin),
            drafts: self.drafts.clone(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The records of one plugin.
    #[must_use]
    pub fn records(&self, plugin: &str) -> Records {
        Records {
            dir: self.dir.join(plugin),
            drafts: self.drafts.clone(),
        }
    }

    fn network_path(&self, network: &str) -> PathBuf {
        self.dir.join("network").join(network)
    }

    /// Writes what was made for a network as a whole.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn write_network<T: Serialize>(&self, network: &str, record: &T) -> Result<(), Error> {
        write(&self.drafts, &self.dir.join("network"), network, record)
    }

    /// Reads what was made for a network as a whole.
    #[must_use]
    pub fn read_network<T: DeserializeOwned>(&self, network: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.network_path(network)).ok()?).ok()
    }

    /// The networks for which something was made as a whole: for the admin's command.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.join("network")) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| is_no_draft(name)).collect()
    }

    /// Writes what a network lets pass.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn write_policy<T: Serialize>(&self, network: &str, policy: &T) -> Result<(), Error> {
        write(&self.drafts, &self.dir.join("policy"), network, policy)
    }

    /// Reads what a network lets pass.
    #[must_use]
    pub fn read_policy<T: DeserializeOwned>(&self, network: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.dir.join("policy").join(network)).ok()?).ok()
    }

    /// A network of which it is noted what it lets pass.
    #[must_use]
    pub fn any_policy(&self) -> Option<String> {
        let entries = fs::read_dir(self.dir.join("policy")).ok()?;
        let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.find(|name| is_no_draft(name))
    }

    /// Forgets what a network lets pass.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove_policy(&self, network: &str) -> Result<(), Error> {
        self.remove_note("policy", network)
    }

    /// Forgets a network.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove_network(&self, network: &str) -> Result<(), Error> {
        self.remove_note("network", network)
    }

    fn remove_note(&self, kind: &str, network: &str) -> Result<(), Error> {
        let dir = self.dir.join(kind);
        let path = dir.join(network);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::new(
                code::IO,
                format!("cannot remove {}", path.display()),
            )
            .with_details(error.to_string())),
            _ => {
                let _ = fs::remove_dir(dir);
                Ok(())
            }
        }
    }

    /// Where the lock of a network lies.
    #[must_use]
    pub fn network_lock(&self, network: &str) -> PathBuf {
        self.dir.join("lock").join(network)
    }

    /// Where the lock of what all networks share lies. No network name begins with a dot.
    #[must_use]
    pub fn host_lock(&self) -> PathBuf {
        self.dir.join("lock/.host")
    }

    /// Takes a lock, with the error that the runtime should see.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn lock(&self, path: &Path, take: fn(&Path) -> io::Result<Lock>) -> Result<Lock, Error> {
        take(path).map_err(|error| {
            Error::new(code::IO, format!("cannot lock {}", path.display()))
                .with_details(error.to_string())
        })
    }

    /// Removes directories that the last attachment of the host left empty.
    pub fn prune(&self) {
        for dir in [&self.drafts, &self.dir.join("lock"), &self.dir] {
            if fs::remove_dir(dir).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                break;
            }
        }
    }

    /// Removes drafts of writers that were killed.
    pub fn remove_drafts(&self) {
        for entry in fs::read_dir(&self.drafts).into_iter().flatten().flatten() {
            // Written and renamed within a moment: an old one was left, whoever has the number now.
            let written = entry.metadata().and_then(|file| file.modified());
            let old = written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > DRAFT));
            if old || !Path::new("/proc").join(entry.file_name()).exists() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Key {
    /// The tag that everything of the attachment carries in the kernel.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            network: self.network.clone(),
            container: self.container.clone(),
            interface: self.interface.clone(),
        }
    }

    fn file_name(&self) -> String {
        format!("{}:{}", self.container, self.interface)
    }
}

impl Records {
    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(&key.network).join(key.file_name())
    }

    /// Writes the record of an attachment, replacing an older one. It is complete or absent: the
    /// text is written under another name first.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn write<T: Serialize>(&self, key: &Key, record: &T) -> Result<(), Error> {
        let dir = self.dir.join(&key.network);
        write(&self.drafts, &dir, &key.file_name(), record)
    }

    /// Reads the record of an attachment. `None` when there is none, or none that can be read:
    /// both mean that the kernel has to be asked instead.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, key: &Key) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path(key)).ok()?).ok()
    }

    /// When the record of an attachment was written.
    #[must_use]
    pub fn written(&self, key: &Key) -> Option<SystemTime> {
        fs::metadata(self.path(key)).ok()?.modified().ok()
    }

    /// Whether there is a record of an attachment.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.path(key).exists()
    }

    /// Removes the record of an attachment. True when it was the last one of its network.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove(&self, key: &Key) -> Result<bool, Error> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(
                    Error::new(code::IO, format!("cannot remove {}", path.display()))
                        .with_details(error.to_string()),
                );
            }
            _ => {}
        }
        // Fails when others are still there, and never lists them.
        let last = match fs::remove_dir(self.dir.join(&key.network)) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if last {
            let _ = fs::remove_dir(&self.dir);
        }
        Ok(last)
    }

    /// Whether the network has attachments.
    #[must_use]
    pub fn has_network(&self, network: &str) -> bool {
        fs::read_dir(self.dir.join(network)).is_ok_and(|entries| {
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.into_iter().any(|name| is_no_draft(&name))
        })
    }

    /// Whether any network has attachments.
    #[must_use]
    pub fn any(&self) -> bool {
        fs::read_dir(&self.dir).is_ok_and(|entries| {
            let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.any(|network| self.has_network(&network))
        })
    }

    /// Removes the directories of a network that has no attachments, as a killed ADD leaves them.
    pub fn tidy(&self, network: &str) {
        let _ = fs::remove_dir(self.dir.join(network));
        let _ = fs::remove_dir(&self.dir);
    }

    /// Whether this attachment is the only one of its network: for undoing what others may use.
    #[must_use]
    pub fn is_only(&self, key: &Key) -> bool {
        self.attachments(&key.network)
            .iter()
            .all(|other| other == key)
    }

    /// The networks that have attachments.
    #[must_use]
    pub fn networks(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|network| self.has_network(network)).collect()
    }

    /// The attachments of all networks: for the admin's command, never on the way of ADD and DEL.
    #[must_use]
    pub fn all(&self) -> Vec<Key> {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut networks: Vec<String> = names.collect();
        networks.sort();
        networks
            .iter()
            .flat_map(|network| self.attachments(network))
            .collect()
    }

    /// The attachments of a network: for GC, never on the way of ADD and DEL.
    #[must_use]
    pub fn attachments(&self, network: &str) -> Vec<Key> {
        let Ok(entries) = fs::read_dir(self.dir.join(network)) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let (container, interface) = name.split_once(':')?;
                if container.is_empty() {
                    return None;
                }
                Some(Key {
                    network: network.to_owned(),
                    container: container.to_owned(),
                    interface: interface.to_owned(),
                })
            })
            .collect()
    }

    /// Removes what killed writers have left: for GC.
    pub fn remove_drafts(&self, network: &str) {
        let state = State {
            dir: self.dir.clone(),
            drafts: self.drafts.clone(),
        };
        state.remove_drafts();
        self.tidy(network);
    }
}

/// Neither a container id nor a network name begins with a colon. Drafts did, before they had a directory of
/// their own.
fn is_no_draft(name: &str) -> bool {
    !name.starts_with(':')
}

/// Writes a file of a directory that may have to be made: complete or not at all. Until it is complete it
/// lies elsewhere, so that a directory holds nothing but records whenever a writer is killed.
fn write<T: Serialize>(drafts: &Path, dir: &Path, name: &str, record: &T) -> Result<(), Error> {
    let path = dir.join(name);
    let fail = |error: io::Error| {
        Error::new(code::IO, format!("cannot write {}", path.display()))
            .with_details(error.to_string())
    };
    let text = serde_json::to_vec(record).map_err(|error| fail(error.into()))?;
    let draft = drafts.join(std::process::id().to_string());
    loop {
        match fs::write(&draft, &text).and_then(|()| fs::rename(&draft, &path)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // The first record here, or the last one went just now.
                fs::create_dir_all(drafts).map_err(fail)?;
                fs::create_dir_all(dir).map_err(fail)?;
            }
            Err(error) => {
                let _ = fs::remove_file(&draft);
                return Err(fail(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> Key {
        Key {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        }
    }

    #[test]
    fn the_last_attachment_is_known_without_listing() {
        let dir = tempfile::tempdir().unwrap();
        let records = State::at(dir.path()).records("bridge");
        records.write(&key("a"), &1).unwrap();
        records.write(&key("b"), &2).unwrap();
        assert_eq!(records.read::<u32>(&key("b")), Some(2));
        assert_eq!(records.attachments("net").len(), 2);
        assert!(!records.remove(&key("a")).unwrap());
        assert!(records.remove(&key("b")).unwrap());
        assert!(records.remove(&key("b")).unwrap(), "again is the same");
        assert!(!records.any());
    }

    #[test]
    fn a_torn_record_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let records = State::at(dir.path()).records("bridge");
        records.write(&key("a"), &7).unwrap();
        fs::write(dir.path().join("bridge/net/a:eth0"), b"{").unwrap();
        assert_eq!(records.read::<u32>(&key("a")), None);
    }

    #[test]
    fn drafts_of_the_dead_are_removed_and_never_counted() {
        let dir = tempfile::tempdir().unwrap();
        let records = State::at(dir.path()).records("bridge");
        records.write(&key("a"), &7).unwrap();
        // Above the largest pid that Linux hands out (2^22).
        let draft = dir.path().join("draft/4194999");
        fs::write(&draft, b"x").unwrap();
        assert_eq!(records.attachments("net").len(), 1);
        records.remove_drafts("net");
        assert!(!draft.exists());
    }

    #[test]
    fn a_network_is_in_use_when_a_record_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let records = state.records("bridge");
        // Killed after it had made the directory, and one that wrote its draft there.
        fs::create_dir_all(dir.path().join("bridge/net")).unwrap();
        assert!(!records.has_network("net") && !records.any());
        fs::write(dir.path().join("bridge/net/:77"), b"x").unwrap();
        assert!(!records.has_network("net") && !records.any());
        fs::remove_file(dir.path().join("bridge/net/:77")).unwrap();
        records.write(&key("a"), &7).unwrap();
        assert_eq!(records.networks(), ["net"]);
        records.remove(&key("a")).unwrap();
        state.prune();
        assert!(!dir.path().exists(), "nothing is left of it");
    }
}
