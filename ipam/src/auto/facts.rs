//! What a chosen subnet has to keep clear of, gathered from the host.

use std::fs::{self, File};
use std::path::Path;

use pontoon_conf::{Error, code};
use pontoon_netlink::RouteSocket;

use super::{DEFAULT_POOLS, choose as first_free, is_particular};
use crate::resolv;
use crate::span::Span;
use crate::store::Note;

/// The host's resolver, and the real one behind systemd's stub.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Keeps others from choosing until dropped. A directory can be locked as a
/// file can, so nothing is left lying about between the networks.
pub(crate) fn lock(data_dir: &Path) -> Result<File, Error> {
    let locked = File::open(data_dir).and_then(|directory| {
        directory.lock()?;
        Ok(directory)
    });
    locked.map_err(|error| {
        Error::new(
            code::IO,
            format!("cannot lock {} to choose a subnet", data_dir.display()),
        )
        .with_details(error.to_string())
    })
}

/// A subnet for the network with this lease directory.
pub(crate) fn choose(data_dir: &Path, own: &Path) -> Result<String, Error> {
    let mut taken = routes()?;
    taken.extend(servers());
    taken.extend(networks(data_dir, own));
    first_free(&DEFAULT_POOLS, &taken).ok_or_else(|| {
        Error::new(
            code::CONFLICT,
            "could not find an available, non-overlapping IPv4 address pool among the defaults",
        )
        .with_details(
            "host routes, resolvers and other networks overlap all of them: write \"subnet\" out",
        )
    })
}

/// A host that has no resolver file has no resolver to keep clear of.
fn servers() -> Vec<Span> {
    RESOLVERS
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| resolv::servers(&text))
        .map(Span::one)
        .collect()
}

/// The subnets of other networks: as noted by ours, and the addresses that
/// those of the reference plugin gave out last.
fn networks(data_dir: &Path, own: &Path) -> Vec<Span> {
    let folders = fs::read_dir(data_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut found = Vec::new();
    for folder in folders.filter(|folder| folder != own) {
        found.extend(Note::read(&folder).unwrap_or_default().spans());
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if file
                .file_name()
                .to_string_lossy()
                .starts_with("last_reserved_ip.")
            {
                let text = fs::read_to_string(file.path()).unwrap_or_default();
                found.extend(text.trim().parse().ok().map(Span::one));
            }
        }
    }
    found
}

/// Where the host's main routing table says that somebody is.
fn routes() -> Result<Vec<Span>, Error> {
    let failed = |error: pontoon_netlink::Error| {
        Error::new(
            code::KERNEL,
            "cannot list the host's routes to choose a subnet",
        )
        .with_details(error.to_string())
    };
    let mut socket = RouteSocket::open().map_err(failed)?;
    let routes = socket.routes(true).map_err(failed)?;
    Ok(routes
        .iter()
        .filter(|route| is_particular(route.destination.prefix()))
        .map(|route| Span::network(route.destination.network(), route.destination.prefix()))
        .collect())
}
