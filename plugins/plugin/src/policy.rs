//! What a network lets pass, as `firewall` has noted it for who takes it away again: its own last
//! DEL, or that of the bridge after it.

use pontoon_conf::Error;
use pontoon_netfilter::firewalld::Part;
use pontoon_netfilter::{BackendKind, Policy, Ruleset};
use serde::{Deserialize, Serialize};

use crate::{Context, State, rules};

/// The policy of a network. Written before the rules are made, so that they are found whatever
/// happens in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stance {
    /// Who makes its rules.
    pub backend: BackendKind,
    /// What the network lets pass.
    pub policy: Policy,
    /// What it let pass before, until the change is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<(BackendKind, Policy)>,
    /// What another backend has to let pass beside it, since somebody else drops there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<(BackendKind, Policy)>,
    /// The key `profile` from which the policy comes, for those who are told why something is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The zone of firewalld that the bridge was put into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Stance {
    /// What has been noted for the network that the verb is about.
    #[must_use]
    pub fn of(context: &Context) -> Option<Self> {
        context.state.read_policy(context.config.name.as_ref())
    }
}

/// The backend of a network of this host that has a policy, if there is one: it keeps to itself
/// towards every bridge that it knows to be ours.
#[must_use]
pub fn somebodys(state: &State) -> Option<BackendKind> {
    let network = state.any_policy()?;
    let stance: Stance = state.read_policy(&network)?;
    Some(stance.backend)
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
    let Some(stance) = Stance::of(context) else {
        return Ok(());
    };
    if let Some(zone) = &stance.zone {
        // A firewalld that does not answer has forgotten, or is not there any more.
        let part = Part::Interface(&stance.policy.bridge);
        if let Err(error) = rules::firewalld().and_then(|mut bus| bus.leave(zone, part)) {
            eprintln!("firewall: zone {zone} of firewalld: {error}");
        }
    }
    let mut policies = stance.former;
    policies.extend(stance.companion);
    policies.push((stance.backend, stance.policy));
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
    state.remove_policy(network)
}
