//! CHECK: everything that ADD made is still there. STATUS: an ADD could succeed.

use pontoon_attach::container_link::{self, differs, differs_until, listed, same_mac};
use pontoon_attach::{forwarding, masquerade, reference, rules};
use pontoon_conf::{AddResult, Cidr, Error};
use pontoon_ipam::delegation;
use pontoon_ledger::{Key, PtpRecord};
use pontoon_netfilter::Owner;
use pontoon_netlink::RouteSocket;
use pontoon_plugin::{Context, kernel_error};

use crate::config::Config;
use crate::error::{NoMasquerade, NoPrevResult};
use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    delegation::check(context, &config.ipam)?;
    let previous = context.config.prev_result.as_ref().ok_or(NoPrevResult)?;
    let port = check_container(context, &key, previous)?;
    check_host(&key, port, previous)?;
    if !config.ip_masq || reference::attached_by_another(context, "ptp", &key)? {
        return Ok(());
    }
    let kind = rules::select(context, config.ip_masq_backend.as_deref())?;
    let mut backend = rules::open(context, kind)?;
    let ips: Vec<_> = previous.ips_of(&key.interface).cloned().collect();
    let ruleset = masquerade::ruleset(&plan::rules(&key.network, &ips));
    let differences = backend.verify(&ruleset).map_err(rules::error);
    rules::close_in_detached_child(backend.into_sockets());
    match differences?.into_iter().next() {
        None => Ok(()),
        Some(difference) => Err(differs_until(
            format!("network {}: {difference}", key.network),
            "the next ADD of the network makes its rules again",
        )),
    }
}

/// Returns the number of the other end.
fn check_container(
    context: &Context,
    key: &Key,
    previous: &AddResult,
) -> Result<Option<u32>, Error> {
    let name = &key.interface;
    let failed = |error| kernel_error(format!("cannot look up {name}"), error);
    let mut inside = RouteSocket::open_in(context.netns()?).map_err(failed)?;
    let link = inside
        .link_by_name(name)
        .map_err(failed)?
        .ok_or_else(|| differs(format!("{name} is gone from the container")))?;
    if link.kind.as_deref() != Some("veth") {
        return Err(differs(format!("{name} in the container is not a veth")));
    }
    same_mac(&link, listed(previous, name, true))?;
    container_link::refuse_foreign_routes(&mut inside, &link, previous)?;
    container_link::compare(&mut inside, &link, previous)?;
    Ok(link.peer)
}

fn check_host(key: &Key, peer: Option<u32>, previous: &AddResult) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot look at the host's end of the veth pair", error);
    let mut host = RouteSocket::open().map_err(failed)?;
    let mut link = host.link_by_name(&key.host_interface()).map_err(failed)?;
    if let (None, Some(peer)) = (&link, peer) {
        // The reference plugin gives it a name by chance.
        link = host.link_by_index(peer).map_err(failed)?;
    }
    let link = link
        .filter(|link| link.kind.as_deref() == Some("veth"))
        .ok_or_else(|| differs("the host's end of the veth pair is gone"))?;
    let name = &link.name;
    if !link.up {
        return Err(differs(format!("{name} is down")));
    }
    same_mac(&link, listed(previous, name, false))?;
    let ips: Vec<_> = previous.ips_of(&key.interface).cloned().collect();
    let present: Vec<Cidr> = host
        .addresses(link.index)
        .map_err(failed)?
        .into_iter()
        .map(|address| Cidr::from(address.cidr))
        .collect();
    for gateway in plan::gateways(&ips) {
        if !present.contains(&gateway) {
            return Err(differs(format!(
                "{name} lacks the gateway address {gateway}"
            )));
        }
    }
    for ip in &ips {
        let address = ip.address.addr();
        let way = host.route_to(address).map_err(failed)?;
        if way.and_then(|way| way.interface) != Some(link.index) {
            return Err(differs(format!(
                "the host lacks the route to {address} by {name}"
            )));
        }
        let path = forwarding::switch(address.is_ipv4());
        if forwarding::is_off(address.is_ipv4()) {
            return Err(differs_until(
                format!("forwarding is off: /proc/sys/{path} is 0"),
                "pontoon ip-forward --fix switches it on",
            ));
        }
    }
    Ok(())
}

/// Whether those who are attached get beyond the host.
fn check_forwarding(context: &Context) -> Result<(), Error> {
    let network = context.config.name.as_ref();
    if !context.state.records_of::<PtpRecord>().has_network(network) {
        return Ok(());
    }
    let failed = |error| kernel_error("cannot look at the host's IPv6 addresses", error);
    let mut host = RouteSocket::open().map_err(failed)?;
    // The host's end of a container with IPv6 has its gateway's address, alone.
    let tag = format!("{} ", Owner::network(network).tag());
    let mut v6 = false;
    for address in host.all_addresses(false).map_err(failed)? {
        if v6 || address.scope != 0 || address.cidr.prefix() != 128 {
            continue;
        }
        let link = host.link_by_index(address.index).map_err(failed)?;
        let alias = link.and_then(|link| link.alias);
        v6 = alias.is_some_and(|alias| alias.starts_with(&tag));
    }
    forwarding::status(network, &mut host, v6)
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    check_forwarding(context)?;
    if config.ip_masq {
        let kind = rules::select(context, config.ip_masq_backend.as_deref());
        kind.and_then(|kind| rules::open(context, kind))
            .map(|backend| rules::close_in_detached_child(backend.into_sockets()))
            .map_err(|cause| NoMasquerade { cause })?;
    }
    delegation::status(context, &config.ipam)
}
