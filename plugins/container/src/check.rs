//! CHECK: the path leads to the other's namespace, and the other is still there.

use pontoon_attach::Inventory;
use pontoon_conf::{Error, code};
use pontoon_ledger::ContainerRecord;
use pontoon_plugin::Context;

use crate::config::JoinTarget;
use crate::error::Difference;
use crate::files;
use crate::target::Target;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let wanted = JoinTarget::from_context(context)?;
    let target = match Target::find(context, &wanted) {
        Ok(target) => target,
        Err(error) if error.code == code::UNKNOWN_CONTAINER => {
            return Err(Difference::TargetGone { cause: error }.into());
        }
        Err(error) => return Err(error),
    };
    if !context.netns()?.same_as(&target.netns) {
        return Err(Difference::Namespace {
            path: context.invocation.required_netns()?.to_owned(),
            label: target.label(),
        }
        .into());
    }
    let record: Option<ContainerRecord> = context.state.read(&context.key()?)?;
    let lacking = record
        .as_ref()
        .and_then(|record| files::lacking(&record.files));
    if let Some(path) = lacking {
        return Err(Difference::Files {
            path: path.to_owned(),
            label: target.label(),
        }
        .into());
    }
    let inventory = Inventory::of(&target.netns)?;
    let previous = context.config.prev_result.as_ref();
    match previous.and_then(|previous| inventory.lacks(previous)) {
        Some(what) => Err(Difference::Inside { what }.into()),
        None => Ok(()),
    }
}
