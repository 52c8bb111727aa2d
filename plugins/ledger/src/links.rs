//! Which attachment has a name and which one asks for a link to it: the index by which the ADD of a
//! container finds the links that wait for it, without listing all others.
//!
//! ```text
//! links/NETWORK/named/NAME/CONTAINER:IFNAME     an attachment that has the name
//! links/NETWORK/wished/NAME/CONTAINER:IFNAME    an attachment that asks for a link to the name
//! ```
//!
//! The files are empty: addresses and ports stand in the records of firewall. Kept while the network
//! has no `icc`, since links change nothing otherwise. All calls but [`LinksIndex::named`] need
//! [`State::links_lock`].

use std::fs;
use std::io;
use std::path::PathBuf;

use pontoon_conf::{Error, KnownAs};

use crate::error::FileError;
use crate::record::FirewallRecord;
use crate::{Key, State, directory, file};

const NAMED: &str = "named";
const WISHED: &str = "wished";

/// The index of one network.
#[derive(Debug)]
pub struct LinksIndex {
    network: String,
    dir: PathBuf,
}

impl LinksIndex {
    /// The index of a network.
    #[must_use]
    pub fn of(state: &State, network: &str) -> Self {
        Self {
            network: network.to_owned(),
            dir: state.dir().join("links").join(network),
        }
    }

    /// Enters an attachment.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn enter(&self, key: &Key, record: &FirewallRecord) -> Result<(), Error> {
        for path in self.paths(key, record) {
            file::mark(&path)?;
        }
        Ok(())
    }

    /// Removes an attachment. Its record has to stay until this has succeeded: nothing else tells of the entries.
    ///
    /// # Errors
    /// Code 5 with the path.
    pub fn remove(&self, key: &Key, record: &FirewallRecord) -> Result<(), Error> {
        for path in self.paths(key, record) {
            file::remove(&path)?;
            // One that is missing was not made by an ADD that was killed.
            for dir in path.ancestors().skip(1).take(4) {
                if !directory::remove_empty(dir)? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The attachments that have a name.
    ///
    /// # Errors
    /// Code 5 with the directory that cannot be listed.
    pub fn named(&self, name: &KnownAs) -> Result<Vec<Key>, Error> {
        self.entries(NAMED, name)
    }

    /// The attachments that ask for a link to a name.
    ///
    /// # Errors
    /// As [`LinksIndex::named`].
    pub fn wished(&self, name: &KnownAs) -> Result<Vec<Key>, Error> {
        self.entries(WISHED, name)
    }

    fn entries(&self, kind: &str, name: &KnownAs) -> Result<Vec<Key>, Error> {
        let dir = self.dir.join(kind).join(name.as_ref());
        let listed = fs::read_dir(&dir).and_then(|entries| {
            let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name());
            entries.map(name).collect::<io::Result<Vec<_>>>()
        });
        let names = match listed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(FileError::of("list", &dir))?,
        };
        let keys = names
            .iter()
            .filter_map(|file| Key::of_file(&self.network, file.to_str()?));
        Ok(keys.collect())
    }

    fn paths(&self, key: &Key, record: &FirewallRecord) -> Vec<PathBuf> {
        let named = record.names.iter().map(|name| (NAMED, name));
        let wished = record.links.iter().map(|link| (WISHED, &link.container));
        named
            .chain(wished)
            .map(|(kind, name)| {
                let dir = self.dir.join(kind).join(name.as_ref());
                dir.join(key.file_name())
            })
            .collect()
    }
}
