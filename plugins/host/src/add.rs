//! ADD: the container's namespace path leads to the host's namespace.

use pontoon_attach::{Inventory, rebind};
use pontoon_conf::{AddResult, Error};
use pontoon_ledger::{HostRecord, Rebind, Sandbox};
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, netns_error};

use crate::{config, plan};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    config::ignore_ports(context)?;
    let key = context.key()?;
    let path = context.invocation.required_netns()?;
    let host = Netns::current().map_err(netns_error)?;
    let planned = rebind::plan(context, &host, plan::INSTEAD)?;
    let mut result = Inventory::of(&host)?.result(path);
    result.dns = context.config.dns.clone().unwrap_or_default();
    let record = |rebind: Option<Rebind>| HostRecord {
        sandbox: Sandbox::at(path, &host),
        rebind,
        names: context.names(),
    };
    match planned {
        Some(rebind) => {
            let record = record(Some(rebind.clone()));
            rebind::enter(&rebind, &host, &context.state, &key, &record)?;
        }
        None => {
            // An ADD that comes twice must not forget what the first one did.
            let earlier: Option<HostRecord> = context.state.read(&key)?;
            let rebind = earlier.and_then(|record| record.rebind);
            context.state.write(&key, &record(rebind))?;
        }
    }
    Ok(result)
}
