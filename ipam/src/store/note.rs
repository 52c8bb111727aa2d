//! What is remembered about a network beside its leases: a small text file
//! in its lease directory.
//!
//! The reference reads every file of the directory as if it were a lease, so
//! this one must never read like an owner: each of its lines has a space in
//! it, which neither a container id nor an interface name can have.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use pontoon_ledger::files;

use super::StoreError;
use crate::range::parse_network;
use crate::span::Span;

/// Bytes of it that are read. It names the subnets of a configuration, which has 6 MB at most.
const LARGEST: u64 = 8 * 1024 * 1024;

/// File name; not an address, so not a lease.
const NAME: &str = "pontoon.network";

/// The note of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    boot: Option<String>,
    auto: Option<String>,
    subnets: Vec<String>,
}

impl Note {
    /// The boot whose leases the directory holds.
    #[must_use]
    pub fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }

    pub(super) fn set_boot(&mut self, id: &str) {
        self.boot = Some(id.to_owned());
    }

    /// The subnet chosen for `"subnet": "auto"`.
    #[must_use]
    pub fn auto(&self) -> Option<&str> {
        self.auto.as_deref()
    }

    /// Remembers the choice.
    pub fn set_auto(&mut self, subnet: impl Into<String>) {
        self.auto = Some(subnet.into());
    }

    /// The subnets last used by the network, for others to avoid.
    #[must_use]
    pub fn subnets(&self) -> &[String] {
        &self.subnets
    }

    /// Remembers them.
    pub fn set_subnets(&mut self, subnets: Vec<String>) {
        self.subnets = subnets;
    }

    /// All subnets of the network.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.auto
            .iter()
            .chain(&self.subnets)
            .filter_map(|text| parse_network(text).ok())
            .map(|(address, prefix)| Span::network(address, prefix))
            .collect()
    }

    /// Reads a network's note; an empty one when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(folder: &Path) -> Result<Note, StoreError> {
        let path = folder.join(NAME);
        match files::read(&path, LARGEST) {
            Ok(bytes) => Ok(Note::parse(&String::from_utf8_lossy(&bytes))),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(Note::default())
            }
            Err(source) => Err(StoreError::Read { path, source }),
        }
    }

    fn parse(text: &str) -> Note {
        let mut note = Note::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match key {
                "boot" => note.boot = Some(value.to_owned()),
                "auto" if parse_network(value).is_ok() => note.auto = Some(value.to_owned()),
                "subnet" => note.subnets.push(value.to_owned()),
                _ => {}
            }
        }
        note
    }

    fn text(&self) -> String {
        let mut text = String::from("# kept by Pontoon host-local beside the leases\n");
        let boot = self.boot.iter().map(|value| ("boot", value));
        let auto = self.auto.iter().map(|value| ("auto", value));
        let subnets = self.subnets.iter().map(|value| ("subnet", value));
        for (key, value) in boot.chain(auto).chain(subnets) {
            text.push_str(&format!("{key} {value}\n"));
        }
        text
    }

    /// Puts it in place of the old one, at once.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(NAME);
        let unfinished = folder.join(format!("{NAME}.new"));
        let write = || {
            // One left by a kill, whatever it is by now, is not written through.
            match fs::remove_file(&unfinished) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&unfinished)?;
            file.write_all(self.text().as_bytes())?;
            super::fault("ipam-note").map_err(std::io::Error::other)?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|source| StoreError::Write {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner;

    #[test]
    fn round_trip() {
        let mut note = Note::default();
        note.set_boot("5b0c");
        note.set_auto("172.18.0.0/16");
        note.set_subnets(vec!["10.0.0.0/24".to_owned(), "fd00::/64".to_owned()]);
        assert_eq!(Note::parse(&note.text()), note);
        assert_eq!(note.spans().len(), 3);
        assert!(!owner::is_key(note.text().as_bytes()));
    }

    #[test]
    fn nonsense_is_ignored() {
        assert_eq!(
            Note::parse("auto nowhere\nboot\n\nfuture thing\n"),
            Note::default()
        );
    }
}
