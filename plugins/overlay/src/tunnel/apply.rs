//! The difference between what is wanted and what is there, and bringing it in.

use std::collections::BTreeMap;

use pontoon_conf::Cidr;
use pontoon_ledger::overlay;
use pontoon_netfilter::nft::{self, Nft};
use pontoon_netlink::{IpNetwork, RouteEntry, RouteSocket, RouteSpec, TableChange, TableEntry};

use super::facts::Facts;
use super::plan::{EntryKey, Plan, key, plan};
use super::{Changes, PROTOCOL, TunnelError, Wanted, device};

/// `RTN_UNREACHABLE`.
const UNREACHABLE: u8 = 7;

/// Makes the kernel have exactly the wanted device, routes, neighbours and forwarding entries of a network, and nothing
/// of ours beside them. Repeating it changes nothing. The calling thread must be in the namespace of `host`.
///
/// # Errors
/// When the tunnel as a whole cannot be made. What only one other host suffers from is in [`Changes::failed`].
pub fn apply(host: &mut RouteSocket, wanted: &Wanted) -> Result<Changes, TunnelError> {
    let network = wanted.network.network.as_str();
    if let Some(problem) = wanted.network.problem() {
        return Err(TunnelError::Invalid {
            network: network.to_owned(),
            problem,
        });
    }
    let facts = Facts::read(host, wanted)?;
    let mut plan = plan(wanted, &facts);
    let mut changes = Changes {
        failed: std::mem::take(&mut plan.impossible),
        ..Changes::default()
    };
    // Before the device is there: no packet comes in that nothing has looked at.
    if let Some(guard) = &plan.guard {
        match guarded(|nft| nft.guard_tunnel(guard)) {
            Ok(nft::TableChange::None) => {}
            Ok(nft::TableChange::Made) => changes.added += 1,
            Ok(nft::TableChange::Replaced) => changes.changed += 1,
            Err(error) => changes
                .failed
                .push(format!("no rules keep others out of the tunnel: {error}")),
        }
    }
    let device = match &plan.device {
        Some(device) => Some(device::ensure(host, network, device, &mut changes)?),
        None => {
            if let Some(link) = device::find(host, network)? {
                device::delete(host, network, link.index)?;
                changes.removed += 1;
            }
            None
        }
    };
    let subnets: Vec<Cidr> = wanted.network.subnets.iter().map(|it| it.subnet).collect();
    let there = present(host, network, device, &subnets)?;
    let plan = plan.at_device(device.unwrap_or_default());
    bring_in(host, network, &plan, &there, &mut changes)?;
    Ok(changes)
}

/// How the kernel differs from the wanted device, routes, neighbours and forwarding entries of a network, in words;
/// empty when it does not. Nothing is changed. What [`Changes::failed`] would tell is in it.
///
/// # Errors
/// When the kernel refuses a question, or a link of the device's name is another program's.
pub fn differences(host: &mut RouteSocket, wanted: &Wanted) -> Result<Vec<String>, TunnelError> {
    let network = wanted.network.network.as_str();
    let facts = Facts::read(host, wanted)?;
    let mut plan = plan(wanted, &facts);
    let mut found = std::mem::take(&mut plan.impossible);
    let device = device::find(host, network)?.map(|link| link.index);
    if plan.device.is_some() && device.is_none() {
        found.push(format!("device {} is missing", overlay::device(network)));
        return Ok(found);
    }
    let subnets: Vec<Cidr> = wanted.network.subnets.iter().map(|it| it.subnet).collect();
    let there = present(host, network, device, &subnets)?;
    let plan = plan.at_device(device.unwrap_or_default());
    let todo = difference(&plan, &there);
    found.extend(todo.iter().map(|change| match change {
        TableChange::Add(entry) => format!("{entry} is missing"),
        TableChange::Replace(entry) => format!("{entry} is another one"),
        TableChange::Remove(entry) => format!("{entry} is too many"),
    }));
    Ok(found)
}

/// What protects a tunnel is always made by nftables: a table of its own does not meet those of other backends.
fn guarded<T>(act: impl FnOnce(&mut Nft) -> Result<T, nft::Error>) -> Result<T, nft::Error> {
    let mut nft = Nft::open()?;
    act(&mut nft)
}

/// Removes the rules of a tunnel, when there are any.
fn unguard(network: &str, device: &str, changes: &mut Changes) -> Result<(), TunnelError> {
    match guarded(|nft| nft.unguard_tunnel(device)) {
        Ok(removed) => changes.removed += usize::from(removed),
        Err(nft::Error::NoNftables { .. }) => {}
        Err(source) => {
            return Err(TunnelError::Rules {
                network: network.to_owned(),
                source,
            });
        }
    }
    Ok(())
}

/// Removes the device of a network, all of its entries, and our routes into these subnets of it. Success when there is
/// nothing.
///
/// # Errors
/// When the kernel refuses, or a link of the device's name is another program's.
pub fn remove(
    host: &mut RouteSocket,
    network: &str,
    subnets: &[Cidr],
) -> Result<Changes, TunnelError> {
    let mut changes = Changes::default();
    let found = device::find(host, network)?;
    let there = present(
        host,
        network,
        found.as_ref().map(|link| link.index),
        subnets,
    )?;
    bring_in(host, network, &Plan::default(), &there, &mut changes)?;
    if let Some(link) = found {
        device::delete(host, network, link.index)?;
        changes.removed += 1;
    }
    unguard(network, &overlay::device(network), &mut changes)?;
    Ok(changes)
}

/// Removes what is left of networks that are none any more: devices with our note, and our routes outside of the subnets
/// of `known`.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep(host: &mut RouteSocket, known: &[Wanted]) -> Result<Changes, TunnelError> {
    const ALL: &str = "(any)";
    let failed = |action| {
        move |source| TunnelError::Kernel {
            network: ALL.to_owned(),
            action,
            source,
        }
    };
    let mut changes = Changes::default();
    let devices = host
        .links_of_kind("vxlan")
        .map_err(failed("list the tunnel devices"))?;
    for link in devices {
        let alias = link.alias.as_deref().unwrap_or_default();
        let is_known = |it: &Wanted| overlay::device(&it.network.network) == link.name;
        if alias.starts_with("pontoon ") && !known.iter().any(is_known) {
            device::delete(host, ALL, link.index)?;
            changes.removed += 1;
            unguard(ALL, &link.name, &mut changes)?;
        }
    }
    let known: Vec<Cidr> = known
        .iter()
        .flat_map(|it| it.network.subnets.iter().map(|it| it.subnet))
        .collect();
    let mut there = BTreeMap::new();
    for v4 in [true, false] {
        let routes = host
            .routes_of_protocol(v4, PROTOCOL)
            .map_err(failed("list the routes"))?;
        let left = routes
            .iter()
            .filter(|it| !is_within(it.destination, &known));
        there.extend(left.map(as_entry).map(|entry| (key(&entry), entry)));
    }
    bring_in(host, ALL, &Plan::default(), &there, &mut changes)?;
    Ok(changes)
}

fn is_within(destination: IpNetwork, subnets: &[Cidr]) -> bool {
    let inside = |subnet: &Cidr| {
        subnet.contains(destination.ip()) && subnet.prefix() <= destination.prefix()
    };
    subnets.iter().any(inside)
}

fn as_entry(route: &RouteEntry) -> TableEntry {
    let unreachable = route.kind == UNREACHABLE;
    TableEntry::Route(RouteSpec {
        // IPv6 has a device for it, and a metric of its own for routes that were given none.
        interface: route.interface.filter(|_| !unreachable),
        gateway: route.gateway,
        priority: route.priority,
        protocol: Some(PROTOCOL),
        unreachable,
        ..RouteSpec::to(route.destination)
    })
}

/// What is there of a network: all entries of its device, and our routes into its subnets.
fn present(
    host: &mut RouteSocket,
    network: &str,
    device: Option<u32>,
    subnets: &[Cidr],
) -> Result<BTreeMap<EntryKey, TableEntry>, TunnelError> {
    let failed = |action| {
        move |source| TunnelError::Kernel {
            network: network.to_owned(),
            action,
            source,
        }
    };
    let mut entries = Vec::new();
    for v4 in [true, false] {
        let routes = host
            .routes_of_protocol(v4, PROTOCOL)
            .map_err(failed("list the routes"))?;
        let ours = |route: &&RouteEntry| {
            (device.is_some() && route.interface == device) || is_within(route.destination, subnets)
        };
        entries.extend(routes.iter().filter(ours).map(as_entry));
    }
    if let Some(index) = device {
        let neighbours = host
            .neighbours_on(index)
            .map_err(failed("list the neighbours"))?;
        // The kernel keeps entries of its own for multicast, of another state.
        let permanent = neighbours.into_iter().filter(|it| it.permanent);
        entries.extend(permanent.map(|it| TableEntry::Neighbour {
            interface: index,
            address: it.address,
            mac: it.mac.unwrap_or_default(),
        }));
        let forwarding = host
            .forwarding_of(index)
            .map_err(failed("list the forwarding entries"))?;
        entries.extend(forwarding.into_iter().map(TableEntry::Forwarding));
    }
    Ok(entries
        .into_iter()
        .map(|entry| (key(&normal(entry)), normal(entry)))
        .collect())
}

/// An entry as it is compared: what the kernel adds by itself is left out.
fn normal(entry: TableEntry) -> TableEntry {
    /// `IP6_RT_PRIO_USER`.
    const IPV6_DEFAULT: u32 = 1024;
    match entry {
        TableEntry::Route(spec) => TableEntry::Route(RouteSpec {
            onlink: false,
            priority: spec
                .priority
                .filter(|metric| spec.dst.is_ipv4() || *metric != IPV6_DEFAULT),
            ..spec
        }),
        other => other,
    }
}

fn bring_in(
    host: &mut RouteSocket,
    network: &str,
    plan: &Plan,
    there: &BTreeMap<EntryKey, TableEntry>,
    changes: &mut Changes,
) -> Result<(), TunnelError> {
    let todo = difference(plan, there);
    if todo.is_empty() {
        return Ok(());
    }
    let failed = host
        .change_tables(&todo)
        .map_err(|source| TunnelError::Kernel {
            network: network.to_owned(),
            action: "write the tables",
            source,
        })?;
    let mut undone = failed.iter().map(|(position, _)| *position).peekable();
    for (position, change) in todo.iter().enumerate() {
        if undone.next_if_eq(&position).is_some() {
            continue;
        }
        match change {
            TableChange::Add(_) => changes.added += 1,
            TableChange::Replace(_) => changes.changed += 1,
            TableChange::Remove(_) => changes.removed += 1,
        }
    }
    let told = failed.into_iter().map(|(_, error)| error.to_string());
    changes.failed.extend(told);
    Ok(())
}

/// Forwarding entries and neighbours come before the routes that need them, and go after them.
fn difference(plan: &Plan, there: &BTreeMap<EntryKey, TableEntry>) -> Vec<TableChange> {
    let mut removals = Vec::new();
    for (key, entry) in there {
        if !plan.entries.contains_key(key) {
            removals.push(TableChange::Remove(*entry));
        }
    }
    let mut puts = Vec::new();
    for (key, entry) in &plan.entries {
        match there.get(key) {
            None => puts.push(TableChange::Add(*entry)),
            Some(found) if *found != normal(*entry) => puts.push(TableChange::Replace(*entry)),
            Some(_) => {}
        }
    }
    puts.reverse();
    puts.extend(removals);
    puts
}
