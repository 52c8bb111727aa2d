//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::{masquerade, reference, rules, veth};
use pontoon_conf::{Cidr, Error};
use pontoon_ipam::delegation;
use pontoon_ledger::{BridgeBased, BridgeRecord, Key};
use pontoon_netfilter::{BackendKind, Ruleset, SpoofGuard};
use pontoon_netlink::{LinkChange, RouteSocket, sysctl};
use pontoon_plugin::{Context, fault, kernel_error};

use crate::error::BridgeError;

/// A step that has been done, with what it takes to undo it.
#[derive(Debug)]
pub(crate) enum Step {
    /// An address was taken.
    Lease,
    /// The attachment is registered with its network, and may have the rules that its record tells of.
    Record,
    /// A host-wide setting had this value before.
    Sysctl(String, String),
    BridgeCreated(u32),
    /// An existing bridge looked like this before.
    Bridge(u32, LinkChange),
    AddressRemoved(u32, Cidr),
    AddressAdded(u32, Cidr),
    /// The veth pair, found by its name: the kernel's answer to its creation may be lost.
    Veth,
}

pub(crate) fn revert<R: BridgeBased>(
    context: &Context,
    host: &mut RouteSocket,
    step: Step,
) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot undo a change", error);
    match step {
        Step::Lease => delegation::release(context),
        Step::Record => {
            let key = context.key()?;
            let record: Option<R> = context.state.read(&key)?;
            masquerade::forget(context, R::PLUGIN, || {
                withdraw(context, &key, record.as_ref().map(BridgeBased::bridge))
            })
        }
        Step::Veth => match veth::find(host, &context.key()?)? {
            Some(index) => veth::remove(host, &[index]),
            None => Ok(()),
        },
        Step::AddressRemoved(index, address) => host
            .add_address(index, address.into(), true)
            .map(drop)
            .map_err(failed),
        Step::Bridge(index, change) => host.set_link(index, &change).map_err(failed),
        // Another ADD may have come to rely on the rest: it stays then, and goes with the other.
        Step::AddressAdded(..) | Step::BridgeCreated(_) | Step::Sysctl(..) => {
            let state = &context.state;
            let _network = state.lock_network(context.config.name.as_ref())?;
            let records = state.records_of::<R>();
            let host_wide = matches!(step, Step::Sysctl(..));
            if !records.is_only(&context.key()?)? || (host_wide && records.networks()?.len() > 1) {
                return Ok(());
            }
            match step {
                Step::AddressAdded(index, address) => host
                    .remove_address(index, address.into())
                    .map(drop)
                    .map_err(failed),
                Step::BridgeCreated(index) => host.delete_link(index).map(drop).map_err(failed),
                Step::Sysctl(path, value) => sysctl::write_if_different(&path, &value)
                    .map(drop)
                    .map_err(|source| BridgeError::NotRestored { path, source }.into()),
                _ => Ok(()),
            }
        }
    }
}

/// Takes away the rules that an attachment itself has: the chains that a DEL of the reference plugin would
/// delete, and the guard against other MAC addresses.
pub(crate) fn withdraw(
    context: &Context,
    key: &Key,
    record: Option<&BridgeRecord>,
) -> Result<(), Error> {
    let chains = record.and_then(|record| record.reference_chains);
    let chains = chains.map_or(Ok(()), |chains| {
        reference::delete_chains(context, chains, key)
    });
    fault::point("bridge.stood-down")?;
    let guard = record.and_then(|record| record.spoof_guard.clone());
    chains.and(guard.map_or(Ok(()), |guard| unguard(context, guard)))
}

fn unguard(context: &Context, guard: SpoofGuard) -> Result<(), Error> {
    let mut backend = rules::open(context, BackendKind::Nftables)?;
    let ruleset = Ruleset {
        spoof_guard: Some(guard),
        ..Ruleset::default()
    };
    let done = backend.withdraw(&ruleset).map_err(rules::error);
    rules::deleted(context);
    rules::close_in_detached_child(backend.into_sockets());
    done
}
