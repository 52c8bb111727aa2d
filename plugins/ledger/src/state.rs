//! The state directory: where every file lies, and the doors to them.
//!
//! It lies on a file system that dies with the boot, as namespaces and rules do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pontoon_conf::Error;
use pontoon_netlink::Netns;

use crate::error::{FileError, StateError};
use crate::record::{AttachmentRecord, PerNetworkRecord};
use crate::{
    Key, Lock, NetworkPolicyRecord, NetworkRecord, OpeningsRecord, RecordError, Records,
    ResolverRecord, directory, draft, file, files, kinds,
};

const ROOT: &str = "/run/pontoon";
/// What lies in the directory beside records: locks, drafts, and the resolver's and the agent's own files.
const BESIDE_RECORDS: [&str; 4] = ["lock", "draft", "dns", "node"];
/// What the state directory of another network namespace begins with.
const OTHER_HOST: &str = "netns-";

/// The directory below `root` that belongs to the network namespace which the program runs in: `root` itself for
/// the initial one.
///
/// # Errors
/// Code 100 when the kernel does not tell the namespace's cookie (before Linux 5.14).
pub(crate) fn of_this_namespace(root: &Path) -> Result<PathBuf, StateError> {
    let cookie = Netns::cookie().map_err(|source| StateError::NoCookie { source })?;
    Ok(match cookie {
        1 => root.to_owned(),
        cookie => root.join(format!("{OTHER_HOST}{cookie}")),
    })
}

/// The state directory of the network namespace that the plugin runs in.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// Finds the state directory. Two hosts on one machine (network namespaces that plugins run
    /// in) never share one: the kernel gives every namespace a cookie that is not used twice
    /// before the next boot (`SO_NETNS_COOKIE`, socket(7)).
    ///
    /// # Errors
    /// Code 100 when the kernel does not tell the cookie (before Linux 5.14); code 5 when the directory
    /// belongs to another user, or others may write it.
    pub fn locate() -> Result<Self, Error> {
        let root = Path::new(ROOT);
        directory::check(root)?;
        Ok(Self::at(&of_this_namespace(root)?))
    }

    /// State in a directory of the caller's choice.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where files are written until they are complete.
    fn drafts(&self) -> PathBuf {
        self.dir.join("draft")
    }

    /// The attachments of one plugin; `folder` is that of its records, see
    /// [`Kind::records`](crate::kinds::Kind::records).
    #[must_use]
    pub fn records(&self, folder: &str) -> Records {
        Records::at(self.dir.join(folder))
    }

    /// The attachments of the plugin that writes these records.
    #[must_use]
    pub fn records_of<R: AttachmentRecord>(&self) -> Records {
        self.records(R::FOLDER)
    }

    /// Reads the record of an attachment; `None` when there is none.
    ///
    /// # Errors
    /// When there is one and it cannot be read, or another version wrote it.
    pub fn read<R: AttachmentRecord>(&self, key: &Key) -> Result<Option<R>, RecordError> {
        file::read(&self.records_of::<R>().path(key))
    }

    /// Writes the record of an attachment, replacing an older one. It is complete or absent.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn write<R: AttachmentRecord>(&self, key: &Key, record: &R) -> Result<(), Error> {
        let path = self.records_of::<R>().path(key);
        Ok(file::write(&self.drafts(), &path, record)?)
    }

    fn network_path<R: PerNetworkRecord>(&self, network: &str) -> PathBuf {
        self.dir.join(R::FOLDER).join(network)
    }

    /// Reads a record of a network; `None` when there is none.
    ///
    /// # Errors
    /// When there is one and it cannot be read, or another version wrote it.
    pub fn read_network<R: PerNetworkRecord>(
        &self,
        network: &str,
    ) -> Result<Option<R>, RecordError> {
        file::read(&self.network_path::<R>(network))
    }

    /// Writes a record of a network, replacing an older one. It is complete or absent.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn write_network<R: PerNetworkRecord>(
        &self,
        network: &str,
        record: &R,
    ) -> Result<(), Error> {
        Ok(file::write(
            &self.drafts(),
            &self.network_path::<R>(network),
            record,
        )?)
    }

    /// Removes a record of a network; success when there is none.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove_network<R: PerNetworkRecord>(&self, network: &str) -> Result<(), Error> {
        file::remove(&self.network_path::<R>(network))?;
        let _ = fs::remove_dir(self.dir.join(R::FOLDER));
        Ok(())
    }

    /// Whether a network has a record of this kind.
    #[must_use]
    pub fn has_network<R: PerNetworkRecord>(&self, network: &str) -> bool {
        files::may_exist(&self.network_path::<R>(network))
    }

    /// The networks that have a record of this kind.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn networks<R: PerNetworkRecord>(&self) -> Result<Vec<String>, Error> {
        Ok(file::list(&self.dir.join(R::FOLDER))?)
    }

    /// The lock of a network. ADD holds it shared; what removes or changes the network's own things
    /// holds it exclusively.
    #[must_use]
    pub fn network_lock(&self, network: &str) -> PathBuf {
        self.dir.join("lock").join(network)
    }

    /// The lock of what all networks share. No network name begins with a dot.
    #[must_use]
    pub fn host_lock(&self) -> PathBuf {
        self.dir.join("lock/.host")
    }

    /// The lock of the port reservations.
    #[must_use]
    pub fn ports_lock(&self) -> PathBuf {
        self.dir.join("lock/.ports")
    }

    /// The lock of a network's rules that lead to the resolver. No network name begins with a colon.
    #[must_use]
    pub fn resolver_lock(&self, network: &str) -> PathBuf {
        self.network_lock(&format!(":dns:{network}"))
    }

    /// The lock of a network's index of links. No network name has a colon.
    #[must_use]
    pub fn links_lock(&self, network: &str) -> PathBuf {
        self.network_lock(&format!("{network}:links"))
    }

    /// The file that a child process holds while a network without attachments keeps its rules for
    /// another second. Its time stamp is that of the last DEL.
    #[must_use]
    pub fn grace_lock(&self, network: &str) -> PathBuf {
        self.network_lock(&format!(":{network}"))
    }

    /// The lock of the iptables backend, beside the one of `iptables-restore` itself.
    #[must_use]
    pub fn iptables_lock(&self) -> PathBuf {
        self.dir.join("lock/.iptables")
    }

    /// The lock under which the resolver is started.
    #[must_use]
    pub fn resolver_start_lock(&self) -> PathBuf {
        self.dir.join("lock/.dns-start")
    }

    /// The resolver's control socket.
    #[must_use]
    pub fn resolver_socket(&self) -> PathBuf {
        self.dir.join("dns/control")
    }

    /// The control socket of the agent of a host among several.
    #[must_use]
    pub fn node_socket(&self) -> PathBuf {
        self.dir.join("node/control")
    }

    /// The folder of the files of names that a container reads.
    #[must_use]
    pub fn container_files(&self, container: &str) -> PathBuf {
        self.containers_dir().join(container)
    }

    /// Writes a file of [`State::container_files`], replacing an older one: complete or not at all.
    /// `readable` lets all users read it, as the processes of a container have to.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write_container_file(
        &self,
        container: &str,
        name: &str,
        text: &[u8],
        readable: bool,
    ) -> io::Result<()> {
        let dir = self.container_files(container);
        let root = Path::new(ROOT);
        let root = if self.dir.starts_with(root) {
            root
        } else {
            &self.dir
        };
        directory::make_traversable(&dir, root)?;
        let mode = if readable {
            draft::READABLE
        } else {
            draft::PRIVATE
        };
        draft::replace(&self.drafts(), &dir.join(name), text, mode)
    }

    /// The folder of the files of names of all containers.
    #[must_use]
    pub fn containers_dir(&self) -> PathBuf {
        self.dir.join("containers")
    }

    /// Takes a lock, with the error that the runtime should see.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn lock(&self, path: &Path, take: fn(&Path) -> io::Result<Lock>) -> Result<Lock, Error> {
        Ok(take(path).map_err(FileError::of("lock", path))?)
    }

    /// Takes the lock of a network as a verb on one of its attachments does: several may hold it so.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn share_network(&self, network: &str) -> Result<Lock, Error> {
        self.lock(&self.network_lock(network), Lock::shared)
    }

    /// Takes the lock of a network as what removes or changes the network's own things does: alone.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn lock_network(&self, network: &str) -> Result<Lock, Error> {
        self.lock(&self.network_lock(network), Lock::exclusive)
    }

    /// Removes the record of an attachment, after `withdraw` has taken away the rules that the attachment itself
    /// has. No process repairs rules meanwhile: it would make them again by the record, and none would remove
    /// them once the record is gone. True when it was the plugin's last attachment of the network.
    ///
    /// # Errors
    /// Code 5 for the lock or the record, and those of `withdraw`: the record stays then.
    pub fn remove_attachment(
        &self,
        plugin: &str,
        key: &Key,
        withdraw: impl FnOnce() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let _network = self.share_network(&key.network)?;
        withdraw()?;
        self.records(plugin).remove(key)
    }

    /// Removes the lock files of a network that no record tells of: for the end of every DEL and GC. Whatever holds
    /// one writes a record before it lets go, or has none to write.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove_unused_network_locks(&self, network: &str) -> Result<(), Error> {
        let paths = [
            self.network_lock(network),
            self.links_lock(network),
            self.resolver_lock(network),
        ];
        for path in paths.iter().filter(|path| files::may_exist(path)) {
            // Asked before, so that a network in use is not held up.
            if self.is_used(network) {
                return Ok(());
            }
            let lock = self.lock(path, Lock::exclusive)?;
            if self.is_used(network) {
                return Ok(());
            }
            lock.remove();
        }
        Ok(())
    }

    /// Whether any record tells of a network.
    fn is_used(&self, network: &str) -> bool {
        kinds::recording()
            .filter_map(|kind| kind.records)
            .any(|folder| self.records(folder).has_network(network))
            || self.has_network::<NetworkRecord>(network)
            || self.has_network::<NetworkPolicyRecord>(network)
            || self.has_network::<ResolverRecord>(network)
            || self.has_network::<OpeningsRecord>(network)
    }

    /// Removes what no record needs: drafts of writers that were killed, and, when the host has no record
    /// at all, the lock files and the directory itself. For the end of every DEL and GC.
    pub fn prune(&self) {
        let is_gone = |dir: &Path| match fs::remove_dir(dir) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        if !is_gone(&self.drafts()) {
            self.remove_drafts();
            is_gone(&self.drafts());
        }
        if self.has_any_record() {
            return;
        }
        let locks = self.dir.join("lock");
        for entry in fs::read_dir(&locks).into_iter().flatten().flatten() {
            Lock::remove_unheld(&entry.path());
        }
        // The resolver's own files are in its folder as long as it runs.
        for dir in ["lock", "dns/records", "dns/network", "dns"] {
            is_gone(&self.dir.join(dir));
        }
        if is_gone(&self.dir) && self.dir.starts_with(ROOT) {
            is_gone(Path::new(ROOT));
        }
    }

    /// Whether anything lies in the directory that a record or a reservation is a part of. What cannot be
    /// read counts as one. Directories in which nothing lies are removed: a writer makes them before its
    /// record, and may be killed in between.
    fn has_any_record(&self) -> bool {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return true;
        };
        let counts = |entry: io::Result<fs::DirEntry>| {
            let Ok(entry) = entry else { return true };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let beside = BESIDE_RECORDS.contains(&&*name) || name.starts_with(OTHER_HOST);
            !beside && holds_a_file(&entry.path())
        };
        entries.into_iter().any(counts) || holds_a_file(&self.dir.join("dns/records"))
    }

    /// Removes drafts of writers that were killed.
    pub fn remove_drafts(&self) {
        draft::sweep(&self.drafts());
    }

    /// Removes what killed writers have left of a plugin and a network: for GC.
    pub fn sweep(&self, records: &Records, network: &str) {
        self.remove_drafts();
        records.tidy(network);
    }
}

/// Whether anything but directories lies at a path. Directories without are removed on the way; a
/// writer that needs one makes it again.
fn holds_a_file(path: &Path) -> bool {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    for entry in entries {
        let Ok(entry) = entry else { return true };
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_dir || holds_a_file(&entry.path()) {
            return true;
        }
    }
    match fs::remove_dir(path) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(()) => false,
    }
}

#[cfg(test)]
mod tests {
    use pontoon_conf::code;

    use super::*;
    use crate::{Sandbox, TuningRecord};

    fn key(container: &str) -> Key {
        Key {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        }
    }

    fn record(backup: &str) -> TuningRecord {
        TuningRecord {
            sandbox: Sandbox::new("/run/netns/x", None),
            backup: backup.into(),
        }
    }

    #[test]
    fn the_last_attachment_is_known_without_listing() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let records = state.records("tuning");
        state.write(&key("a"), &record("1")).unwrap();
        state.write(&key("b"), &record("2")).unwrap();
        assert_eq!(state.read(&key("b")).unwrap(), Some(record("2")));
        assert_eq!(state.read::<TuningRecord>(&key("c")).unwrap(), None);
        assert_eq!(records.attachments("net").unwrap().len(), 2);
        assert!(!records.remove(&key("a")).unwrap());
        assert!(records.remove(&key("b")).unwrap());
        assert!(records.remove(&key("b")).unwrap(), "again is the same");
        assert!(!records.any());
    }

    #[test]
    fn a_torn_record_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        state.write(&key("a"), &record("1")).unwrap();
        let path = dir.path().join("tuning/net/a:eth0");
        fs::write(&path, b"{").unwrap();
        let error = state.read::<TuningRecord>(&key("a")).unwrap_err();
        let told = format!("{} is no record of plugin tuning: ", path.display());
        assert!(error.to_string().starts_with(&told), "{error}");
        assert_eq!(Error::from(error).code, code::DECODE);
    }

    #[test]
    fn drafts_of_the_dead_are_removed_and_never_counted() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let records = state.records("tuning");
        state.write(&key("a"), &record("1")).unwrap();
        let draft = dir.path().join("draft/7-0");
        fs::write(&draft, b"x").unwrap();
        assert_eq!(records.attachments("net").unwrap().len(), 1);
        state.sweep(&records, "net");
        assert!(!draft.exists());
    }

    #[test]
    fn a_network_is_in_use_when_a_record_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let records = state.records("tuning");
        // Killed after it had made the directory, and one that wrote its draft there.
        fs::create_dir_all(dir.path().join("tuning/net")).unwrap();
        assert!(!records.has_network("net") && !records.any());
        fs::write(dir.path().join("tuning/net/:77"), b"x").unwrap();
        assert!(!records.has_network("net") && !records.any());
        fs::remove_file(dir.path().join("tuning/net/:77")).unwrap();
        state.write(&key("a"), &record("1")).unwrap();
        assert_eq!(records.networks().unwrap(), ["net"]);
        records.remove(&key("a")).unwrap();
        state.prune();
        assert!(!dir.path().exists(), "nothing is left of it");
    }

    #[test]
    fn lock_files_go_with_the_last_record_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(&dir.path().join("state"));
        let records = state.records("tuning");
        state.write(&key("a"), &record("1")).unwrap();
        let held = Lock::shared(&state.host_lock()).unwrap();
        directory::make(&state.dir().join("dns")).unwrap();
        drop(Lock::exclusive(&state.network_lock("net")).unwrap());
        state.prune();
        assert!(state.network_lock("net").exists(), "a record is there");
        records.remove(&key("a")).unwrap();
        state.prune();
        assert!(state.host_lock().exists(), "it is held");
        assert!(!state.network_lock("net").exists());
        drop(held);
        state.prune();
        assert!(!state.dir().exists());
    }

    #[test]
    fn records_of_networks_go_with_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::at(dir.path());
        let made = NetworkRecord {
            rules: Vec::new(),
            internal: true,
            reach: None,
        };
        state.write_network("net", &made).unwrap();
        assert_eq!(state.read_network("net").unwrap(), Some(made));
        assert_eq!(state.networks::<NetworkRecord>().unwrap(), ["net"]);
        state.remove_network::<NetworkRecord>("net").unwrap();
        assert!(!state.has_network::<NetworkRecord>("net"));
        assert!(!dir.path().join("network").exists());
    }
}
