//! A bridge that Pontoon did not make and on which another program has its containers, as Docker has
//! on docker0: that program gives out addresses of the same subnet, and its containers would have
//! theirs taken away. Looked at only when the network has a pool of addresses of its own (host-local):
//! an address that is written out (static) or that a server of the whole link gives is not guessed.
//!
//! What is no container's port does not count: physical devices, and VLANs, bonds, tunnels and
//! dummies, so that a bridge with an uplink is used as by the reference plugin. In a host that is a
//! container itself the uplink is a veth too; it has the name of a network card.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pontoon_attach::reference::read_lease;
use pontoon_conf::Error;
use pontoon_ledger::{BridgeRecord, Key, kinds};
use pontoon_netlink::{Link, RouteSocket};
use pontoon_plugin::{Context, kernel_error};

use crate::error::ForeignError;

/// Kinds of links at whose other end a container or a virtual machine is.
const CONTAINERS: [&str; 3] = ["netkit", "tun", "veth"];
/// How names of network cards begin: the kernel's and udev's.
const CARDS: [&str; 3] = ["eth", "en", "wl"];
/// How long the reference plugin may take between a container's link and its lease.
const SETTLING: Duration = Duration::from_secs(1);
/// Ports that the error names.
const SHOWN: usize = 3;

/// The ports of a bridge at whose other end are containers or virtual machines that are neither
/// Pontoon's nor the reference plugin's; none on a bridge of Pontoon's. For `pontoon lint`.
#[must_use]
pub fn foreign_ports<'l>(bridge: &Link, ports: &[&'l Link]) -> Vec<&'l str> {
    if is_pontoons(bridge) {
        return Vec::new();
    }
    let mut foreign = containers(ports.iter().copied());
    foreign.retain(|port| !is_named_by_reference(port));
    foreign
}

fn containers<'l>(ports: impl Iterator<Item = &'l Link>) -> Vec<&'l str> {
    ports
        .filter(|port| is_container(port) && !is_pontoons(port) && !is_in_the_making(port))
        .map(|port| port.name.as_str())
        .collect()
}

/// Refuses to give out addresses on a bridge of another program. `pool` is the lease directory of the
/// network, where it has one. A bridge of any network of Pontoon's costs no question.
pub(crate) fn refuse(
    context: &Context,
    host: &mut RouteSocket,
    bridge: Option<&Link>,
    pool: Option<&Path>,
) -> Result<(), Error> {
    let (Some(bridge), Some(pool)) = (bridge, pool) else {
        return Ok(());
    };
    if bridge.kind.as_deref() != Some("bridge") || is_pontoons(bridge) {
        return Ok(());
    }
    let name = &bridge.name;
    let list = |host: &mut RouteSocket| {
        let ports = host.links_of_bridge(bridge.index);
        ports
            .map_err(|error| kernel_error(format!("cannot list the ports of bridge {name}"), error))
    };
    let mut ports = list(host)?;
    let mut foreign = containers(ports.iter());
    if foreign.is_empty() {
        return Ok(());
    }
    // The reference plugin takes addresses from the same pool: binaries may be exchanged while
    // containers run.
    let started = Instant::now();
    while foreign.iter().all(|port| is_named_by_reference(port)) {
        if has_others(context)? || has_lease_of_reference(context, pool)? {
            return Ok(());
        }
        // It makes the link before it takes the address, and gives the address back before it removes the link.
        if started.elapsed() > SETTLING {
            break;
        }
        std::thread::sleep(SETTLING / 20);
        ports = list(host)?;
        foreign = containers(ports.iter());
        if foreign.is_empty() {
            return Ok(());
        }
    }
    foreign.sort_unstable();
    let more = match foreign.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    foreign.truncate(SHOWN);
    Err(ForeignError::OtherPorts {
        bridge: name.to_string(),
        ports: format!("{}{more}", foreign.join(", ")),
        network: context.config.name.to_string(),
    }
    .into())
}

/// By the note that Pontoon leaves on every link it makes.
fn is_pontoons(link: &Link) -> bool {
    let alias = link.alias.as_deref().unwrap_or_default();
    alias.starts_with("pontoon ")
}

/// Whether a port of Pontoon's is still without its note: another ADD writes it in its second message.
fn is_in_the_making(port: &Link) -> bool {
    port.alias.is_none() && has_digits(&port.name, 11)
}

fn is_container(port: &Link) -> bool {
    let kind = port.kind.as_deref().unwrap_or_default();
    let card = || {
        let behind = CARDS.iter().find_map(|card| port.name.strip_prefix(card));
        behind.is_some_and(|rest| rest.contains(|c: char| c.is_ascii_digit()))
    };
    CONTAINERS.contains(&kind) && !card()
}

/// As the reference plugin names its end of a pair: `veth` and four random bytes. Docker takes seven
/// digits.
fn is_named_by_reference(name: &str) -> bool {
    has_digits(name, 8)
}

/// Whether a name is `veth` and so many hexadecimal digits.
fn has_digits(name: &str, count: usize) -> bool {
    name.strip_prefix("veth").is_some_and(|digits| {
        digits.len() == count && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Whether the network has attachments of Pontoon's beside this one: the question was answered then.
fn has_others(context: &Context) -> Result<bool, Error> {
    let records = context.state.records_of::<BridgeRecord>();
    match context.key() {
        Ok(key) => Ok(!records.is_only(&key)?),
        // STATUS is about no attachment.
        Err(_) => Ok(records.has_network(context.config.name.as_ref())),
    }
}

/// Whether an attachment that is not Pontoon's has an address of this network, or of another one that
/// may share its bridge.
fn has_lease_of_reference(context: &Context, pool: &Path) -> Result<bool, Error> {
    let mut folders = vec![pool.to_owned()];
    let siblings = entries(pool.parent().unwrap_or(pool))?;
    folders.extend(siblings.into_iter().filter(|path| path != pool));
    for folder in folders {
        for lease in entries(&folder)? {
            if is_of_reference(context, &folder, &lease)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_of_reference(context: &Context, folder: &Path, lease: &Path) -> Result<bool, Error> {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    if name(lease).parse::<IpAddr>().is_err() {
        return Ok(false);
    }
    let Some(text) = read_lease(lease).map_err(unreadable(lease))? else {
        return Ok(false);
    };
    let mut lines = text.lines().map(str::trim);
    let key = Key {
        network: name(folder),
        container: lines.next().unwrap_or_default().to_owned(),
        interface: lines.next().unwrap_or_default().to_owned(),
    };
    for records in kinds::attaching().filter_map(|kind| kind.records) {
        if context.state.records(records).holds(&key)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The entries of a directory; of what is gone, or is no directory, none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, ForeignError> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
    });
    match listed {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        listed => listed.map_err(unreadable(dir)),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ForeignError {
    |source| ForeignError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports() {
        for (name, expected) in [
            ("veth1a2b3c4d", true),
            ("veth1a2b3c4", false),
            ("veth0", false),
            ("vnet0", false),
            ("veth0123456789a", false),
        ] {
            assert_eq!(is_named_by_reference(name), expected, "{name}");
        }
        // As Pontoon names them.
        assert!(has_digits("veth0123456789a", 11));
    }
}
