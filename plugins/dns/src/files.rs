//! A container's resolv.conf and hosts, made of what each of its networks has to say.
//!
//! ```text
//! STATE/containers/ID/resolv.conf, hosts     the whole
//! STATE/containers/ID/.NETWORK:IFNAME        one network's part
//! /etc/netns/NAME/resolv.conf, hosts         the same, when asked for
//! ```

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pontoon_dns::hosts::Hosts;
use pontoon_dns::resolv_conf::ContainerResolver;
use pontoon_ledger::{Key, draft, files as small};
use pontoon_plugin::{Context, warn};
use serde::{Deserialize, Serialize};

use crate::error::FileError;

/// What makes a file ours.
const MARK: &str = "# Made by Pontoon";
/// Bytes of a file that is read again. One network's part has 5 lists of 1,024 words at most.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What one network says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NetworkSection {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<String>,
    others: Vec<String>,
    notes: Vec<String>,
    addresses: Vec<IpAddr>,
    names: Vec<String>,
    domain: String,
}

impl NetworkSection {
    pub(crate) fn new(
        inside: &ContainerResolver,
        addresses: &[IpAddr],
        names: &[String],
        domain: &str,
    ) -> Self {
        Self {
            servers: inside.servers.clone(),
            search: inside.search.clone(),
            options: inside.options.clone(),
            others: inside.others.clone(),
            notes: inside.notes.clone(),
            addresses: addresses.to_vec(),
            names: names.to_vec(),
            domain: domain.to_owned(),
        }
    }
}

fn dir(context: &Context, container: &str) -> PathBuf {
    context.state.container_files(container)
}

fn part_name(key: &Key) -> String {
    format!(".{}:{}", key.network, key.interface)
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Refused {
        act,
        path: path.to_owned(),
        source,
    }
}

/// Where a file of `/etc/netns` is written until it is complete. The name is always the same, so that DEL knows it
/// when ADD was killed.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.pontoon"))
}

/// Writes a file of `/etc/netns` that all users may read: complete or not at all.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(text)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(draft::READABLE)))
        .and_then(|()| fs::rename(&draft, path))
        .inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// Adds a network's part, and writes the files anew. `netns` names the namespace whose files in
/// `/etc/netns` are kept too.
pub(crate) fn add(
    context: &Context,
    key: &Key,
    part: &NetworkSection,
    netns: Option<&str>,
) -> Result<(), FileError> {
    let text = serde_json::to_vec(part).map_err(FileError::Encode)?;
    let name = part_name(key);
    let written = context
        .state
        .write_container_file(&key.container, &name, &text, false);
    let path = dir(context, &key.container).join(name);
    written.map_err(failed("write", &path))?;
    refresh(context, &key.container, netns)
}

/// Removes a network's part, and the files with the last one.
pub(crate) fn remove(context: &Context, key: &Key, netns: Option<&str>) -> Result<(), FileError> {
    let dir = dir(context, &key.container);
    let path = dir.join(part_name(key));
    removed(&path, fs::remove_file(&path))?;
    match fs::symlink_metadata(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => refresh(context, &key.container, netns),
    }
}

/// What every network says. A part that cannot be read is an error: without it the files would lack a
/// network's servers and names.
fn parts(dir: &Path) -> Result<Vec<NetworkSection>, FileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let name = entry.map_err(failed("list", dir))?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with('.') && text.contains(':') && !text.starts_with(".draft-") {
            names.push(name);
        }
    }
    names.sort();
    let mut parts = Vec::new();
    for name in names {
        let path = dir.join(name);
        let bytes = match small::read(&path, LARGEST) {
            // Another network of the container went just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(failed("read", &path))?,
        };
        parts.push(
            serde_json::from_slice(&bytes).map_err(|error| failed("read", &path)(error.into()))?,
        );
    }
    Ok(parts)
}

/// Both files, of all parts.
fn texts(parts: &[NetworkSection]) -> (String, String) {
    let mut whole = ContainerResolver::default();
    let mut hosts = format!("{MARK}.\n");
    for (index, part) in parts.iter().enumerate() {
        // Every network's resolver knows the names of all of them.
        merge(&mut whole.servers, &part.servers);
        merge(&mut whole.search, &part.search);
        merge(&mut whole.options, &part.options);
        merge(&mut whole.others, &part.others);
        merge(&mut whole.notes, &part.notes);
        let text = Hosts {
            addresses: &part.addresses,
            names: &part.names,
            domain: &part.domain,
        }
        .text();
        for line in text.lines() {
            if index == 0 || !hosts.lines().any(|known| known == line) {
                hosts.push_str(line);
                hosts.push('\n');
            }
        }
    }
    (whole.to_string(), hosts)
}

fn merge<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

fn refresh(context: &Context, container: &str, netns: Option<&str>) -> Result<(), FileError> {
    let dir = &dir(context, container);
    let parts = parts(dir)?;
    let (resolv_conf, hosts) = texts(&parts);
    let etc = netns.map(|name| Path::new("/etc/netns").join(name));
    let files = [("resolv.conf", &resolv_conf), ("hosts", &hosts)];
    if parts.is_empty() {
        return remove_all(dir, etc.as_deref());
    }
    for (file, text) in files {
        let state = &context.state;
        let written = state.write_container_file(container, file, text.as_bytes(), true);
        written.map_err(failed("write", &dir.join(file)))?;
    }
    let Some(etc) = etc else { return Ok(()) };
    // As ip-netns(8) documents it, whatever the umask is.
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&etc);
    made.map_err(failed("make", &etc))?;
    for (file, text) in files {
        let path = etc.join(file);
        if !replaceable(&path)? {
            warn(format_args!(
                "dns: warning: {} was not written by Pontoon and stays as it is",
                path.display()
            ));
        } else {
            write(&path, text.as_bytes()).map_err(failed("write", &path))?;
        }
    }
    Ok(())
}

/// Removes the files of a container that no network has anything to say to any more. In `/etc/netns` the
/// administrator's own stay.
fn remove_all(dir: &Path, etc: Option<&Path>) -> Result<(), FileError> {
    for file in ["resolv.conf", "hosts"] {
        let path = dir.join(file);
        removed(&path, fs::remove_file(&path))?;
        let Some(etc) = etc else { continue };
        let path = etc.join(file);
        if is_ours(&path)? {
            removed(&path, fs::remove_file(&path))?;
        }
        let draft = draft(&path);
        removed(&draft, fs::remove_file(&draft))?;
    }
    remove_drafts(dir);
    for dir in [Some(dir), dir.parent(), etc].into_iter().flatten() {
        removed(dir, fs::remove_dir(dir))?;
    }
    Ok(())
}

/// What was to be removed is gone, was never there, or is a directory that others use.
fn removed(path: &Path, done: io::Result<()>) -> Result<(), FileError> {
    match done {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes drafts that an older release wrote here and a kill has left.
fn remove_drafts(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".draft-") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is there that Pontoon has made.
fn is_ours(path: &Path) -> Result<bool, FileError> {
    match small::read_following(path, LARGEST) {
        Ok(text) => Ok(text.starts_with(MARK.as_bytes())),
        Err(error) => match error.kind() {
            // The administrator's own: Pontoon writes small regular files.
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => {
                Ok(false)
            }
            _ => Err(failed("read", path)(error)),
        },
    }
}

/// Whether a file may be written here: there is none, or Pontoon's.
fn replaceable(path: &Path) -> Result<bool, FileError> {
    Ok(
        fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            || is_ours(path)?,
    )
}

/// Whether both files of a container are there.
pub(crate) fn missing(context: &Context, container: &str) -> Option<PathBuf> {
    let dir = dir(context, container);
    ["resolv.conf", "hosts"]
        .iter()
        .map(|file| dir.join(file))
        .find(|path| !path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(server: &str, address: &str, search: &str) -> NetworkSection {
        NetworkSection {
            servers: vec![server.parse().unwrap()],
            search: vec![search.into(), "lan".into()],
            addresses: vec![address.parse().unwrap()],
            names: vec!["web".into()],
            domain: search.into(),
            notes: vec!["Made by Pontoon from /etc/resolv.conf.".into()],
            ..NetworkSection::default()
        }
    }

    #[test]
    fn two_networks_are_one_file() {
        let (resolv_conf, hosts) = texts(&[
            part("10.1.0.1", "10.1.0.2", "a.net"),
            part("10.2.0.1", "10.2.0.2", "b.net"),
        ]);
        assert_eq!(
            resolv_conf,
            "# Made by Pontoon from /etc/resolv.conf.\n\
             nameserver 10.1.0.1\nnameserver 10.2.0.1\nsearch a.net lan b.net\n"
        );
        assert_eq!(
            hosts,
            "# Made by Pontoon.\n127.0.0.1\tlocalhost\n\
             10.1.0.2\tweb.a.net web\n10.2.0.2\tweb.b.net web\n"
        );
        assert!(resolv_conf.starts_with(MARK));
    }
}
