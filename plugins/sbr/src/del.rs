//! DEL and GC: the rules of the interface's addresses go, and their tables' routes; if the link stays,
//! the routes that it had are in the main table again.

use std::net::IpAddr;

use pontoon_conf::Error;
use pontoon_netlink::{RouteSocket, RouteSpec, SourceRule};
use pontoon_plugin::{Context, Key, fault, kernel_error};

use crate::add::Record;
use crate::plan;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    give_back(context, &key)?;
    fault::point("sbr.forgotten")?;
    context.state.records("sbr").remove(&key)?;
    context.state.prune();
    Ok(())
}

fn give_back(context: &Context, key: &Key) -> Result<(), Error> {
    // With the namespace everything has gone.
    let Some(netns) = context.netns_if_alive() else {
        return Ok(());
    };
    let failed = |error| kernel_error("cannot look at the container's routing", &error);
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    let previous = context.config.prev_result.as_ref();
    let ips = previous.map_or(&[][..], |previous| &previous.ips);
    let mut sources: Vec<IpAddr> = ips.iter().map(|ip| ip.address.ip()).collect();
    let record: Option<Record> = context.state.records("sbr").read(key);
    if let Some(link) = inside.link_by_name(&key.interface).map_err(failed)? {
        let addresses = inside.addresses(link.index).map_err(failed)?;
        sources.extend(addresses.iter().map(|address| address.cidr.ip()));
        // Those without a gateway first, by which gateways are found.
        let moved = record.iter().flat_map(|record| record.moved.iter().rev());
        for route in moved {
            inside.add_route(&route.spec(link.index)).map_err(failed)?;
        }
    }
    forget(&mut inside, &sources)
}

/// Removes the rules for these addresses, and what lies in their tables.
fn forget(inside: &mut RouteSocket, sources: &[IpAddr]) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot remove the container's routing", &error);
    for v4 in [true, false] {
        let rules = inside.source_rules(v4).map_err(failed)?;
        let ours = |rule: &SourceRule| rule.source.is_some_and(|source| sources.contains(&source));
        for rule in rules.iter().filter(|rule| ours(rule)) {
            // The table may be one that others look into as well.
            let shared = |other: &SourceRule| other.table == rule.table && !ours(other);
            if !plan::is_reserved(rule.table) && !rules.iter().any(shared) {
                empty(inside, v4, rule.table)?;
            }
            if let Some(source) = rule.source {
                inside
                    .remove_source_rule(source, rule.table)
                    .map_err(failed)?;
            }
        }
    }
    Ok(())
}

fn empty(inside: &mut RouteSocket, v4: bool, table: u32) -> Result<(), Error> {
    let failed = |error| kernel_error(&format!("cannot empty table {table}"), &error);
    for route in inside.routes_of_table(v4, table).map_err(failed)? {
        let spec = RouteSpec {
            gateway: route.gateway,
            interface: route.interface,
            priority: route.priority,
            table: Some(table),
            ..RouteSpec::to(route.destination)
        };
        inside.remove_route(&spec).map_err(failed)?;
    }
    Ok(())
}

/// Removes the records of attachments that are not valid any more; without a list, of those whose
/// namespace is gone. What they tell of goes with the namespace.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let network = context.config.name.to_string();
    let records = context.state.records("sbr");
    let mut result = Ok(());
    for key in records.attachments(&network) {
        let record: Option<Record> = records.read(&key);
        if !context.is_valid(&key, record.as_ref().map(|record| &record.sandbox)) {
            result = result.and(records.remove(&key).map(drop));
        }
    }
    records.remove_drafts(&network);
    context.state.prune();
    result
}
