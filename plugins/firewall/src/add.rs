//! ADD: the network's policy is made what it shall be, then the attachment gets its place in it.
//! What the plugins before have made is passed on unchanged.

use pontoon_attach::beside::{self, Ask};
use pontoon_attach::{backends, policy, repair, rules, sockets};
use pontoon_conf::{Attached, Error, KnownAs};
use pontoon_ledger::{FirewallRecord, Key, Lock, NetworkPolicyRecord};
use pontoon_netfilter::nft::Others;
use pontoon_netfilter::{Backend, BackendKind, Link, Policy, Protocol, Ruleset, Separation};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Undo, fault, kernel_error, warn};

use crate::config::{Choice, Config};
use crate::error::PolicyError;
use crate::plan::{self, Place};
use crate::wanted::{Wanted, change, companion};
use crate::{coexist, links, separate, undo, zones};

pub(crate) fn add(context: &Context) -> Result<Attached, Error> {
    let config = Config::from_context(context)?;
    let previous = context.config.prev_result.as_ref();
    let previous = previous.ok_or(PolicyError::NoPrevResult)?;
    let Some(asked) = config.choice.asked() else {
        warn(format_args!(
            "firewall: backend none: no rules are made for container {} of network {}",
            context.key()?.container,
            context.config.name
        ));
        return Ok(previous.clone());
    };
    let backend = backends::follow(context, asked)?;
    let mut wanted = survey(context, config, previous, backend)?;
    let mut steps = Undo::default();
    match hold(context, &mut wanted, &mut steps) {
        Ok(made) => {
            steps.commit();
            if made {
                repair::others(context, "firewall", &wanted.key);
            }
            Ok(previous.clone())
        }
        Err(error) => Err(steps.unwind(error, |()| {
            undo::remove(context, &wanted.key, &wanted.record)
        })),
    }
}

/// Reads facts and refuses what cannot work. Changes nothing.
fn survey(
    context: &Context,
    config: Config,
    previous: &Attached,
    backend: BackendKind,
) -> Result<Wanted, Error> {
    let key = context.key()?;
    let mut host = sockets::of_host()?;
    let network_policy = policy::of(context)?;
    let place = place(&mut host, plan::place(previous), network_policy.as_ref())?;
    let policy = plan::policy(&config.policy, place.bridge.as_deref())?;
    let (names, refused) = KnownAs::of(&context.invocation, &context.config);
    for error in refused {
        warn(format_args!("firewall: passed over: {error}"));
    }
    for name in plan::own(&config.links, &names) {
        warn(format_args!(
            "firewall: container {}: the link to \"{name}\" means the container itself, which reaches itself without; it waits for another one of this name",
            key.container
        ));
    }
    refuse_published(context, &key, policy.as_ref())?;
    for name in policy.iter().flat_map(|policy| &policy.trusted) {
        if look_up(&mut host, name)?.is_none() {
            warn(format_args!(
                "firewall: key \"trustedInterfaces\": there is no interface {name} on this host yet"
            ));
        }
    }
    let separation = match (&policy, &place.port) {
        (Some(policy), Some(port)) if !policy.icc => Some(Separation {
            owner: key.owner(),
            bridge: policy.bridge.clone(),
            port: port.clone(),
        }),
        (Some(policy), None) if !policy.icc => {
            return Err(PolicyError::NoPort {
                bridge: policy.bridge.clone(),
            }
            .into());
        }
        _ => None,
    };
    let record = FirewallRecord {
        admin_chain: place
            .bridge
            .is_none()
            .then(|| config.policy.admin_chain.clone()),
        companion: None,
        backend,
        sandbox: context.sandbox(),
        bridge: place.bridge,
        port: place.port,
        addresses: place.addresses,
        names,
        links: config.links,
        separation,
        zone: None,
    };
    validate(&key, &record, policy.as_ref())?;
    Ok(Wanted {
        key,
        record,
        policy,
        network_policy,
        host,
        profile: config.profile,
        zone: (config.zone, config.choice == Choice::Firewalld),
    })
}

/// Refuses what cannot be a rule, the names of the attachment included: the links of other containers are
/// made with them later.
fn validate(key: &Key, record: &FirewallRecord, policy: Option<&Policy>) -> Result<(), Error> {
    let named = policy.filter(|policy| !policy.icc).and_then(|policy| {
        let address = *record.addresses.first()?;
        Some(Link {
            owner: key.owner(),
            bridge: policy.bridge.clone(),
            from: address,
            to: address,
            protocol: Protocol::Tcp,
            port: 1,
        })
    });
    let ruleset = Ruleset {
        policy: policy.cloned(),
        member: plan::member(key, record),
        links: named.into_iter().collect(),
        ..Ruleset::default()
    };
    rules::validate(record.backend, &ruleset)
}

/// Whether what looks like a bridge is one: asked once per network, not for each container.
fn place(
    host: &mut RouteSocket,
    mut place: Place,
    network_policy: Option<&NetworkPolicyRecord>,
) -> Result<Place, Error> {
    let Some(name) = &place.bridge else {
        return Ok(place);
    };
    if network_policy.is_none_or(|network_policy| network_policy.policy.bridge != *name) {
        let is_bridge = look_up(host, name)?.is_some_and(|kind| kind.as_deref() == Some("bridge"));
        place.bridge = place.bridge.filter(|_| is_bridge);
    }
    Ok(place)
}

/// The kind of a link, if it is there.
fn look_up(host: &mut RouteSocket, name: &str) -> Result<Option<Option<String>>, Error> {
    host.link_by_name(name)
        .map(|link| link.map(|link| link.kind))
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))
}

/// Published ports of an internal network would lead nowhere.
fn refuse_published(
    context: &Context,
    key: &Key,
    policy: Option<&Policy>,
) -> Result<(), PolicyError> {
    let internal = policy.is_some_and(|policy| policy.internal);
    if internal && context.state.records("portmap").holds(key) {
        return Err(PolicyError::Published {
            network: key.network.clone(),
            container: key.container.clone(),
        });
    }
    Ok(())
}

/// Tells whether the policy was missing.
fn hold(context: &Context, wanted: &mut Wanted, undo: &mut Undo<()>) -> Result<bool, Error> {
    let Wanted { key, record, .. } = wanted;
    if let Some(stale) = context.state.read::<FirewallRecord>(key)? {
        // An earlier ADD of this very attachment was killed, and its DEL never came.
        undo::withdraw(context, key, &stale)?;
    }
    let state = &context.state;
    // From the record on, the network's policy cannot be removed by the DEL of another attachment;
    // the locks keep such a DEL from being half way through when the record appears.
    let _network = state.share_network(&key.network)?;
    let _host = state.lock(&state.host_lock(), Lock::shared)?;
    undo.push(());
    state.write(key, record)?;
    backends::claim(context, "firewall", Some(record.backend))?;
    if record.separation.is_some() {
        backends::claim_beside(context, "firewall", BackendKind::Nftables)?;
    }
    fault::point("firewall.recorded")?;
    let former = note(context, wanted)?;
    fault::point("firewall.noted")?;
    let mut backend = rules::open(context, wanted.record.backend)?;
    let same_backend = |(kind, _): &&(BackendKind, Policy)| *kind == wanted.record.backend;
    let ruleset = Ruleset {
        policy: wanted.policy.clone(),
        former_policy: former
            .iter()
            .find(same_backend)
            .map(|(_, policy)| policy.clone()),
        member: plan::member(&wanted.key, &wanted.record),
        ..Ruleset::default()
    };
    let made = backend
        .apply(&ruleset)
        .map_err(|error| rules::error(&error))?;
    fault::point("firewall.held")?;
    stand_beside(context, wanted, &mut backend)?;
    fault::point("firewall.beside")?;
    if let Some(bridge) = wanted.policy.as_ref().map(|policy| policy.bridge.clone()) {
        separate::separate(context, &mut wanted.host, &bridge, &wanted.record)?;
    }
    if wanted.record.separation.is_some() {
        links::link(context, &mut backend, &wanted.key, &wanted.record)?;
    }
    fault::point("firewall.linked")?;
    rules::linger(backend.into_sockets());
    settle(context, wanted, &former)?;
    Ok(made)
}

/// Notes the policy before it is made. Returns what was held before, if that was something else.
fn note(context: &Context, wanted: &Wanted) -> Result<Vec<(BackendKind, Policy)>, Error> {
    let Some(policy) = &wanted.policy else {
        return Ok(Vec::new());
    };
    let mut former = Vec::new();
    if let Some(network_policy) = &wanted.network_policy {
        if network_policy.policy == *policy
            && network_policy.backend == wanted.record.backend
            && network_policy.former.is_empty()
        {
            return Ok(Vec::new());
        }
        former.clone_from(&network_policy.former);
        former.push((network_policy.backend, network_policy.policy.clone()));
        former.retain(|(kind, old)| (*kind, old) != (wanted.record.backend, policy));
    }
    let network_policy = NetworkPolicyRecord {
        backend: wanted.record.backend,
        policy: policy.clone(),
        former: former.clone(),
        companion: companion(wanted),
        profile: wanted.profile.clone(),
        zone: wanted
            .network_policy
            .as_ref()
            .and_then(|network_policy| network_policy.zone.clone()),
    };
    context
        .state
        .write_network(context.config.name.as_ref(), &network_policy)?;
    Ok(former)
}

/// Lets the network's packets pass where another program would drop them, and says where it cannot.
fn stand_beside(
    context: &Context,
    wanted: &mut Wanted,
    backend: &mut Backend,
) -> Result<(), Error> {
    let first = wanted.network_policy.is_none();
    let others = coexist::others(backend);
    zones::enter(context, wanted, others.firewalld)?;
    let Some(policy) = wanted.policy.clone() else {
        return pass_alone(context, wanted, backend, others);
    };
    let known = companion(wanted).map(|(kind, _)| kind);
    let addresses = &wanted.record.addresses;
    let mut asks = || beside::forwarded(&mut wanted.host, &policy.bridge, addresses);
    let asks = first.then_some(&mut asks as &mut dyn FnMut() -> Vec<Ask>);
    let kind = known.or_else(|| coexist::companion(context, backend, others, asks));
    if let Some(kind) = kind {
        let beside = Some((kind, policy.beside()));
        backends::claim_beside(context, "firewall", kind)?;
        if companion(wanted) != beside {
            change(context, wanted, |network_policy| {
                network_policy.companion = beside
            })?;
        }
        coexist::stand_beside(context, kind, Some(&policy), None)?;
    }
    if first {
        coexist::warn(
            context,
            &mut wanted.host,
            &policy.bridge,
            &wanted.record.addresses,
        );
    }
    Ok(())
}

/// The same for an attachment without a bridge, by its addresses.
fn pass_alone(
    context: &Context,
    wanted: &mut Wanted,
    backend: &mut Backend,
    others: Others,
) -> Result<(), Error> {
    let Some(interface) = wanted
        .record
        .addresses
        .first()
        .and_then(|address| beside::interface_to(&mut wanted.host, *address))
    else {
        return Ok(());
    };
    let addresses = &wanted.record.addresses;
    let mut asks = || beside::forwarded(&mut wanted.host, &interface.name, addresses);
    let kind = coexist::companion(context, backend, others, Some(&mut asks));
    let records = context.state.records_of::<FirewallRecord>();
    if let Some(kind) = kind {
        wanted.record.companion = Some(kind);
        backends::claim_beside(context, "firewall", kind)?;
        context.state.write(&wanted.key, &wanted.record)?;
        fault::point("firewall.alone")?;
        let member = plan::member(&wanted.key, &wanted.record);
        coexist::stand_beside(context, kind, None, member)?;
    }
    if records.is_only(&wanted.key)? {
        coexist::warn(
            context,
            &mut wanted.host,
            &interface.name,
            &wanted.record.addresses,
        );
    }
    Ok(())
}

/// After a changed configuration: what another backend held goes, and attachments from before get
/// their place in the new policy.
fn settle(
    context: &Context,
    wanted: &mut Wanted,
    former: &[(BackendKind, Policy)],
) -> Result<(), Error> {
    let Some(policy) = wanted.policy.clone().filter(|_| !former.is_empty()) else {
        return Ok(());
    };
    for (kind, old) in former {
        if *kind != wanted.record.backend {
            let mut backend = rules::open(context, *kind)?;
            let done = backend.withdraw(&Ruleset {
                policy: Some(old.clone()),
                ..Ruleset::default()
            });
            rules::linger(backend.into_sockets());
            done.map_err(|error| rules::error(&error))?;
        }
    }
    if former.iter().any(|(_, old)| old.icc != policy.icc) {
        regroup(context, wanted, &policy)?;
    }
    context.state.write_network(
        context.config.name.as_ref(),
        &NetworkPolicyRecord {
            backend: wanted.record.backend,
            policy,
            former: Vec::new(),
            companion: companion(wanted),
            profile: wanted.profile.clone(),
            zone: wanted
                .network_policy
                .as_ref()
                .and_then(|network_policy| network_policy.zone.clone()),
        },
    )
}

/// Containers that were there before `icc` changed.
fn regroup(context: &Context, wanted: &mut Wanted, policy: &Policy) -> Result<(), Error> {
    let records = context.state.records_of::<FirewallRecord>();
    for key in records.attachments(&wanted.key.network)? {
        if key == wanted.key {
            continue;
        }
        let Some(mut record) = context.state.read::<FirewallRecord>(&key)? else {
            continue;
        };
        if policy.icc {
            links::unlink(context, &key, &record)?;
            separate::join(context, &mut wanted.host, &record)?;
            record.separation = None;
            context.state.write(&key, &record)?;
        } else if let Some(port) = &record.port {
            record.separation = Some(Separation {
                owner: key.owner(),
                bridge: policy.bridge.clone(),
                port: port.clone(),
            });
            context.state.write(&key, &record)?;
            separate::separate(context, &mut wanted.host, &policy.bridge, &record)?;
            let mut backend = rules::open(context, record.backend)?;
            let done = links::link(context, &mut backend, &key, &record);
            rules::linger(backend.into_sockets());
            done?;
        }
    }
    if policy.icc {
        separate::answer(&policy.bridge, false)?;
    }
    Ok(())
}
