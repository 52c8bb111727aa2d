//! Whether an attachment still has what its record names. The reference plugin's DEL frees an address and
//! leaves our record, and a killed ADD leaves a record whose port went to another container: rules made
//! again by such a record would send another container's packets astray.

use std::path::Path;

use pontoon_conf::Error;
use pontoon_ledger::port_slots::{Refusal, Reservations};
use pontoon_ledger::{InterfaceSettings, Key, State};
use pontoon_netfilter::Published;

use crate::error::{LeaseError, PortsError};
use crate::reference::{leaseholder, read_lease};

/// Whether another attachment has the lease of one of these addresses. Without a lease an address may be the
/// attachment's all the same: it comes from another plugin, or the leases were lost.
///
/// # Errors
/// Code 5 with the lease that cannot be read.
pub(crate) fn has_lost_address(
    key: &Key,
    leases: Option<&Path>,
    settings: Option<&InterfaceSettings>,
) -> Result<bool, Error> {
    let (Some(leases), Some(settings)) = (leases, settings) else {
        return Ok(false);
    };
    for address in &settings.addresses {
        let path = leases.join(address.ip().to_string());
        let text = read_lease(&path).map_err(|source| LeaseError { path, source })?;
        let Some(text) = text else { continue };
        let holder = leaseholder(&text);
        let own = holder.is_some_and(|(container, interface)| {
            container == key.container && interface.is_none_or(|name| name == key.interface)
        });
        if !own {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether another attachment has one of these ports. The caller holds the lock of the reservations.
///
/// # Errors
/// Code 5 with the path of the reservations.
pub(crate) fn has_lost_port(state: &State, published: &Published) -> Result<bool, Error> {
    match Reservations::at(state.dir()).check(published) {
        Ok(()) => Ok(false),
        Err(Refusal::Taken(..)) => Ok(true),
        Err(Refusal::Io(path, source)) => Err(PortsError { path, source }.into()),
    }
}

/// Reserves ports that no attachment has: an ADD was killed before it did. The caller holds the lock of the
/// reservations, and has asked [`has_lost_port`].
///
/// # Errors
/// Code 5 with the path of the reservations.
pub(crate) fn hold_ports(state: &State, published: &Published) -> Result<(), Error> {
    match Reservations::at(state.dir()).take(published) {
        Ok(()) | Err(Refusal::Taken(..)) => Ok(()),
        Err(Refusal::Io(path, source)) => Err(PortsError { path, source }.into()),
    }
}
