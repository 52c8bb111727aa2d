//! ADD: the loopback interface goes up.

use pontoon_attach::Inventory;
use pontoon_conf::{AddResult, Error};
use pontoon_ledger::NoneRecord;
use pontoon_plugin::{Context, Undo, fault};

use crate::error::AloneError;
use crate::{config, plan, undo};

enum Step {
    Record,
    Up,
}

pub(crate) fn add(context: &Context) -> Result<AddResult, Error> {
    config::refuse_ports(context)?;
    let netns = context.netns()?;
    let inventory = Inventory::of(netns)?;
    if let Some(link) = plan::intruder(inventory.links()) {
        return Err(AloneError::Intruder {
            interface: link.name.clone(),
        }
        .into());
    }
    let lo = plan::loopback(inventory.links())?;
    let key = context.key()?;
    let records = context.state.records_of::<NoneRecord>();
    let earlier: Option<NoneRecord> = context.state.read(&key)?;
    let record = NoneRecord {
        sandbox: context.sandbox(),
        was_up: earlier.map_or(lo.up, |record| record.was_up),
        names: context.names(),
    };
    let mut done = Undo::default();
    let mut steps = || {
        done.push(Step::Record);
        context.state.write(&key, &record)?;
        fault::point("none.recorded")?;
        done.push(Step::Up);
        undo::set(netns, true)?;
        fault::point("none.up")?;
        let netns_path = context.invocation.required_netns()?;
        Ok(Inventory::of(netns)?.result(netns_path))
    };
    match steps() {
        Ok(mut result) => {
            done.commit();
            result.dns = context.config.dns.clone().unwrap_or_default();
            Ok(result)
        }
        Err(error) => Err(done.unwind(error, |step| match step {
            Step::Record => records.remove(&key).map(drop),
            Step::Up if record.was_up => Ok(()),
            Step::Up => undo::set(netns, false),
        })),
    }
}
