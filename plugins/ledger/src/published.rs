//! The attachments with published ports, by container: a port leads to one address of the container,
//! and the rules for it change whenever the container gets or loses an interface on any network.
//!
//! ```text
//! published/CONTAINER/NETWORK:IFNAME   an attachment of the container with published ports
//! ```

use std::fs;
use std::path::PathBuf;

use pontoon_conf::Error;

use crate::record::PortmapRecord;
use crate::{Key, State, file};

fn folder(state: &State, container: &str) -> PathBuf {
    state.dir().join("published").join(container)
}

fn entry(state: &State, key: &Key) -> PathBuf {
    let name = format!("{}:{}", key.network, key.interface);
    folder(state, &key.container).join(name)
}

/// Writes the record of an attachment, where the container's other networks find it.
///
/// # Errors
/// Code 5 with the path.
pub fn write(state: &State, key: &Key, record: &PortmapRecord) -> Result<(), Error> {
    file::mark(&entry(state, key))?;
    state.write(key, record)
}

/// Removes the record of an attachment.
///
/// # Errors
/// Code 5 with the path.
pub fn remove(state: &State, key: &Key) -> Result<(), Error> {
    state.records_of::<PortmapRecord>().remove(key)?;
    if !file::remove(&entry(state, key))? {
        return Ok(());
    }
    // Each fails while it is not empty.
    if fs::remove_dir(folder(state, &key.container)).is_ok() {
        let _ = fs::remove_dir(state.dir().join("published"));
    }
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
