//! ADD: the record, the resolver that has seen it, the way there, the container's files.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use pontoon_attach::{backends, bridge_port, foreign_filters, masquerade, rules, sockets};
use pontoon_conf::{AddResult, Dns, Error};
use pontoon_dns::record::Record;
use pontoon_dns::resolv_conf::{ContainerResolver, source};
use pontoon_ledger::{DnsRecord, Key, Lock, files};
use pontoon_netfilter::{Backend, BackendKind, Resolver, Ruleset};
use pontoon_plugin::{Context, Undo, fault, warn};

use crate::config::Config;
use crate::error::FileError;
use crate::files::NetworkSection;
use crate::plan::{self, ContainerLocation};
use crate::undo::{Step, revert};
use crate::{input, resolver};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let mut place = plan::place(&key, context.config.prev_result.as_ref())?;
    let mut result = context.config.prev_result.clone().unwrap_or_default();
    for name in &config.unfit {
        warn(format_args!("dns: warning: {name}"));
    }
    serve_where_possible(&config, &mut place);
    if place.gateways.is_empty() {
        config.refuse_unserved("the network's gateway is not on this host")?;
    }
    let netns = context.invocation.netns.as_deref();
    let internal = plan::is_internal(&place, &result, masquerade::noted(context)?);
    let record = plan::record(&key, &config, &place, &result, netns, internal);
    let (inside, warnings) = inside(context, &config, &record, &result)?;
    for text in warnings {
        warn(format_args!("dns: warning: {text}"));
    }
    let served = !record.gateways.is_empty();
    let entry = DnsRecord {
        sandbox: context.sandbox(),
        etc_netns: netns
            .filter(|_| config.etc_netns)
            .and_then(plan::netns_name)
            .map(str::to_owned),
        backend: match served {
            true => Some(backends::follow(context, config.backend.as_deref())?),
            false => None,
        },
        record,
    };
    if let Some(backend) = entry.backend {
        // Which port it will be is known later.
        rules::validate(backend, &ruleset(plan::redirect(&entry.record, 0)))?;
    }
    let mut undo = Undo::default();
    let part = NetworkSection::new(
        &inside,
        &entry.record.addresses,
        &config.names,
        if served { &config.domain } else { "" },
    );
    let registered = reach_itself(&entry, &result, &mut undo)
        .and_then(|()| register(context, &key, &entry, &part, &mut undo));
    match registered {
        Ok(()) => undo.commit(),
        Err(error) => return Err(undo.unwind(error, |step| revert(context, &key, step))),
    }
    result.dns = Dns {
        nameservers: inside.servers.iter().map(IpAddr::to_string).collect(),
        domain: result.dns.domain,
        search: inside.search,
        options: inside.options,
    };
    Ok(result)
}

/// The resolver listens at addresses of the host. A network whose gateway is elsewhere, or that has
/// none, is not served.
fn serve_where_possible(config: &Config, place: &mut ContainerLocation) {
    if !config.serve {
        place.gateways.clear();
        return;
    }
    // A socket can be bound to an address of the host only (ip(7)); nothing is sent. One family
    // decides for both: a new IPv6 address may be tentative still.
    let ours = |gateway: &IpAddr| UdpSocket::bind((*gateway, 0)).is_ok();
    if !place.gateways.iter().any(ours) {
        if !place.gateways.is_empty() {
            warn(format_args!(
                "dns: warning: the network's gateway is not on this host, so that names are not served"
            ));
        }
        place.gateways.clear();
    }
}

/// What the container's resolv.conf says.
fn inside(
    context: &Context,
    config: &Config,
    record: &Record,
    previous: &AddResult,
) -> Result<(ContainerResolver, Vec<String>), Error> {
    let unread = RefCell::new(None);
    let refused = RefCell::new(None);
    let read = |path: &Path| {
        let error = match files::read_following(path, files::RESOLV_CONF) {
            Ok(bytes) => return Some(bytes),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::NotFound {
            *refused.borrow_mut() = Some(FileError::ResolvConf {
                path: path.to_owned(),
                source: error,
            });
        } else if path == config.resolv_conf {
            *unread.borrow_mut() = Some(error);
        }
        None
    };
    let host = source(&config.resolv_conf, read);
    if let Some(error) = refused.into_inner() {
        return Err(error.into());
    }
    let missing = plan::without_servers(record, &host, unread.borrow().as_ref());
    let mut silent = Vec::new();
    if config.probe
        && let Some(conf) = &host.1
    {
        let servers: Vec<IpAddr> = conf.servers.iter().map(|server| server.address).collect();
        silent = context
            .netns()?
            .run(|| pontoon_dns::probe::silent(&servers))
            .map_err(pontoon_plugin::netns_error)?;
    }
    let (inside, warnings) = plan::inside(record, config, host, previous, &silent);
    Ok((inside, missing.into_iter().chain(warnings).collect()))
}

/// A container that asks its own service may be asked itself.
fn reach_itself(
    entry: &DnsRecord,
    previous: &AddResult,
    undo: &mut Undo<Step>,
) -> Result<(), Error> {
    if entry.record.service.is_none() {
        return Ok(());
    }
    let mut host = sockets::of_host()?;
    if let Some(port) = bridge_port::of(&mut host, previous)?
        && bridge_port::reflect(&mut host, &port)?
    {
        undo.push(Step::Hairpin(port.index));
    }
    Ok(())
}

fn register(
    context: &Context,
    key: &Key,
    entry: &DnsRecord,
    part: &NetworkSection,
    undo: &mut Undo<Step>,
) -> Result<(), Error> {
    {
        // From the record on, the network's rules stay; the lock keeps a DEL of its last container
        // from being half way through when the record appears.
        let state = &context.state;
        let _host = state.lock(&state.host_lock(), Lock::shared)?;
        let resolver = state.resolver_lock(&key.network);
        let _resolver = state.lock(&resolver, Lock::shared)?;
        undo.push(Step::Record(Box::new(entry.clone())));
        backends::claim(context, "dns", entry.backend)?;
        state.write(key, entry)?;
    }
    fault::point("dns.recorded")?;
    if let Some(backend) = entry.backend {
        let port = resolver::serve(context, key)?;
        fault::point("dns.served")?;
        redirect(context, &entry.record, backend, port)?;
        fault::point("dns.redirected")?;
    }
    undo.push(Step::Files(entry.etc_netns.clone()));
    crate::files::add(context, key, part, entry.etc_netns.as_deref())?;
    fault::point("dns.written")
}

fn ruleset(resolver: Resolver) -> Ruleset {
    Ruleset {
        resolver: Some(resolver),
        ..Ruleset::default()
    }
}

/// Leads port 53 of the bridge to the resolver. Noted before it is done, so that the call that removes the
/// last container of the network knows what to remove.
fn redirect(context: &Context, record: &Record, kind: BackendKind, port: u16) -> Result<(), Error> {
    let wanted = plan::redirect(record, port);
    let first = resolver::note(context, kind, &wanted)?;
    let mut backend = rules::open(context, kind)?;
    let done = backend.apply(&ruleset(wanted)).map_err(rules::error);
    let others = match &mut backend {
        Backend::Nftables(nft) => Some(nft.others().unwrap_or_default()),
        // Asked once for the network: it takes a socket of its own.
        Backend::Iptables(_) => first.then(foreign_filters::others),
    };
    rules::close_in_detached_child(backend.into_sockets());
    done?;
    input::open(context, record, port, others, first)
}
