//! CHECK: the loopback interface is up, and nothing else is there.

use pontoon_attach::Inventory;
use pontoon_conf::Error;
use pontoon_plugin::Context;

use crate::error::Difference;
use crate::plan;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let inventory = Inventory::of(context.netns()?)?;
    if let Some(link) = plan::intruder(inventory.links()) {
        return Err(Difference::Appeared {
            interface: link.name.clone(),
        }
        .into());
    }
    if plan::loopback(inventory.links())?.up {
        return Ok(());
    }
    Err(Difference::Down.into())
}
