//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use pontoon_attach::{masquerade, reference, veth};
use pontoon_conf::Error;
use pontoon_ipam::delegation;
use pontoon_ledger::{Key, PtpRecord};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, fault};

/// A step that has been done, or may be half done.
#[derive(Debug)]
pub(crate) enum Step {
    Lease,
    Record,
    /// Found by its name: the kernel's answer to its creation may be lost.
    Veth,
}

pub(crate) fn revert(context: &Context, host: &mut RouteSocket, step: Step) -> Result<(), Error> {
    match step {
        Step::Lease => delegation::release(context),
        Step::Record => {
            let key = context.key()?;
            let record: Option<PtpRecord> = context.state.read(&key)?;
            masquerade::forget(context, "ptp", || {
                delete_reference_chains(context, &key, record.as_ref())
            })
        }
        Step::Veth => match veth::find(host, &context.key()?)? {
            Some(index) => veth::remove(host, &[index]),
            None => Ok(()),
        },
    }
}

/// Removes the chains that a DEL of the reference plugin would delete.
pub(crate) fn delete_reference_chains(
    context: &Context,
    key: &Key,
    record: Option<&PtpRecord>,
) -> Result<(), Error> {
    let chains = record.and_then(|record| record.reference_chains);
    let done = chains.map_or(Ok(()), |chains| {
        reference::delete_chains(context, chains, key)
    });
    done.and(fault::point("ptp.stood-down"))
}
