//! ADD: the container's namespace path leads to the host's namespace.

use pontoon_conf::{Attached, Error, KnownAs};
use pontoon_netlink::Netns;
use pontoon_plugin::{Context, Inventory, Rebind, Sandbox, netns_error};
use serde::{Deserialize, Serialize};

use crate::{config, plan};

/// What DEL, CHECK and GC need to know of an attachment beside its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The host's namespace, at the container's path.
    pub(crate) sandbox: Sandbox,
    /// `None`: the path was the host's before.
    pub(crate) rebind: Option<Rebind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<KnownAs>,
}

pub(crate) fn add(context: &Context) -> Result<Attached, Error> {
    config::ignore_ports(context)?;
    let key = context.key()?;
    let path = context.invocation.required_netns()?;
    let host = Netns::current().map_err(|error| netns_error(&error))?;
    let planned = Rebind::plan(context, &host, plan::INSTEAD)?;
    let mut result = Inventory::of(&host)?.result(path);
    result.dns = context.config.dns.clone().unwrap_or_default();
    let records = context.state.records("host");
    let record = |rebind: Option<Rebind>| Record {
        sandbox: Sandbox::at(path, &host),
        rebind,
        names: context.names(),
    };
    match planned {
        Some(rebind) => {
            let record = record(Some(rebind.clone()));
            rebind.enter(&host, &records, &key, &record)?;
        }
        None => {
            // An ADD that comes twice must not forget what the first one did.
            let earlier: Option<Record> = records.read(&key);
            let rebind = earlier.and_then(|record| record.rebind);
            records.write(&key, &record(rebind))?;
        }
    }
    Ok(result)
}

impl Record {
    /// For GC without a list of valid attachments.
    pub(crate) fn may_be_alive(&self) -> bool {
        match &self.rebind {
            Some(rebind) => !rebind.is_gone(),
            None => !self.sandbox.is_gone(),
        }
    }
}
