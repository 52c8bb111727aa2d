//! What was before, in the file and the form of the reference plugin, so that either plugin can put
//! back what the other has changed. It ignores the key `sysctl`, which is ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pontoon_ledger::{Key, directory, files};
use serde::{Deserialize, Serialize};

use crate::error::{BackupError, FileAction};

/// Bytes of a file that is read: a thousand parameters with long names have 200 kB.
const LARGEST: u64 = 4 * 1024 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Backup {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promisc: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) mtu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub(crate) tx_q_len: Option<u32>,
    /// By path below `/proc/sys`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctl: BTreeMap<String, SavedParameter>,
}

/// A kernel parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedParameter {
    pub(crate) before: String,
    /// What we set: another value by now is another program's, and stays.
    pub(crate) set: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The reference plugin's file of an attachment.
pub(crate) fn path(dir: &Path, key: &Key) -> PathBuf {
    dir.join(format!("{}_{}.json", key.container, key.interface))
}

fn failed(act: FileAction, path: &Path) -> impl Fn(io::Error) -> BackupError + Copy {
    move |source| BackupError {
        act,
        path: path.to_owned(),
        source,
    }
}

/// Reads a backup. `None` when there is none. Nothing but a regular file is read, and that not without end.
///
/// # Errors
/// Code 5: what was before is not known, and the file stays for the administrator.
pub(crate) fn read(path: &Path) -> Result<Option<Backup>, BackupError> {
    let failed = failed(FileAction::Read, path);
    let bytes = match files::read(path, LARGEST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed)?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(backup) => Ok(Some(backup)),
        Err(error) => Err(failed(error.into())),
    }
}

/// Writes a backup: complete or not at all.
pub(crate) fn write(path: &Path, backup: &Backup) -> Result<(), BackupError> {
    let failed = failed(FileAction::Write, path);
    let draft = draft(path);
    let text = serde_json::to_vec(backup).map_err(|error| failed(error.into()))?;
    // One left by a kill, whatever it is by now, is not written through.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut file = directory::again_with(parent, || options.open(&draft)).map_err(failed)?;
    let done = file
        .write_all(&text)
        .and_then(|()| fs::rename(&draft, path));
    if done.is_err() {
        let _ = fs::remove_file(&draft);
    }
    done.map_err(failed)
}

/// Where a backup is written until it is complete. A runtime calls for one attachment at a time: one name is enough,
/// and DEL knows it when ADD was killed.
fn draft(path: &Path) -> PathBuf {
    path.with_extension("json.draft")
}

/// Removes a backup, and what a killed ADD has left of it; success when there is none.
pub(crate) fn remove(path: &Path) -> Result<(), BackupError> {
    for path in [path, &draft(path)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(FileAction::Remove, path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pontoon_conf::{OperationError as _, code};

    use super::*;

    #[test]
    fn the_reference_plugins_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key {
            network: "net".into(),
            container: "c1".into(),
            interface: "eth0".into(),
        };
        let path = path(dir.path(), &key);
        assert!(path.ends_with("c1_eth0.json"));
        fs::write(
            &path,
            "{\n \"mac\": \"02:00:00:00:00:01\",\n \"promisc\": false,\n \"mtu\": 1500\n}",
        )
        .unwrap();
        let backup = read(&path).unwrap().unwrap();
        assert_eq!((backup.mtu, backup.promisc), (1500, Some(false)));
        assert!(backup.sysctl.is_empty());
        write(&path, &backup).unwrap();
        assert_eq!(read(&path).unwrap(), Some(backup));
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        fs::write(&path, "{\"mtu\": ").unwrap();
        assert_eq!(read(&path).unwrap_err().code(), code::IO);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&path).unwrap_err().code(), code::IO);
        fs::remove_dir(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
