//! How many addresses of a block are in use: host-local keeps a file for each, named by the address.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pontoon_conf::Cidr;

/// The addresses with a lease in a folder, read again when the folder has changed.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    read: BTreeMap<PathBuf, (SystemTime, Vec<IpAddr>)>,
}

impl Leases {
    /// The addresses in use; none where there is no folder.
    ///
    /// # Errors
    /// Those of the system calls: what cannot be read must not count as unused.
    pub(crate) fn of(&mut self, folder: &Path) -> io::Result<&[IpAddr]> {
        let changed = match fs::metadata(folder).and_then(|found| found.modified()) {
            Ok(changed) => changed,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.read.remove(folder);
                return Ok(&[]);
            }
            Err(error) => return Err(error),
        };
        let fresh = self.read.get(folder).is_some_and(|(when, _)| {
            // A change within the clock's tick (4 ms or less) after the last look has the same time.
            let settled = changed.elapsed().is_ok_and(|age| age.as_millis() > 100);
            *when == changed && settled
        });
        if !fresh {
            let mut addresses = Vec::new();
            for entry in fs::read_dir(folder)? {
                let name = entry?.file_name();
                addresses.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
            }
            self.read.insert(folder.to_owned(), (changed, addresses));
        }
        Ok(self
            .read
            .get(folder)
            .map_or(&[], |(_, addresses)| addresses))
    }
}

/// How many of the addresses lie in each block.
pub(crate) fn by_block(blocks: &[Cidr], addresses: &[IpAddr]) -> BTreeMap<Cidr, u64> {
    let count = |block: &Cidr| {
        let inside = addresses.iter().filter(|address| block.contains(**address));
        (*block, inside.count() as u64)
    };
    blocks.iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_files_named_by_their_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut leases = Leases::default();
        let folder = dir.path().join("lan");
        assert_eq!(leases.of(&folder).unwrap().len(), 0);
        fs::create_dir(&folder).unwrap();
        for name in [
            "10.5.7.2",
            "10.5.8.2",
            "fd00::2",
            "lock",
            "last_reserved_ip.0",
        ] {
            fs::write(folder.join(name), "c\r\neth0").unwrap();
        }
        let found = leases.of(&folder).unwrap().to_vec();
        assert_eq!(found.len(), 3);
        let blocks = ["10.5.7.0/24", "fd00::/64", "10.5.9.0/24"].map(|it| it.parse().unwrap());
        let used: Vec<u64> = by_block(&blocks, &found).into_values().collect();
        assert_eq!(used, [1, 0, 1]);
        // A change right after the look is seen.
        fs::write(folder.join("10.5.7.3"), "").unwrap();
        assert_eq!(leases.of(&folder).unwrap().len(), 4);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(leases.of(&folder).unwrap().len(), 0);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Leases::default().of(&file).is_err());
    }
}
