//! The attachments of one plugin: which there are, by their records.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pontoon_conf::{Error, code};

use crate::{Key, file};

/// The folder of one plugin's records of attachments.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Path of the folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(&key.network).join(key.file_name())
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

    /// Removes the record of an attachment. True when it was the last one of its network: `rmdir` tells,
    /// without listing the others.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove(&self, key: &Key) -> Result<bool, Error> {
        file::remove(&self.path(key))?;
        let network = self.dir.join(&key.network);
        let last = match fs::remove_dir(&network) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                return Err(
                    Error::new(code::IO, format!("cannot remove {}", network.display()))
                        .with_details(error.to_string()),
                );
            }
        };
        if last {
            let _ = fs::remove_dir(&self.dir);
        }
        Ok(last)
    }

    /// Whether the network has attachments.
    #[must_use]
    pub fn has_network(&self, network: &str) -> bool {
        file::list(&self.dir.join(network)).next().is_some()
    }

    /// Whether any network has attachments.
    #[must_use]
    pub fn any(&self) -> bool {
        file::list(&self.dir).any(|network| self.has_network(&network))
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
        file::list(&self.dir)
            .filter(|network| self.has_network(network))
            .collect()
    }

    /// The attachments of all networks: for the admin's command, never on the way of ADD and DEL.
    #[must_use]
    pub fn all(&self) -> Vec<Key> {
        let mut networks: Vec<String> = file::list(&self.dir).collect();
        networks.sort();
        networks
            .iter()
            .flat_map(|network| self.attachments(network))
            .collect()
    }

    /// The attachments of a network: for GC, never on the way of ADD and DEL.
    #[must_use]
    pub fn attachments(&self, network: &str) -> Vec<Key> {
        file::list(&self.dir.join(network))
            .filter_map(|name| Key::of_file(network, &name))
            .collect()
    }
}
