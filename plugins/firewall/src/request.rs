//! What an ADD of the firewall wants, and the policy that its network has so far.

use pontoon_attach::policy as noted;
use pontoon_conf::Error;
use pontoon_ledger::{FirewallRecord, Key, NetworkPolicyRecord, NetworkRecord};
use pontoon_netfilter::{BackendKind, Policy};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::Context;

use crate::config::Config;
use crate::plan;

/// What an ADD wants, before anything is changed.
pub(crate) struct PolicyRequest {
    pub(crate) key: Key,
    pub(crate) record: FirewallRecord,
    pub(crate) policy: Option<Policy>,
    pub(crate) network_policy: Option<NetworkPolicyRecord>,
    pub(crate) host: RouteSocket,
    pub(crate) profile: Option<String>,
    /// The zone of firewalld, and whether that has to be there.
    pub(crate) zone: (String, bool),
}

/// The policy that the configuration asks for, with the network's way to its other hosts.
pub(crate) fn policy(
    context: &Context,
    config: &Config,
    bridge: Option<&str>,
) -> Result<Option<Policy>, Error> {
    let Some(mut policy) = plan::policy(&config.policy, bridge)? else {
        return Ok(None);
    };
    let network = context.config.name.as_ref();
    let made: Option<NetworkRecord> = context.state.read_network(network)?;
    policy.reach = made.and_then(|made| made.reach);
    Ok(Some(policy))
}

/// Changes what is noted of the network.
pub(crate) fn change(
    context: &Context,
    request: &mut PolicyRequest,
    how: impl FnOnce(&mut NetworkPolicyRecord),
) -> Result<(), Error> {
    let Some(mut network_policy) = noted::of(context)? else {
        return Ok(());
    };
    how(&mut network_policy);
    context
        .state
        .write_network(context.config.name.as_ref(), &network_policy)?;
    request.network_policy = Some(network_policy);
    Ok(())
}

pub(crate) fn companion(request: &PolicyRequest) -> Option<(BackendKind, Policy)> {
    request.network_policy.as_ref()?.companion.clone()
}
