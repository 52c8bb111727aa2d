//! ADD: the container's namespace path leads to the other's namespace.

use pontoon_conf::{Attached, Dns, Error, KnownAs};
use pontoon_plugin::{Context, Inventory, Rebind, Sandbox};
use serde::{Deserialize, Serialize};

use crate::config::Wanted;
use crate::files::{self, Shared};
use crate::target::Target;
use crate::{del, plan};

/// What DEL, CHECK and GC need to know of an attachment beside its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The other's namespace, where it was found.
    pub(crate) sandbox: Sandbox,
    /// Id of the other; `None` when it was named by path.
    pub(crate) container: Option<String>,
    /// `None`: the path led there before.
    pub(crate) rebind: Option<Rebind>,
    #[serde(default)]
    pub(crate) dns: Dns,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<KnownAs>,
    /// Ways to the other's files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<Shared>,
}

pub(crate) fn add(context: &Context) -> Result<Attached, Error> {
    let wanted = Wanted::from_context(context)?;
    let key = context.key()?;
    let target = Target::find(context, &wanted)?;
    let planned = Rebind::plan(context, &target.netns, &plan::instead(&target.label()))?;
    let path = context.invocation.required_netns()?;
    let mut result = Inventory::of(&target.netns)?.result(path);
    result.dns = target.dns.clone();
    let records = context.state.records("container");
    let files = target.container.as_ref().map(|other| {
        let other = (other.as_str(), target.sandbox.path.as_str());
        files::plan(context, (&key.container, path), other)
    });
    let mut record = Record {
        sandbox: target.sandbox,
        container: target.container,
        rebind: planned,
        dns: target.dns,
        names: context.names(),
        files: files.unwrap_or_default(),
    };
    match record.rebind.clone() {
        Some(rebind) => rebind.enter(&target.netns, &records, &key, &record)?,
        None => {
            // An ADD that comes twice must not forget what the first one did.
            let earlier: Option<Record> = records.read(&key);
            record.rebind = earlier.and_then(|record| record.rebind);
            records.write(&key, &record)?;
        }
    }
    if let Err(error) = files::share(&record.files) {
        del::remove(context, &key, Some(&record))?;
        return Err(error);
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
