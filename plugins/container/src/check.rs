//! CHECK: the path leads to the other's namespace, and the other is still there.

use pontoon_attach::Inventory;
use pontoon_conf::{Error, code};
use pontoon_ledger::ContainerRecord;
use pontoon_plugin::Context;

use crate::config::Wanted;
use crate::files;
use crate::target::Target;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let failed =
        |msg: String, next: &str| Err(Error::new(code::CHECK_FAILED, msg).with_details(next));
    let wanted = Wanted::from_context(context)?;
    let target = match Target::find(context, &wanted) {
        Ok(target) => target,
        Err(error) if error.code == code::UNKNOWN_CONTAINER => {
            return failed(
                format!("the network that is shared has gone first: {}", error.msg),
                "DEL this container, and ADD it again when the other one is back",
            );
        }
        Err(error) => return Err(error),
    };
    let again = "DEL and ADD of the container make it so again";
    if !context.netns()?.same_as(&target.netns) {
        let path = context.invocation.required_netns()?;
        let label = target.label();
        return failed(
            format!("{path} does not lead to the network namespace of {label}"),
            again,
        );
    }
    let record: Option<ContainerRecord> = context.state.read(&context.key()?)?;
    let lacking = record
        .as_ref()
        .and_then(|record| files::lacking(&record.files));
    if let Some(path) = lacking {
        let label = target.label();
        return failed(
            format!("{} does not lead to the files of {label}", path.display()),
            again,
        );
    }
    let inventory = Inventory::of(&target.netns)?;
    let previous = context.config.prev_result.as_ref();
    match previous.and_then(|previous| inventory.lacks(previous)) {
        Some(words) => failed(format!("in the shared network namespace: {words}"), again),
        None => Ok(()),
    }
}
