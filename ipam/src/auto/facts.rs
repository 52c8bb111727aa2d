//! What a chosen subnet has to keep clear of, gathered from the host.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pontoon_conf::Error;
use pontoon_ledger::files;
use pontoon_netlink::RouteSocket;

use super::{DEFAULT_POOLS, choose as first_free, is_particular};
use crate::error::ChooseError;
use crate::resolv;
use crate::span::Span;
use crate::store::{Note, cursor_at};

/// The host's resolver, and the real one behind systemd's stub.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Keeps others from choosing until dropped. A directory can be locked as a
/// file can, so nothing is left lying about between the networks.
pub(crate) fn lock(data_dir: &Path) -> Result<File, ChooseError> {
    let locked = File::open(data_dir).and_then(|directory| {
        directory.lock()?;
        Ok(directory)
    });
    locked.map_err(|source| {
        let data_dir = data_dir.to_owned();
        ChooseError::Lock { data_dir, source }
    })
}

/// A subnet for the network with this lease directory.
pub(crate) fn choose(data_dir: &Path, own: &Path) -> Result<String, Error> {
    let mut taken = routes()?;
    taken.extend(servers()?);
    taken.extend(networks(data_dir, own)?);
    let found = first_free(&DEFAULT_POOLS, &taken);
    found.ok_or_else(|| ChooseError::NoneFree.into())
}

fn unreadable(path: &Path, source: io::Error) -> ChooseError {
    let path = path.to_owned();
    ChooseError::Unreadable { path, source }
}

/// A host that has no resolver file has no resolver to keep clear of.
fn servers() -> Result<Vec<Span>, ChooseError> {
    let mut found = Vec::new();
    for path in RESOLVERS.map(Path::new) {
        match files::read_following(path, files::RESOLV_CONF) {
            Ok(bytes) => {
                let servers = resolv::servers(&String::from_utf8_lossy(&bytes));
                found.extend(servers.into_iter().map(Span::one));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, error)),
        }
    }
    Ok(found)
}

/// The entries of a directory; of what is gone, or is no directory, none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, ChooseError> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
    });
    match listed {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        listed => listed.map_err(|error| unreadable(dir, error)),
    }
}

/// The subnets of other networks: as noted by Pontoon, and the addresses that
/// those of the reference plugin gave out last.
fn networks(data_dir: &Path, own: &Path) -> Result<Vec<Span>, Error> {
    let mut found = Vec::new();
    for folder in entries(data_dir)? {
        if folder == own {
            continue;
        }
        found.extend(Note::read(&folder)?.spans());
        for path in entries(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("last_reserved_ip.") {
                let cursor = cursor_at(path.clone())?;
                found.extend(cursor.map(Span::one));
            }
        }
    }
    Ok(found)
}

/// Where the host's main routing table says that another host is.
fn routes() -> Result<Vec<Span>, ChooseError> {
    let failed = |source| ChooseError::Routes { source };
    let mut socket = RouteSocket::open().map_err(failed)?;
    let routes = socket.routes(true).map_err(failed)?;
    Ok(routes
        .iter()
        .filter(|route| is_particular(route.destination.prefix()))
        .map(|route| Span::network(route.destination.network(), route.destination.prefix()))
        .collect())
}
