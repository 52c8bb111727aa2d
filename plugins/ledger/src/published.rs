//! The attachments with published ports, by container: a port leads to one address of the container,
//! and the rules for it change whenever the container gets or loses an interface on any network.
//!
//! ```text
//! published/CONTAINER/NETWORK:IFNAME   an attachment of the container with published ports
//! ```

use std::path::PathBuf;

use pontoon_conf::Error;

use crate::record::PortmapRecord;
use crate::{Key, State, directory, file};

fn folder(state: &State, container: &str) -> PathBuf {
    state.dir().join("published").join(container)
}

fn entry(state: &State, key: &Key) -> PathBuf {
    let name = format!("{}:{}", key.network, key.interface);
    folder(state, &key.container).join(name)
}

/// Writes the record of an attachment, where the container's other networks find it. The record comes
/// first: a writer that is killed leaves no mark that no record tells GC of.
///
/// # Errors
/// Code 5 with the path.
pub fn write(state: &State, key: &Key, record: &PortmapRecord) -> Result<(), Error> {
    state.write(key, record)?;
    file::mark(&entry(state, key))?;
    Ok(())
}

/// Removes the record of an attachment, after the mark and its directories, which only the record tells GC
/// of.
///
/// # Errors
/// Code 5 with the path.
pub fn remove(state: &State, key: &Key) -> Result<(), Error> {
    let entry = entry(state, key);
    file::remove(&entry)?;
    for dir in entry.ancestors().skip(1).take(2) {
        if !directory::remove_empty(dir)? {
            break;
        }
    }
    state.records_of::<PortmapRecord>().remove(key)?;
    Ok(())
}

/// The attachments of a container that have published ports.
///
/// # Errors
/// Code 5 with the directory that cannot be listed.
pub fn of(state: &State, container: &str) -> Result<Vec<Key>, Error> {
    let names = file::list(&folder(state, container))?;
    let keys = names.iter().filter_map(|name| {
        let (network, interface) = name.split_once(':')?;
        Key::of_parts(network, container, interface)
    });
    Ok(keys.collect())
}
