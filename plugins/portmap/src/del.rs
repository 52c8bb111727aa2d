//! DEL and GC: rules, reservations and flows go, found by owner.

use pontoon_attach::{backends, reference, rules};
use pontoon_conf::Error;
use pontoon_ledger::{PortmapRecord, published};
use pontoon_netfilter::reference::ReferencePlugin;
use pontoon_netfilter::{BackendKind, Ruleset};
use pontoon_plugin::{Context, gc};

use crate::config::Config;
use crate::plan;
use crate::undo::remove;

pub(crate) fn del(context: &Context) -> Result<(), Error> {
    let key = context.key()?;
    if let Some(record) = context.state.read::<PortmapRecord>(&key)? {
        return remove(context, &key, &record);
    }
    published::remove(&context.state, &key)?;
    // Without a record, rules can only be the reference plugin's, or what a lost state directory has
    // left: in iptables both have the same names.
    let mut result = reference::forget(context, ReferencePlugin::Portmap);
    let Ok(config) = Config::from_context(context) else {
        return result;
    };
    let previous = context.config.prev_result.as_ref();
    if let Ok(Some(published)) = plan::published(&key, &config, previous) {
        let ruleset = Ruleset {
            published: Some(published),
            ..Ruleset::default()
        };
        result = result.and(rules::withdraw(context, BackendKind::Nftables, &ruleset));
    }
    result.and(backends::retire(context, "portmap"))
}

/// Removes the ports of attachments that are not valid any more. Without a list, only of those
/// whose namespace is gone.
pub(crate) fn gc(context: &Context) -> Result<(), Error> {
    let result = gc::collect(context, |key, record| match record {
        Some(record) => remove(context, key, record),
        None => published::remove(&context.state, key),
    });
    result.and(backends::retire(context, "portmap"))
}
