//! CHECK: the loopback interface is up, and nothing else is there.

use pontoon_attach::Inventory;
use pontoon_conf::{Error, code};
use pontoon_plugin::Context;

use crate::{add, plan};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let inventory = Inventory::of(context.netns()?)?;
    if let Some(link) = plan::intruder(inventory.links()) {
        return Err(Error::new(
            code::CHECK_FAILED,
            format!(
                "interface {} has appeared in the container, which is to have no network",
                link.name
            ),
        )
        .with_details(format!(
            "remove it (ip link delete {}), or attach the container to a network by ADD",
            link.name
        )));
    }
    if add::loopback(inventory.links())?.up {
        return Ok(());
    }
    Err(Error::new(code::CHECK_FAILED, "loopback interface is down")
        .with_details("an ADD brings it up"))
}
