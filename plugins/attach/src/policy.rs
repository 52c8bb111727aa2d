//! What a network lets pass, as `firewall` has noted it. Its own last DEL removes it, or that of the
//! bridge after it.

use pontoon_conf::Error;
use pontoon_ledger::{NetworkPolicyRecord, State};
use pontoon_netfilter::firewalld::Part;
use pontoon_netfilter::{BackendKind, Ruleset};
use pontoon_plugin::{Context, warn};

use crate::rules;

/// What has been noted for the network that the verb is about.
///
/// # Errors
/// Code 5 or 6 when the record cannot be read.
pub fn of(context: &Context) -> Result<Option<NetworkPolicyRecord>, Error> {
    let network = context.config.name.as_ref();
    Ok(context.state.read_network(network)?)
}

/// The backend of a network of this host that has a policy, if there is one: it keeps apart every
/// bridge that it knows to be Pontoon's.
///
/// # Errors
/// Code 5 or 6 when its record cannot be read.
pub fn backend_of_existing_policy(state: &State) -> Result<Option<BackendKind>, Error> {
    let networks = state.networks::<NetworkPolicyRecord>()?;
    let Some(network) = networks.first() else {
        return Ok(None);
    };
    let policy = state.read_network::<NetworkPolicyRecord>(network)?;
    Ok(policy.map(|policy| policy.backend))
}

/// Removes the policy of a network that no attachment's `firewall` needs any more. The caller holds
/// the lock of the network exclusively.
///
/// # Errors
/// Whatever the backend refused; the note stays then.
pub fn retire(context: &Context) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    let state = &context.state;
    if state.records("firewall").has_network(network) {
        return Ok(());
    }
    let Some(record) = of(context)? else {
        return Ok(());
    };
    if let Some(zone) = &record.zone {
        // A firewalld that does not answer has forgotten, or is not there any more.
        let part = Part::Interface(&record.policy.bridge);
        if let Err(error) = rules::firewalld().and_then(|mut bus| bus.leave(zone, part)) {
            warn(format_args!("firewall: zone {zone} of firewalld: {error}"));
        }
    }
    let mut policies = record.former;
    policies.extend(record.companion);
    policies.push((record.backend, record.policy));
    for (kind, policy) in policies {
        let apart = !policy.icc && kind != BackendKind::Nftables;
        let ruleset = Ruleset {
            policy: Some(policy),
            ..Ruleset::default()
        };
        rules::withdraw(context, kind, &ruleset)?;
        if apart {
            // Bridge ports are kept apart by nftables in any case.
            rules::withdraw(context, BackendKind::Nftables, &ruleset)?;
        }
    }
    state.remove_network::<NetworkPolicyRecord>(network)
}
