//! The veth pair of an attachment: its name, its owner, its removal. What `bridge` and `ptp` share.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use pontoon_conf::Error;
use pontoon_netlink::{DetachedChild, RouteSocket, Veth};

use pontoon_ledger::Key;
use pontoon_plugin::{Context, kernel_error};

/// A random locally administered unicast address. The hash map's seed is the operating system's
/// randomness (getrandom(2)).
#[must_use]
pub fn random_mac() -> [u8; 6] {
    let number = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let [a, b, c, d, e, f, ..] = number.to_le_bytes();
    [(a & 0xfe) | 0x02, b, c, d, e, f]
}

/// The host's end of the attachment's veth pair, if it is there and ours.
///
/// # Errors
/// Code 100 when the kernel does not answer.
pub fn find(host: &mut RouteSocket, key: &Key) -> Result<Option<u32>, Error> {
    let name = key.host_interface();
    let link = host
        .link_by_name(&name)
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?;
    Ok(link
        .filter(|link| key.is_host_end(link))
        .map(|link| link.index))
}

/// Makes the attachment's veth pair by `make`. One that an earlier ADD of this very attachment has left, which
/// was killed and whose DEL never came, is removed first.
///
/// # Errors
/// What `failed` says of the kernel's refusal.
pub fn create(
    host: &mut RouteSocket,
    key: &Key,
    make: impl Fn(&mut RouteSocket) -> Result<Veth, pontoon_netlink::Error>,
    failed: impl FnOnce(pontoon_netlink::Error) -> Error,
) -> Result<Veth, Error> {
    let mut created = make(host);
    if created
        .as_ref()
        .is_err_and(pontoon_netlink::Error::is_exists)
        && let Some(stale) = find(host, key)?
    {
        remove(host, &[stale])?;
        created = make(host);
    }
    created.map_err(failed)
}

/// Deletes links and returns when they are gone from view. The kernel makes the deleting system
/// call wait for a grace period long after that (8 to 33 ms); a child waits in our place.
///
/// # Errors
/// Code 100 when a link stays.
pub fn remove(host: &mut RouteSocket, links: &[u32]) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot remove the veth pair", error);
    DetachedChild::spawn(Vec::new(), links, Duration::ZERO).map_err(failed)?;
    for index in links {
        host.wait_gone(*index, Duration::from_secs(5))
            .map_err(failed)?;
    }
    Ok(())
}

/// Removes the veth pair: ours by the name that the attachment gives it, one that the reference
/// plugin made by the interface name inside the container.
///
/// # Errors
/// Code 100 when it stays.
pub fn unplug(context: &Context, host: &mut RouteSocket, key: &Key) -> Result<(), Error> {
    if let Some(index) = find(host, key)? {
        return remove(host, &[index]);
    }
    let Some(netns) = context.netns_if_alive() else {
        return Ok(());
    };
    let failed = |error| {
        kernel_error(
            format!("cannot remove {} from the container", key.interface),
            error,
        )
    };
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    match inside.link_by_name(&key.interface).map_err(failed)? {
        // Whatever is no veth was not made by a plugin that makes them.
        Some(link) if link.kind.as_deref() == Some("veth") => {
            // The tag is on the other end, which is on the host.
            let peer = match link.peer {
                Some(index) => host.link_by_index(index).map_err(failed)?,
                None => None,
            };
            if peer.is_some_and(|peer| !key.may_own(&peer)) {
                return Ok(());
            }
            inside.delete_link(link.index).map(drop).map_err(failed)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_local_unicast_and_differ() {
        let one = random_mac();
        assert_eq!(one[0] & 0x03, 0x02);
        assert_ne!(one, random_mac());
    }
}
