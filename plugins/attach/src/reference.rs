//! Attachments that the reference plugins have made: what our DEL does when it finds no record, and
//! what our ADD leaves for a DEL of theirs.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use pontoon_conf::{Error, IpConfig};
use pontoon_ledger::{Key, ReferenceChains, files, kinds};
use pontoon_netfilter::firewalld::Part;
use pontoon_netfilter::reference::{ReferenceAttachment, ReferencePlugin};
use pontoon_netfilter::{Backend, BackendKind};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, kernel_error, warn};

use crate::error::LeaseError;
use crate::{rules, sockets, veth};

/// Bytes of a lease that are read: a container id and an interface name.
const LONGEST_LEASE: u64 = 4096;

const KINDS: [BackendKind; 3] = [
    BackendKind::Nftables,
    BackendKind::IptablesNft,
    BackendKind::IptablesLegacy,
];

/// An attachment with these addresses.
#[must_use]
pub fn reference_attachment(key: &Key, addresses: Vec<IpAddr>) -> ReferenceAttachment {
    ReferenceAttachment {
        owner: key.owner(),
        addresses,
    }
}

/// Removes what the reference's plugin may have made for the attachment of the call, in every backend
/// that is installed.
///
/// # Errors
/// Code 105 when something is there and cannot be removed.
pub fn forget(context: &Context, role: ReferencePlugin) -> Result<(), Error> {
    let previous = context.config.prev_result.as_ref();
    let ips = previous.map_or(&[][..], |previous| &previous.ips);
    let addresses = ips.iter().map(|ip| ip.address.ip()).collect();
    forget_traces(
        context,
        role,
        &reference_attachment(&context.key()?, addresses),
    )
}

/// As [`forget`], for another attachment.
///
/// # Errors
/// As [`forget`].
pub fn forget_traces(
    context: &Context,
    role: ReferencePlugin,
    reference_attachment: &ReferenceAttachment,
) -> Result<(), Error> {
    let mut done = Ok(());
    for kind in KINDS {
        let mut backend = match rules::open_if_there(context, kind) {
            Ok(Some(backend)) => backend,
            Ok(None) => continue,
            Err(error) => {
                done = done.and(Err(error));
                continue;
            }
        };
        done = done.and(
            backend
                .reference()
                .remove(role, reference_attachment)
                .map_err(rules::error),
        );
        rules::close_in_detached_child(backend.into_sockets());
    }
    done
}

/// The text of a lease; `None` when there is none, or it was released meanwhile.
///
/// # Errors
/// `InvalidInput` when it is no regular file, `FileTooLarge` when it is longer than a lease can be; else those of
/// reading.
pub fn read_lease(path: &Path) -> io::Result<Option<String>> {
    match files::read(path, LONGEST_LEASE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

/// Who holds a lease, by the file's text: container id and interface, a line each; old files have the id
/// alone.
#[must_use]
pub fn leaseholder(text: &str) -> Option<(&str, Option<&str>)> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Some((lines.next()?, lines.next()))
}

/// Removes what the reference's plugins have made for attachments of the network that are not valid any
/// more. They keep no record but the lease, which must still be there: `leases` is the folder of the
/// network's. Without a list of the valid ones nothing is removed: whose namespace is gone, a lease does
/// not tell.
///
/// # Errors
/// Code 105 when something is there and cannot be removed.
pub fn collect(context: &Context, leases: &Path) -> Result<(), Error> {
    let config = &context.config;
    if config.valid_attachments.is_none() && config.spared_attachments.is_none() {
        return Ok(());
    }
    let mut lost: Vec<ReferenceAttachment> = Vec::new();
    let unreadable = |path: &Path, source| LeaseError {
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(leases) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| unreadable(leases, error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(leases, error))?;
        let name = entry.file_name();
        let Some(address) = name.to_str().and_then(|name| name.parse::<IpAddr>().ok()) else {
            continue;
        };
        let path = entry.path();
        let text = match read_lease(&path) {
            // No lease.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge
                ) =>
            {
                continue;
            }
            read => read.map_err(|error| unreadable(&path, error))?,
        };
        let Some((container, interface)) = text.as_deref().and_then(leaseholder) else {
            continue;
        };
        let key = Key {
            network: context.config.name.to_string(),
            container: container.to_owned(),
            interface: interface.unwrap_or("eth0").to_owned(),
        };
        if context.is_unrecorded_garbage(&key) != Some(true) {
            continue;
        }
        let owner = key.owner();
        match lost.iter_mut().find(|known| known.owner == owner) {
            Some(known) => known.addresses.push(address),
            None => lost.push(reference_attachment(&key, vec![address])),
        }
    }
    let mut done = Ok(());
    for reference_attachment in &lost {
        for role in [
            ReferencePlugin::Portmap,
            ReferencePlugin::Firewall,
            ReferencePlugin::BridgeOrPtp,
        ] {
            done = done.and(forget_traces(context, role, reference_attachment));
        }
        done = done.and(forget_ifb(reference_attachment));
    }
    forget_sources(&lost);
    done
}

/// The reference's firewall plugin puts addresses into a zone of firewalld. Which one, its conflist says,
/// and that is not known to every plugin; so firewalld is asked.
fn forget_sources(lost: &[ReferenceAttachment]) {
    // One that does not answer has forgotten, or is not there.
    let Some(mut bus) = (!lost.is_empty())
        .then(rules::firewalld)
        .and_then(Result::ok)
    else {
        return;
    };
    for address in lost
        .iter()
        .flat_map(|reference_attachment| &reference_attachment.addresses)
    {
        let done = bus
            .zone_of(*address)
            .and_then(|zone| zone.map_or(Ok(()), |zone| bus.leave(&zone, Part::Source(*address))));
        if let Err(error) = done {
            warn(format_args!("address {address} in firewalld: {error}"));
            return;
        }
    }
}

/// For a CHECK without a record: whether another program has attached the container. Its rules have names
/// and places of its own, so that CHECK cannot judge them, and says so.
///
/// # Errors
/// Code 100 when the kernel does not answer.
pub fn attached_by_another(context: &Context, plugin: &str, key: &Key) -> Result<bool, Error> {
    let ours = ["bridge", "overlay", "ptp", "macvlan", "host-device"];
    for plugin in ours.iter().chain([&plugin]) {
        if context.state.records(plugin).holds(key)? {
            return Ok(false);
        }
    }
    let mut host = sockets::of_host()?;
    if veth::find(&mut host, key)?.is_some() {
        // Our pair without a record: that is a loss, and CHECK tells it.
        return Ok(false);
    }
    warn(format_args!(
        "{plugin}: warning: container {} was attached by another program: CHECK cannot judge the rules that it made",
        key.container
    ));
    Ok(true)
}

/// The device by which the reference's bandwidth limits what a container sends; ours carries a tag, and
/// goes with its record.
fn forget_ifb(reference_attachment: &ReferenceAttachment) -> Result<(), Error> {
    let name = reference_attachment.ifb();
    let failed = |error| kernel_error(format!("cannot remove {name}"), error);
    let mut host = RouteSocket::open().map_err(failed)?;
    let link = host.link_by_name(&name).map_err(failed)?;
    match link.filter(|link| link.kind.as_deref() == Some("ifb") && link.alias.is_none()) {
        Some(link) => host.delete_link(link.index).map(drop).map_err(failed),
        None => Ok(()),
    }
}

/// The chains that a DEL of the reference's bridge or ptp deletes, for a container with these addresses
/// that this backend masquerades. nftables needs none.
#[must_use]
pub fn needed_chains(
    masquerades: Option<BackendKind>,
    ips: &[IpConfig],
) -> Option<ReferenceChains> {
    let backend = masquerades.filter(|kind| *kind != BackendKind::Nftables)?;
    let has = |v4: bool| ips.iter().any(|ip| ip.address.is_ipv4() == v4);
    Some(ReferenceChains {
        backend,
        v4: has(true),
        v6: has(false),
    })
}

/// Makes the chains.
///
/// # Errors
/// Whatever the backend refused.
pub fn create_chains(
    chains: ReferenceChains,
    backend: &mut Backend,
    key: &Key,
) -> Result<(), Error> {
    backend
        .reference()
        .create_chain(&reference_attachment(key, Vec::new()), chains.v4, chains.v6)
        .map_err(rules::error)
}

/// Whether another interface of the container on this network needs the same: they share it, as in the
/// reference. Those are looked for by the names that runtimes give.
fn shared(context: &Context, key: &Key) -> Result<bool, Error> {
    const USUAL: usize = 16;
    for number in 0..USUAL {
        let other = Key {
            interface: format!("eth{number}"),
            ..key.clone()
        };
        for kind in kinds::with_host_end() {
            if other != *key && context.state.records(kind.name).holds(&other)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What a DEL of published ports may take along of the plugin that made the interface: no container needs it
/// afterwards.
#[must_use]
pub fn spare(context: &Context, key: &Key) -> Option<ReferenceAttachment> {
    // What may be needed stays; the DEL of that plugin comes later.
    let needed = shared(context, key).unwrap_or(true);
    (!needed).then(|| reference_attachment(key, Vec::new()))
}

/// Removes the chains, unless another interface of the container needs them.
///
/// # Errors
/// Whatever the backend refused.
pub fn delete_chains(context: &Context, chains: ReferenceChains, key: &Key) -> Result<(), Error> {
    if shared(context, key)? {
        return Ok(());
    }
    let mut backend = rules::open(context, chains.backend)?;
    let done = backend
        .reference()
        .delete_chain(&reference_attachment(key, Vec::new()))
        .map_err(rules::error)?;
    rules::deleted(context);
    rules::close_in_detached_child(done.into_iter().collect());
    Ok(())
}
