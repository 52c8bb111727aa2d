//! The servers that the host's files name, followed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pontoon_dns::resolv_conf::{RESOLVED, Server, servers_of_host};
use rustix::process::geteuid;

use super::sockets;
use pontoon_resolver::choose::plain;

/// Most files that are remembered.
const REMEMBERED: usize = 1024;

/// What tells one state of a file from another.
pub(crate) type FileStamp = Option<(u64, u64, u64, i64, i64, i64)>;

struct File {
    /// The turn in which it was last looked at.
    looked: u64,
    stamps: [FileStamp; 2],
    /// The file that the servers come from, and why one could not be read.
    origin: String,
    servers: Vec<Server>,
}

/// The host's files, followed.
#[derive(Default)]
pub(crate) struct HostFiles {
    files: HashMap<PathBuf, File>,
    turn: u64,
}

impl HostFiles {
    /// Files are looked at again from now on.
    pub(crate) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// The servers that a host file names and that can be asked, and the file that they come from, in words.
    pub(crate) fn servers(&mut self, path: &Path) -> (Vec<SocketAddr>, String) {
        let file = self.file(path);
        let servers = file.servers.iter().filter_map(reachable).collect();
        (servers, file.origin.clone())
    }

    /// The servers of a host file as it is now: looking costs two system calls, once for all
    /// questions that came at a time, and no change is ever missed.
    fn file(&mut self, path: &Path) -> &File {
        let turn = self.turn;
        if self
            .files
            .get(path)
            .is_some_and(|known| known.looked == turn)
        {
            return &self.files[path];
        }
        let stamps = [stamp(path), stamp(Path::new(RESOLVED))];
        let known = self.files.get_mut(path);
        if let Some(known) = known.filter(|known| known.stamps == stamps) {
            known.looked = turn;
        } else {
            let (origin, servers) = read(path);
            let file = File {
                looked: turn,
                stamps,
                origin,
                servers,
            };
            if self.files.len() >= REMEMBERED {
                self.files.clear();
            }
            self.files.insert(path.to_owned(), file);
        }
        &self.files[path]
    }
}

/// The servers of a host's file, and the file that names them. This process is not root: a file that only root
/// may read names no server, and that is told.
fn read(path: &Path) -> (String, Vec<Server>) {
    let mut unread = None;
    let (used, servers) = servers_of_host(path, |path| {
        let read = fs::read(path);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::NotFound
        {
            let user = geteuid().as_raw();
            unread = Some(format!(
                "{} (user {user} cannot read it: {error})",
                path.display()
            ));
        }
        read.ok()
    });
    (
        unread.unwrap_or_else(|| used.display().to_string()),
        servers,
    )
}

pub(crate) fn stamp(path: &Path) -> FileStamp {
    let data = fs::metadata(path).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Where a server is asked; `None` when the interface of its scope is not there.
fn reachable(server: &Server) -> Option<SocketAddr> {
    match (server.address, &server.scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let index = scope
                .parse()
                .ok()
                .or_else(|| sockets::interface_index(scope))?;
            Some(SocketAddrV6::new(address, plain(address.into()).port(), 0, index).into())
        }
        (address, _) => Some(plain(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let mut files = HostFiles::default();
        let mut look = || {
            files.begin_turn();
            let (servers, used) = files.servers(&path);
            assert_eq!(used, path.display().to_string());
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            servers.join(" ")
        };
        assert_eq!(look(), "");
        fs::write(&path, "nameserver 10.0.0.7\nnameserver fe80::1%1\n").unwrap();
        assert_eq!(look(), "10.0.0.7:53 [fe80::1%1]:53");
        // By rename, as editors and network managers do.
        fs::write(dir.path().join("new"), "nameserver 10.0.0.3\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(look(), "10.0.0.3:53");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = HostFiles::default();
        files.begin_turn();
        // A directory is what no user can read as a file.
        let (servers, origin) = files.servers(dir.path());
        assert!(servers.is_empty());
        assert!(origin.contains("cannot read it"), "{origin}");
        assert!(
            origin.starts_with(&dir.path().display().to_string()),
            "{origin}"
        );
    }
}
