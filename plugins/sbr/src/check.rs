//! CHECK: every address has its rule, every table its way out, and the main table knows nothing of
//! the interface.

use pontoon_conf::Error;
use pontoon_netlink::RouteEntry;
use pontoon_plugin::{Context, kernel_error};

use crate::add;
use crate::config::Config;
use crate::error::Difference;
use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let ips = plan::addresses(context.config.prev_result.as_ref(), &key.interface)?;
    let (mut inside, index) = add::inside(context, &key.interface)?;
    let failed = |error| kernel_error("cannot look at the container's routing", error);
    let differs = |what: String| {
        Error::from(Difference {
            container: key.container.clone(),
            what,
        })
    };
    for v4 in [true, false] {
        let own: Vec<_> = ips.iter().filter(|ip| ip.address.is_ipv4() == v4).collect();
        if own.is_empty() {
            continue;
        }
        let rules = inside.source_rules(v4).map_err(failed)?;
        for ip in own {
            let source = ip.address.ip();
            let rule = rules.iter().find(|rule| rule.source == Some(source));
            let rule = rule.ok_or_else(|| differs(format!("there is no rule for {source}")))?;
            if config.table.is_some_and(|table| table != rule.table) {
                return Err(differs(format!(
                    "the rule for {source} leads to table {}",
                    rule.table
                )));
            }
            // The routes of a table that the configuration names are the admin's.
            let own = config.gateway(ip).filter(|_| config.table.is_none());
            let Some(gateway) = own else {
                continue;
            };
            let routes = inside.routes_of_table(v4, rule.table).map_err(failed)?;
            let out = |route: &RouteEntry| {
                route.gateway == Some(gateway) && route.interface == Some(index)
            };
            if !routes.iter().any(out) {
                return Err(differs(format!(
                    "table {} has no route via {gateway}",
                    rule.table
                )));
            }
        }
        if config.table.is_some() {
            continue;
        }
        let main = inside.routes(v4).map_err(failed)?;
        let hinted = |route: &RouteEntry| config.source_hints && plan::is_hint(route, &ips);
        let stays = |route: &&RouteEntry| plan::is_moved(route, index) && !hinted(route);
        if let Some(route) = main.iter().find(stays) {
            return Err(differs(format!(
                "the main table has a route to {} by {}",
                route.destination, key.interface
            )));
        }
    }
    Ok(())
}
