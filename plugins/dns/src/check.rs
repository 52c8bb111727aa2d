//! CHECK and STATUS.

use pontoon_attach::{backends, rules};
use pontoon_conf::Error;
use pontoon_ledger::DnsRecord;
use pontoon_netfilter::Ruleset;
use pontoon_plugin::Context;

use crate::config::Config;
use crate::error::{Difference, StatusError};
use crate::{files, input, plan, resolver};

pub(crate) fn check(context: &Context) -> Result<(), Error> {
    Config::from_context(context)?;
    let key = context.key()?;
    let differs = |what: String| Difference {
        container: key.container.clone(),
        what,
    };
    let place = plan::place(&key, context.config.prev_result.as_ref())?;
    let entry: DnsRecord = context
        .state
        .read(&key)?
        .ok_or_else(|| differs("the record is gone".to_owned()))?;
    if entry.record.addresses != place.addresses {
        return Err(differs(format!(
            "the record says {:?}, the result {:?}",
            entry.record.addresses, place.addresses
        ))
        .into());
    }
    if let Some(kind) = entry.backend {
        let port = resolver::sync(context, &key)?
            .ok_or_else(|| differs("no resolver is running".to_owned()))?;
        let ruleset = Ruleset {
            resolver: Some(plan::redirect(&entry.record, port)),
            ..Ruleset::default()
        };
        let mut backend = rules::open(context, kind)?;
        let differences = backend.verify(&ruleset).map_err(rules::error);
        rules::close_in_detached_child(backend.into_sockets());
        if let Some(first) = differences?.into_iter().next() {
            return Err(differs(first).into());
        }
        if let Some(first) = input::differences(context, &key.network)?
            .into_iter()
            .next()
        {
            return Err(differs(first).into());
        }
    }
    match files::missing(context, &key.container) {
        Some(path) => Err(differs(format!("{} is gone", path.display())).into()),
        None => Ok(()),
    }
}

pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let config = Config::from_context(context)?;
    if !config.serve {
        return Ok(());
    }
    let name = context.config.name.as_ref();
    if context.state.records_of::<DnsRecord>().has_network(name) && !resolver::is_alive(context) {
        return Err(StatusError::NoResolver {
            network: name.to_owned(),
        }
        .into());
    }
    input::passes(context)?;
    resolver::program(context)
        .and_then(|program| resolver::can_ask(&program, &config))
        .map_err(Error::from)
        .and_then(|_| backends::follow(context, config.backend.as_deref()))
        .and_then(|kind| rules::open(context, kind))
        .map(|backend| rules::close_in_detached_child(backend.into_sockets()))
        .map_err(|cause| StatusError::NotServed { cause }.into())
}
