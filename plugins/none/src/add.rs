//! ADD: the loopback interface goes up.

use pontoon_conf::{Attached, Error, KnownAs, code};
use pontoon_netlink::{Link, LinkChange, Netns, RouteSocket};
use pontoon_plugin::{Context, Inventory, Sandbox, Undo, fault, kernel_error};
use serde::{Deserialize, Serialize};

use crate::{config, plan};

/// What DEL needs to know of an attachment beside its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) sandbox: Sandbox,
    /// The loopback interface was up before ADD.
    pub(crate) was_up: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<KnownAs>,
}

enum Step {
    Record,
    Up,
}

pub(crate) fn add(context: &Context) -> Result<Attached, Error> {
    config::refuse_ports(context)?;
    let netns = context.netns()?;
    let inventory = Inventory::of(netns)?;
    if let Some(link) = plan::intruder(inventory.links()) {
        return Err(Error::new(
            code::EXISTS,
            format!(
                "interface {} is in the container, which is to have no network",
                link.name
            ),
        )
        .with_details("DEL the attachment that made it, or leave out the network of type none"));
    }
    let lo = loopback(inventory.links())?;
    let key = context.key()?;
    let records = context.state.records("none");
    let earlier: Option<Record> = records.read(&key);
    let record = Record {
        sandbox: Sandbox::of(context),
        was_up: earlier.map_or(lo.up, |record| record.was_up),
        names: context.names(),
    };
    let mut undo = Undo::default();
    let mut steps = || {
        undo.push(Step::Record);
        records.write(&key, &record)?;
        fault::point("none.recorded")?;
        undo.push(Step::Up);
        set(netns, true)?;
        fault::point("none.up")?;
        let netns_path = context.invocation.required_netns()?;
        Ok(Inventory::of(netns)?.result(netns_path))
    };
    match steps() {
        Ok(mut result) => {
            undo.commit();
            result.dns = context.config.dns.clone().unwrap_or_default();
            Ok(result)
        }
        Err(error) => Err(undo.unwind(error, |step| match step {
            Step::Record => records.remove(&key).map(drop),
            Step::Up if record.was_up => Ok(()),
            Step::Up => set(netns, false),
        })),
    }
}

pub(crate) fn loopback(links: &[Link]) -> Result<&Link, Error> {
    links
        .iter()
        .find(|link| link.name == "lo")
        .ok_or_else(|| Error::new(code::KERNEL, "the container has no interface lo"))
}

/// Sets the state of the loopback interface.
pub(crate) fn set(netns: &Netns, up: bool) -> Result<(), Error> {
    let failed = |error| kernel_error("cannot change the state of lo in the container", &error);
    let mut inside = RouteSocket::open_in(netns).map_err(failed)?;
    let Some(link) = inside.link_by_name("lo").map_err(failed)? else {
        return Ok(());
    };
    let change = LinkChange {
        up: Some(up),
        ..LinkChange::default()
    };
    inside.set_link(link.index, &change).map_err(failed)
}
