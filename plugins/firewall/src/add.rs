//! ADD: the network's policy is made what it shall be, then the attachment gets its place in it.
//! What the plugins before have made is passed on unchanged.

use pontoon_attach::foreign_filters::{self, PacketCheck};
use pontoon_attach::{backends, policy, repair, rules, sockets};
use pontoon_conf::{AddResult, Error, KnownAs};
use pontoon_ledger::{FirewallRecord, Key, Lock, NetworkPolicyRecord};
use pontoon_netfilter::nft::ForeignFilters;
use pontoon_netfilter::{Backend, BackendKind, Link, Policy, PortIsolation, Protocol, Ruleset};
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, Undo, fault, kernel_error, warn};

use crate::config::{Choice, Config};
use crate::error::PolicyError;
use crate::plan::{self, AttachmentLocation};
use crate::request::{PolicyRequest, change, companion};
use crate::{coexist, links, request, separate, undo, zones};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
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
    let mut request = read_host_facts(context, config, previous, backend)?;
    let mut steps = Undo::default();
    match hold(context, &mut request, &mut steps) {
        Ok(made) => {
            steps.commit();
            if made {
                repair::others(context, "firewall", &request.key);
            }
            Ok(previous.clone())
        }
        Err(error) => Err(steps.unwind(error, |()| {
            undo::remove(context, &request.key, &request.record)
        })),
    }
}

/// Reads facts and refuses what cannot work. Changes nothing.
fn read_host_facts(
    context: &Context,
    config: Config,
    previous: &AddResult,
    backend: BackendKind,
) -> Result<PolicyRequest, Error> {
    let key = context.key()?;
    let mut host = sockets::of_host()?;
    let network_policy = policy::of(context)?;
    let place = place(&mut host, plan::place(previous), network_policy.as_ref())?;
    let policy = request::policy(context, &config, place.bridge.as_deref())?;
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
        (Some(policy), Some(port)) if !policy.icc => Some(PortIsolation {
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
    Ok(PolicyRequest {
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
    mut place: AttachmentLocation,
    network_policy: Option<&NetworkPolicyRecord>,
) -> Result<AttachmentLocation, Error> {
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
fn refuse_published(context: &Context, key: &Key, policy: Option<&Policy>) -> Result<(), Error> {
    let internal = policy.is_some_and(|policy| policy.internal);
    if internal && context.state.records("portmap").holds(key)? {
        return Err(PolicyError::Published {
            network: key.network.clone(),
            container: key.container.clone(),
        }
        .into());
    }
    Ok(())
}

/// Tells whether the policy was missing.
fn hold(
    context: &Context,
    request: &mut PolicyRequest,
    undo: &mut Undo<()>,
) -> Result<bool, Error> {
    let PolicyRequest { key, record, .. } = request;
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
    backends::claim(context, "firewall", Some(record.backend))?;
    if record.separation.is_some() {
        backends::claim_beside(context, "firewall", BackendKind::Nftables)?;
    }
    state.write(key, record)?;
    fault::point("firewall.recorded")?;
    let former = note(context, request)?;
    fault::point("firewall.noted")?;
    let mut backend = rules::open(context, request.record.backend)?;
    let same_backend = |(kind, _): &&(BackendKind, Policy)| *kind == request.record.backend;
    let ruleset = Ruleset {
        policy: request.policy.clone(),
        former_policy: former
            .iter()
            .find(same_backend)
            .map(|(_, policy)| policy.clone()),
        member: plan::member(&request.key, &request.record),
        ..Ruleset::default()
    };
    let made = backend.apply(&ruleset).map_err(rules::error)?;
    fault::point("firewall.held")?;
    open_foreign_filters(context, request, &mut backend)?;
    fault::point("firewall.beside")?;
    if let Some(bridge) = request.policy.as_ref().map(|policy| policy.bridge.clone()) {
        separate::separate(context, &mut request.host, &bridge, &request.record)?;
    }
    if request.record.separation.is_some() {
        links::link(context, &mut backend, &request.key, &request.record)?;
    }
    fault::point("firewall.linked")?;
    rules::close_in_detached_child(backend.into_sockets());
    settle(context, request, &former)?;
    Ok(made)
}

/// Notes the policy before it is made. Returns what was held before, if that was something else.
fn note(context: &Context, request: &PolicyRequest) -> Result<Vec<(BackendKind, Policy)>, Error> {
    let Some(policy) = &request.policy else {
        return Ok(Vec::new());
    };
    let mut former = Vec::new();
    if let Some(network_policy) = &request.network_policy {
        if network_policy.policy == *policy
            && network_policy.backend == request.record.backend
            && network_policy.former.is_empty()
        {
            return Ok(Vec::new());
        }
        former.clone_from(&network_policy.former);
        former.push((network_policy.backend, network_policy.policy.clone()));
        former.retain(|(kind, old)| (*kind, old) != (request.record.backend, policy));
    }
    let network_policy = NetworkPolicyRecord {
        backend: request.record.backend,
        policy: policy.clone(),
        former: former.clone(),
        companion: companion(request),
        profile: request.profile.clone(),
        zone: request
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
fn open_foreign_filters(
    context: &Context,
    request: &mut PolicyRequest,
    backend: &mut Backend,
) -> Result<(), Error> {
    let first = request.network_policy.is_none();
    let others = coexist::others(backend);
    zones::enter(context, request, others.firewalld)?;
    let Some(policy) = request.policy.clone() else {
        return open_foreign_filters_without_bridge(context, request, backend, others);
    };
    let known = companion(request).map(|(kind, _)| kind);
    let addresses = &request.record.addresses;
    let mut checks = || foreign_filters::forwarded(&mut request.host, &policy.bridge, addresses);
    let checks = first.then_some(&mut checks as &mut dyn FnMut() -> Vec<PacketCheck>);
    let kind = known.or_else(|| coexist::companion(context, backend, others, checks));
    if let Some(kind) = kind {
        let beside = Some((kind, policy.beside()));
        backends::claim_beside(context, "firewall", kind)?;
        if companion(request) != beside {
            change(context, request, |network_policy| {
                network_policy.companion = beside
            })?;
        }
        coexist::open_foreign_filters(context, kind, Some(&policy), None)?;
    }
    if first {
        coexist::warn(
            context,
            &mut request.host,
            &policy.bridge,
            &request.record.addresses,
        );
    }
    Ok(())
}

/// The same for an attachment without a bridge, by its addresses.
fn open_foreign_filters_without_bridge(
    context: &Context,
    request: &mut PolicyRequest,
    backend: &mut Backend,
    others: ForeignFilters,
) -> Result<(), Error> {
    let Some(interface) = request
        .record
        .addresses
        .first()
        .and_then(|address| foreign_filters::interface_to(&mut request.host, *address))
    else {
        return Ok(());
    };
    let addresses = &request.record.addresses;
    let mut checks = || foreign_filters::forwarded(&mut request.host, &interface.name, addresses);
    let kind = coexist::companion(context, backend, others, Some(&mut checks));
    let records = context.state.records_of::<FirewallRecord>();
    if let Some(kind) = kind {
        request.record.companion = Some(kind);
        backends::claim_beside(context, "firewall", kind)?;
        context.state.write(&request.key, &request.record)?;
        fault::point("firewall.alone")?;
        let member = plan::member(&request.key, &request.record);
        coexist::open_foreign_filters(context, kind, None, member)?;
    }
    if records.is_only(&request.key)? {
        coexist::warn(
            context,
            &mut request.host,
            &interface.name,
            &request.record.addresses,
        );
    }
    Ok(())
}

/// After a changed configuration: what another backend held goes, and attachments from before get
/// their place in the new policy.
fn settle(
    context: &Context,
    request: &mut PolicyRequest,
    former: &[(BackendKind, Policy)],
) -> Result<(), Error> {
    let Some(policy) = request.policy.clone().filter(|_| !former.is_empty()) else {
        return Ok(());
    };
    for (kind, old) in former {
        if *kind != request.record.backend {
            let mut backend = rules::open(context, *kind)?;
            let done = backend.withdraw(&Ruleset {
                policy: Some(old.clone()),
                ..Ruleset::default()
            });
            rules::close_in_detached_child(backend.into_sockets());
            done.map_err(rules::error)?;
        }
    }
    if former.iter().any(|(_, old)| old.icc != policy.icc) {
        apply_icc_to_earlier_containers(context, request, &policy)?;
    }
    context.state.write_network(
        context.config.name.as_ref(),
        &NetworkPolicyRecord {
            backend: request.record.backend,
            policy,
            former: Vec::new(),
            companion: companion(request),
            profile: request.profile.clone(),
            zone: request
                .network_policy
                .as_ref()
                .and_then(|network_policy| network_policy.zone.clone()),
        },
    )
}

/// Containers that were there before `icc` changed.
fn apply_icc_to_earlier_containers(
    context: &Context,
    request: &mut PolicyRequest,
    policy: &Policy,
) -> Result<(), Error> {
    let records = context.state.records_of::<FirewallRecord>();
    for key in records.attachments(&request.key.network)? {
        if key == request.key {
            continue;
        }
        let Some(mut record) = context.state.read::<FirewallRecord>(&key)? else {
            continue;
        };
        if policy.icc {
            links::unlink(context, &key, &record)?;
            separate::join(context, &mut request.host, &record)?;
            record.separation = None;
            context.state.write(&key, &record)?;
        } else if let Some(port) = &record.port {
            record.separation = Some(PortIsolation {
                owner: key.owner(),
                bridge: policy.bridge.clone(),
                port: port.clone(),
            });
            context.state.write(&key, &record)?;
            separate::separate(context, &mut request.host, &policy.bridge, &record)?;
            let mut backend = rules::open(context, record.backend)?;
            let done = links::link(context, &mut backend, &key, &record);
            rules::close_in_detached_child(backend.into_sockets());
            done?;
        }
    }
    if policy.icc {
        separate::answer(&policy.bridge, false)?;
    }
    Ok(())
}
