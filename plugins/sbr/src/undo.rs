//! Taking back what ADD has made: for an ADD that fails, for DEL and for GC.

use std::collections::HashSet;
use std::net::IpAddr;

use pontoon_conf::Error;
use pontoon_ledger::{Key, SbrRecord};
use pontoon_netlink::{RouteSocket, RouteSpec, SourceRule};
use pontoon_plugin::{Context, fault, kernel_error};

use crate::config::{Config, is_reserved};
use crate::plan;

/// Takes the attachment back and forgets it.
pub(crate) fn remove(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    give_back(context, &key)?;
    fault::point("sbr.forgotten")?;
    context.state.records_of::<SbrRecord>().remove(&key)?;
    Ok(())
}

/// Everything is tried: an interface that is down, or has lost its addresses or its name, keeps
/// nothing from being taken back.
fn give_back(context: &Context, key: &Key) -> Result<(), Error> {
    let record: Option<SbrRecord> = context.state.read(key)?;
    let sandbox = record.as_ref().map(|record| &record.sandbox);
    // With the namespace everything has gone; in another one nothing was changed.
    let Some(netns) = context.netns_of_record(sandbox) else {
        return Ok(());
    };
    let failed = |error| kernel_error("cannot look at the container's routing", error);
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    let previous = context.config.prev_result.as_ref();
    let ips = previous.map_or(&[][..], |previous| &previous.ips);
    let mut sources: HashSet<IpAddr> = ips.iter().map(|ip| ip.address.ip()).collect();
    sources.extend(record.iter().flat_map(|record| &record.sources));
    if let Some(link) = inside.link_by_name(&key.interface).map_err(failed)? {
        let addresses = inside.addresses(link.index).map_err(failed)?;
        sources.extend(addresses.iter().map(|address| address.cidr.ip()));
        // Those without a gateway first, by which gateways are found.
        let moved = record.iter().flat_map(|record| record.moved.iter().rev());
        for route in moved {
            // What cannot come back has lost its address or its link, and DEL takes both.
            let _ = inside.add_route(&plan::spec(route, link.index));
        }
    }
    let rules_only = match &record {
        Some(record) => record.rules_only,
        // Another state directory's, or the reference plugin's work.
        None => Config::from_context(context).is_ok_and(|config| config.table.is_some()),
    };
    forget(&mut inside, &sources, rules_only)
}

/// Removes the rules for these addresses, and what lies in their tables unless the tables are the
/// admin's. Goes on after a failure; the first is told.
fn forget(
    inside: &mut RouteSocket,
    sources: &HashSet<IpAddr>,
    rules_only: bool,
) -> Result<(), Error> {
    let looked = |error| kernel_error("cannot look at the container's routing", error);
    let mut done = Ok(());
    for v4 in [true, false] {
        let rules = inside.source_rules(v4).map_err(looked)?;
        let ours = |rule: &SourceRule| rule.source.is_some_and(|source| sources.contains(&source));
        // A table may be one that others look into as well.
        let shared = rules.iter().filter(|rule| !ours(rule));
        let shared: HashSet<u32> = shared.map(|rule| rule.table).collect();
        let mut emptied = HashSet::new();
        for rule in rules.iter().filter(|rule| ours(rule)) {
            let kept = rules_only || is_reserved(rule.table) || shared.contains(&rule.table);
            if !kept && emptied.insert(rule.table) {
                done = done.and(empty(inside, v4, rule.table));
            }
            if let Some(source) = rule.source {
                let removed = inside.remove_source_rule(source, rule.table);
                done = done.and(removed.map(drop).map_err(|error| {
                    kernel_error(format!("cannot remove the rule for {source}"), error)
                }));
            }
        }
    }
    done
}

fn empty(inside: &mut RouteSocket, v4: bool, table: u32) -> Result<(), Error> {
    let failed = |error| kernel_error(format!("cannot empty table {table}"), error);
    let mut done = Ok(());
    for route in inside.routes_of_table(v4, table).map_err(failed)? {
        let spec = RouteSpec {
            gateway: route.gateway,
            interface: route.interface,
            priority: route.priority,
            table: Some(table),
            ..RouteSpec::to(route.destination)
        };
        done = done.and(inside.remove_route(&spec).map(drop).map_err(failed));
    }
    done
}
