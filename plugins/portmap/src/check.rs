//! CHECK and STATUS.

use pontoon_attach::{backends, reference, rules};
use pontoon_conf::Error;
use pontoon_ledger::PortmapRecord;
use pontoon_ledger::port_slots::Reservations;
use pontoon_netfilter::Ruleset;
use pontoon_plugin::Context;

use crate::config::Config;
use crate::error::{Differences, NotPublished};
use crate::plan;
use crate::share;

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    let key = context.key()?;
    let previous = context.required_prev_result()?;
    let Some(mut published) = plan::published(&key, &config, Some(previous))? else {
        return Ok(());
    };
    share::reachable(context, &mut published, previous)?;
    let record: Option<PortmapRecord> = context.state.read(&key)?;
    if let Some(record) = &record {
        // What another network of the container publishes is checked there.
        published.v4 = published.v4.filter(|_| record.waits.v4.is_none());
        published.v6 = published.v6.filter(|_| record.waits.v6.is_none());
        published.beside.clone_from(&record.published.beside);
    }
    let unknown = record.is_none();
    if !published.has_address()
        || unknown && reference::attached_by_another(context, "portmap", &key)?
    {
        return Ok(());
    }
    let backend = match record {
        Some(record) => record.backend,
        None => backends::follow(context, config.asked())?,
    };
    let mut backend = rules::open(context, backend)?;
    let ruleset = Ruleset {
        published: Some(published.clone()),
        ..Ruleset::default()
    };
    let differences = backend.verify(&ruleset).map_err(rules::error);
    rules::close_in_detached_child(backend.into_sockets());
    let mut differences = differences?;
    for port in Reservations::at(context.state.dir()).missing(&published) {
        differences.push(format!(
            "host port {}/{} is not reserved for this container",
            port.host_port, port.protocol
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Differences {
        container: key.container,
        differences,
    }
    .into())
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    backends::follow(context, config.asked())
        .and_then(|kind| rules::open(context, kind))
        .map(|backend| rules::close_in_detached_child(backend.into_sockets()))
        .map_err(|cause| NotPublished { cause }.into())
}
