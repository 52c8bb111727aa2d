//! ADD: a table and a rule for each address; then the interface's routes leave the main table.

use std::collections::BTreeSet;

use pontoon_attach::sockets;
use pontoon_conf::{AddResult, Error, IpConfig};
use pontoon_ledger::{MovedRoute, SbrRecord};
use pontoon_netlink::{RouteEntry, RouteSocket};
use pontoon_plugin::{Context, Undo, fault, kernel_error};

use crate::config::Config;
use crate::error::NoLink;
use crate::{plan, undo};

/// Opens a socket in the container, and finds the interface.
pub(crate) fn inside(context: &Context, name: &str) -> Result<(RouteSocket, u32), Error> {
    let mut inside = sockets::of_container(context.netns()?)?;
    let link = inside
        .link_by_name(name)
        .map_err(|error| kernel_error(format!("cannot look up {name}"), error))?
        .ok_or_else(|| NoLink {
            interface: name.to_owned(),
        })?;
    Ok((inside, link.index))
}

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let config = Config::from_context(context)?;
    let mut steps = Undo::default();
    match route(context, &config, &mut steps) {
        Ok(()) => {
            steps.commit();
            Ok(context.config.prev_result.clone().unwrap_or_default())
        }
        // From the record on, removing the attachment undoes everything.
        Err(error) => Err(steps.unwind(error, |()| undo::remove(context))),
    }
}

fn route(context: &Context, config: &Config, undo: &mut Undo<()>) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot change the container's routing", error);
    let key = context.key()?;
    let ips = plan::addresses(context.config.prev_result.as_ref(), &key.interface)?;
    let (mut inside, index) = inside(context, &key.interface)?;
    if context.state.records_of::<SbrRecord>().holds(&key)? {
        // An earlier ADD of this very attachment was killed, and its DEL never came. Of one in a
        // namespace that is gone there is nothing to take back.
        undo::remove(context)?;
    }
    let mut there = Vec::new();
    if config.table.is_none() {
        for v4 in families(&ips) {
            there.extend(inside.routes(v4).map_err(failed)?);
        }
    }
    let moved = there.iter().filter(|route| plan::is_moved(route, index));
    let mut moved: Vec<MovedRoute> = moved.map(plan::moved).collect();
    // Those with a gateway leave first: the way to it is among the others, which come back first.
    moved.sort_by_key(|route| route.gateway.is_none());
    let record = SbrRecord {
        sandbox: context.sandbox(),
        moved,
        sources: ips.iter().map(|ip| ip.address.ip()).collect(),
        rules_only: config.table.is_some(),
    };
    undo.push(());
    context.state.write(&key, &record)?;
    fault::point("sbr.recorded")?;
    match config.table {
        Some(table) => {
            for ip in &ips {
                let source = ip.address.ip();
                inside.add_source_rule(source, table).map_err(failed)?;
                fault::point("sbr.ruled")?;
            }
            Ok(())
        }
        None => separate(&mut inside, index, config, &ips, &there, &record.moved),
    }
}

/// The families of these addresses, IPv4 first.
fn families(ips: &[&IpConfig]) -> Vec<bool> {
    let has = |v4: &bool| ips.iter().any(|ip| ip.address.is_ipv4() == *v4);
    [true, false].into_iter().filter(has).collect()
}

/// A table and a rule for each address; then the interface's routes leave the main table.
fn separate(
    inside: &mut RouteSocket,
    index: u32,
    config: &Config,
    ips: &[&IpConfig],
    there: &[RouteEntry],
    moved: &[MovedRoute],
) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot change the container's routing", error);
    let stray = plan::strays(there, ips);
    for v4 in families(ips) {
        let mut used: BTreeSet<u32> = inside.tables(v4).map_err(failed)?.into_iter().collect();
        let rules = inside.source_rules(v4).map_err(failed)?;
        used.extend(rules.iter().map(|rule| rule.table));
        for ip in ips.iter().filter(|ip| ip.address.is_ipv4() == v4) {
            let table = plan::free_table(&used);
            used.insert(table);
            // Routes first: with the rule alone packets would find nothing.
            for spec in plan::routes(there, index, ip, &stray, config, table) {
                inside.add_route(&spec).map_err(failed)?;
            }
            fault::point("sbr.routed")?;
            inside
                .add_source_rule(ip.address.ip(), table)
                .map_err(failed)?;
            fault::point("sbr.ruled")?;
        }
    }
    for route in moved {
        inside
            .remove_route(&plan::spec(route, index))
            .map_err(failed)?;
    }
    if config.source_hints {
        for ip in ips {
            inside.add_route(&plan::hint(ip, index)).map_err(failed)?;
        }
    }
    fault::point("sbr.moved")
}
