//! ADD: the container's namespace path leads to the other's namespace.

use pontoon_attach::{Inventory, rebind};
use pontoon_conf::{AddResult, Error};
use pontoon_ledger::ContainerRecord;
use pontoon_plugin::Context;

use crate::config::JoinTarget;
use crate::files;
use crate::target::Target;
use crate::{plan, undo};

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    let wanted = JoinTarget::from_context(context)?;
    let key = context.key()?;
    let target = Target::find(context, &wanted)?;
    let planned = rebind::plan(context, &target.netns, &plan::instead(&target.label()))?;
    let path = context.invocation.required_netns()?;
    let mut result = Inventory::of(&target.netns)?.result(path);
    result.dns = target.dns.clone();
    let files = target.container.as_ref().map(|other| {
        let other = (other.as_str(), target.sandbox.path.as_str());
        files::plan(context, (&key.container, path), other)
    });
    let mut record = ContainerRecord {
        sandbox: target.sandbox,
        container: target.container,
        rebind: planned,
        dns: target.dns,
        names: context.names(),
        files: files.unwrap_or_default(),
    };
    match record.rebind.clone() {
        Some(rebind) => rebind::enter(&rebind, &target.netns, &context.state, &key, &record)?,
        None => {
            // An ADD that comes twice must not forget what the first one did.
            let earlier: Option<ContainerRecord> = context.state.read(&key)?;
            record.rebind = earlier.and_then(|record| record.rebind);
            context.state.write(&key, &record)?;
        }
    }
    if let Err(error) = files::share(&record.files) {
        undo::remove(context, &key, Some(&record))?;
        return Err(error.into());
    }
    Ok(result)
}
