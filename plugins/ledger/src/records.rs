//! The attachments of one plugin: which there are, by their records.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pontoon_conf::Error;

use crate::error::FileError;
use crate::{Key, directory, file, files};

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
    ///
    /// # Errors
    /// Code 5 with the path, when the system does not tell.
    pub fn holds(&self, key: &Key) -> Result<bool, Error> {
        let path = self.path(key);
        let there = path.try_exists();
        Ok(there.map_err(FileError::of("look for", &path))?)
    }

    /// As [`Records::holds`], and true when the system does not tell: for what is kept then.
    #[must_use]
    pub fn may_hold(&self, key: &Key) -> bool {
        files::may_exist(&self.path(key))
    }

    /// Removes the record of an attachment. True when it was the last one of its network: `rmdir` tells,
    /// without listing the others.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove(&self, key: &Key) -> Result<bool, Error> {
        file::remove(&self.path(key))?;
        let last = directory::remove_empty(&self.dir.join(&key.network))?;
        if last {
            let _ = fs::remove_dir(&self.dir);
        }
        Ok(last)
    }

    /// Whether the network has attachments. A directory that cannot be read may have some.
    #[must_use]
    pub fn has_network(&self, network: &str) -> bool {
        file::holds_any(&self.dir.join(network)).unwrap_or(true)
    }

    /// Whether any network has attachments. A directory that cannot be read may have some.
    #[must_use]
    pub fn any(&self) -> bool {
        file::list(&self.dir).map_or(true, |networks| {
            networks.iter().any(|network| self.has_network(network))
        })
    }

    /// Removes the directories of a network that has no attachments, as a killed ADD leaves them.
    pub fn tidy(&self, network: &str) {
        let _ = fs::remove_dir(self.dir.join(network));
        let _ = fs::remove_dir(&self.dir);
    }

    /// Whether this attachment is the only one of its network: for undoing what others may use.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn is_only(&self, key: &Key) -> Result<bool, Error> {
        let all = self.attachments(&key.network)?;
        Ok(all.iter().all(|other| other == key))
    }

    /// The networks that have attachments.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn networks(&self) -> Result<Vec<String>, Error> {
        let mut networks = file::list(&self.dir)?;
        networks.retain(|network| self.has_network(network));
        Ok(networks)
    }

    /// The attachments of all networks: for the admin's command, never on the way of ADD and DEL.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn all(&self) -> Result<Vec<Key>, Error> {
        let mut networks = file::list(&self.dir)?;
        networks.sort();
        let mut all = Vec::new();
        for network in networks {
            all.append(&mut self.attachments(&network)?);
        }
        Ok(all)
    }

    /// The attachments of a network: for GC, never on the way of ADD and DEL.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn attachments(&self, network: &str) -> Result<Vec<Key>, Error> {
        let names = file::list(&self.dir.join(network))?;
        let keys = names.iter().filter_map(|name| Key::of_file(network, name));
        Ok(keys.collect())
    }
}
